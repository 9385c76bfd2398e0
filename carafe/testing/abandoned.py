"""Ends the servers of test runs that were killed, and deletes their data.

Guarantees: ends only servers that this installation started for tests: by the same program, under the same account, with
exactly the options of such a server, in a folder that this account has made for a test run. Their owner must have ended:
while it lives, it holds the lock of the data folder.
Must never: end the servers of `carafe dev`, which the next one on their folder takes over; believe the command line of
another account's process, or open, make or change a file before the folder is known to be our own.
"""

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil

from carafe.dev.embedded import EmbeddedPostgres, EmbeddedServerError, EmbeddedValkey
from carafe.testing.temporary_folder import FOLDER


def end_abandoned() -> None:
    """Ends all of them. Takes some hundredths of a second where there are none."""
    folders = {server.data_dir.parent for server in _servers() if server.end_abandoned()}
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _servers() -> Iterator[EmbeddedPostgres | EmbeddedValkey]:
    """The servers for tests of this installation and account that run on this machine, of any owner."""
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            server = _of(command)
            if (
                server is not None
                and server.data_dir.parent.name.startswith(FOLDER)
                and server.runs_as(command)
                and server.is_run_by(process)
            ):
                yield server
        except (EmbeddedServerError, psutil.Error):
            continue  # the wheel is not installed here: it is another installation's; or the process has ended


def _of(command: list[str]) -> EmbeddedPostgres | EmbeddedValkey | None:
    for option, value in pairwise(command):
        if option == "-D":
            return EmbeddedPostgres(Path(value).parent, durable=False)
        if option == "--dir":
            return EmbeddedValkey(Path(value), persist=False)
    return None
