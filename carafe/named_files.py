"""Reads files that are looked for by name in the current folder or a data folder, where anybody may have put anything.

Guarantees: only regular files are read, and at most `LARGEST` bytes. What cannot be read is an `OSError` or a `ValueError`
with a text for the reader; nothing waits for the writer of a pipe or reads a device without an end.
"""

import os
import stat
from pathlib import Path
from typing import IO

LARGEST = 1 << 20
"""Bytes that such a file may have."""


def open_named(path: Path) -> IO[bytes]:
    """Opens a regular file for reading. Raises `OSError` when it is missing or may not be read, and `ValueError` when it is
    something else than a file of at most 1 MiB."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise ValueError("it must be a regular file of at most 1 MiB")


def read_named(path: Path) -> str:
    """The text of such a file, in UTF-8. Raises like `open_named`; `UnicodeDecodeError` is a `ValueError` too."""
    with open_named(path) as file:
        return file.read(LARGEST).decode()
