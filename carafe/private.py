"""Files and folders that no other account of this machine can read, for passwords and development data.

Guarantees: other accounts can never read such a file, not even while it is being written. A file that is written is either
complete or not there at all. If other accounts had access to a file or folder before, they lose it when this module uses the
file again.
"""

import contextlib
import os
import pwd
import secrets
import stat
from pathlib import Path
from typing import IO

CLOSED = 0o700
PASSED_BY_A_GROUP = 0o710


def close_folder(folder: Path, account: pwd.struct_passwd | None = None) -> None:
    """Makes `folder` when it is missing, and takes all other accounts' permissions on it away.

    The parameter `account` (root runs a server under that account) is an exception: this account may pass through the folder
    to files that it owns. It can neither list the folder nor write to it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=CLOSED)
    if account is not None:
        os.chown(folder, -1, account.pw_gid)
    folder.chmod(CLOSED if account is None else PASSED_BY_A_GROUP)


def write_closed(path: Path, text: str, *, beside: Path | None = None, account: pwd.struct_passwd | None = None) -> None:
    """Writes `text` to a file with mode 0600 that belongs to this account or to `account`. A file or link that is already at
    `path` is replaced, and no link is followed.

    The text is first written to a new file in `beside`, by default in the folder of `path`. Give `beside` when `path` lies
    in a folder that `account` may write to: a folder of the same file system that no other account may write to.
    """
    fresh = (beside or path.parent) / f".{path.name}.{secrets.token_hex(8)}"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            if account is not None:
                os.fchown(file.fileno(), account.pw_uid, account.pw_gid)
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def read_closed(path: Path) -> str | None:
    """The text that `write_closed` has written to `path`, or None when the file is missing or empty. Takes all other
    accounts' permissions on the file away."""
    try:
        with open(path) as file:
            os.fchmod(file.fileno(), 0o600)
            return file.read().strip() or None
    except FileNotFoundError:
        return None


def open_closed(path: Path, *, make: bool) -> IO[str]:
    """Opens a file of this account for reading and writing, at its beginning and without changing it. With `make`, a missing
    file is made, with mode 0600.

    Raises `OSError` when the file is missing (without `make`), is a link, has another name too, is not a regular file, or
    belongs to another account.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if make else 0), 0o600)
    file = os.fdopen(descriptor, "r+")
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
        file.close()
        raise PermissionError(f"{path} is not a regular file of this account alone: delete it")
    return file


def only_ours(folder: Path) -> bool:
    """Whether `folder` is a folder of this account (and not a link to one) that only this account and root can replace. No
    other account may be able to replace a folder above it either, or a link on the way."""
    try:
        steps = {step for place in (folder.absolute(), folder.resolve()) for step in (place, *place.parents)}
        own = os.lstat(folder)
        return stat.S_ISDIR(own.st_mode) and own.st_uid == os.geteuid() and all(map(_is_kept, steps))
    except OSError:
        return False


def _is_kept(step: Path) -> bool:
    """Whether others cannot replace what is in this folder. Those with the sticky bit, such as /tmp, keep each their own."""
    found = os.lstat(step)
    written_by_others = not stat.S_ISLNK(found.st_mode) and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (0, os.geteuid()) and (not written_by_others or bool(found.st_mode & stat.S_ISVTX))


def new_password() -> str:
    """A new random password of 256 bits. It consists of letters and digits, which need no quoting in a URL, a SQL statement
    or a configuration file."""
    return secrets.token_hex(32)
