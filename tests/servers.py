"""`make servers`: a Postgres and a Valkey for tests, until Ctrl-C. A run of pytest in one process uses them and need not
start its own, as long as no other run does (`running`).

They are the embedded servers that a run would start, without durability; their data is gone with them.
"""

import fcntl
import json
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from carafe.dev.embedded import start_embedded
from carafe.private import close_folder, write_closed
from tests import folders

ROOT = Path(__file__).parent.parent
ANNOUNCED = Path(os.environ.get("TEST_SERVERS") or ROOT / ".carafe" / "test-servers.json")
"""Where they are. It has their passwords, and is closed to other accounts."""


@contextmanager
def running() -> Iterator[tuple[str, str] | None]:
    """The URLs of Postgres and Redis, for this run alone; None where none are, or another run has them."""
    try:
        file = open(ANNOUNCED)  # noqa: SIM115  held as long as the run
    except OSError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        urls = json.load(file)
        yield (urls["postgres"], urls["redis"]) if all(map(_answers, urls.values())) else None


def _answers(url: str) -> bool:
    """Those that announced them may have been killed."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    try:
        socket.create_connection((parts.hostname, parts.port or 0), timeout=1).close()
    except OSError:
        return False
    return True


def main() -> None:
    forget = folders.use_memory(ROOT)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="servers-", ignore_cleanup_errors=True) as folder,
            start_embedded(Path(folder), durable=False) as servers,
        ):
            close_folder(ANNOUNCED.parent)
            write_closed(ANNOUNCED, json.dumps({"postgres": servers.database_url, "redis": servers.redis_url}))
            try:
                print("Postgres and Valkey for tests run. Ctrl-C ends them.", flush=True)  # noqa: T201
                while True:
                    signal.pause()
            except KeyboardInterrupt:
                pass
            finally:
                ANNOUNCED.unlink(missing_ok=True)
    finally:
        forget()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
