"""``python -m chaos --seed S --minutes M [--broken BUILD]``. Exit code 0: every invariant holds; 1: one is broken."""

import argparse
import asyncio
import logging
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import structlog

from chaos.broken.builds import BUILDS
from chaos.run import RATE, SETTLE, run, say


def _log_to(path: Path) -> None:
    """What the clients in this process have to say of the faults would drown the report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "w")  # noqa: SIM115  as long as the process
    logging.basicConfig(stream=file, level=logging.WARNING)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file))


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="repeat the faults of an earlier run")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--broken", choices=sorted(BUILDS), help="run a build that breaks a promise: must end with 1")
    parser.add_argument("--faults-of", choices=sorted(BUILDS), help="on the real build, the faults chosen for a broken one")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--webs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=RATE, help="jobs a second")
    parser.add_argument("--settle", type=float, default=SETTLE, help="seconds in which everything must end afterwards")
    parser.add_argument("--folder", type=Path, default=None, help="for logs and evidence; kept")
    parser.add_argument("--keep", action="store_true", help="keep the servers' data too")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="carafe-chaos-"))).absolute()
    _log_to(folder / "driver.log")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when a shell has started this in the background
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        result = asyncio.run(
            run(
                folder,
                seed=seed,
                seconds=options.minutes * 60,
                broken=options.broken,
                faults_of=options.faults_of,
                workers=options.workers,
                webs=options.webs,
                rate=options.rate,
                settle=options.settle,
                keep=options.keep,
            )
        )
    except KeyboardInterrupt:
        say("interrupted; every process has been ended")
        return 130
    say(result.text)
    if result.broken:
        say(f"seed {seed}; logs, ledger, journal and broken.txt in {folder}")
        return 1
    say(f"seed {seed}: nothing spilled")
    if options.folder is None and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
