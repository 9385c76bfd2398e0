"""Postgres and Valkey of the suite's own, which can crash, come back on the same port, and forget."""

import contextlib
import shutil
from pathlib import Path

import psutil

from carafe.dev.embedded import EmbeddedPostgres, EmbeddedValkey


class Postgres(EmbeddedPostgres):
    """A durable Postgres that keeps its port."""

    def restart_on_the_same_port(self) -> None:
        """Start, or start again after `stop` or `crash`; harmless when it runs."""
        self.start()
        self._wanted_port = self.port

    @property
    def kept_port(self) -> int:
        """Its port, also while it is down."""
        return self._wanted_port or 0

    def crash(self) -> None:
        """End as by a power cut: no checkpoint, recovery from the log at the next start."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in (*self._process.children(recursive=True), self._process):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
        self.stop()


class Valkey(EmbeddedValkey):
    """A Valkey with an append-only file that keeps its port."""

    def restart_on_the_same_port(self) -> None:
        """Start, or start again after `stop` or `crash`; harmless when it runs."""
        self.start()
        self._wanted_port = self.port

    @property
    def kept_port(self) -> int:
        """Its port, also while it is down."""
        return self._wanted_port or 0

    def crash(self) -> None:
        """End by SIGKILL: up to a second of writes is lost."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.kill()
        self.stop()

    @property
    def _append_only(self) -> Path:
        return self.data_dir / "appendonlydir"

    def remember(self) -> None:
        """Keep a copy of the append-only file as it is now; a file that vanishes meanwhile leaves the copy before."""
        fresh, copy = self.data_dir / "stale.new", self.data_dir / "stale"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            shutil.copytree(self._append_only, fresh)
        except OSError:
            return
        shutil.rmtree(copy, ignore_errors=True)
        fresh.rename(copy)

    def go_back(self) -> None:
        """Put the copy in place; the server must be stopped. Without a copy it starts empty."""
        shutil.rmtree(self._append_only, ignore_errors=True)
        copy = self.data_dir / "stale"
        if copy.exists():
            shutil.copytree(copy, self._append_only)
