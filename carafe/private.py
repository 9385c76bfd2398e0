"""Files and folders that no other account of this machine may read: where passwords and data of development are kept.

Guarantees: a file is never readable by others, not even while it is written, and is there whole or not at all; what was
open to others before is closed when it is used again.
"""

import contextlib
import os
import pwd
import secrets
from pathlib import Path

CLOSED = 0o700
PASSED_BY_A_GROUP = 0o710


def close_folder(folder: Path, account: pwd.struct_passwd | None = None) -> None:
    """Makes `folder` when it is missing, and closes it to everybody else.

    `account`, which root runs a server as, may pass through to what belongs to it; it can neither list nor write.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=CLOSED)
    if account is not None:
        os.chown(folder, -1, account.pw_gid)
    folder.chmod(CLOSED if account is None else PASSED_BY_A_GROUP)


def write_closed(path: Path, text: str, *, beside: Path | None = None, account: pwd.struct_passwd | None = None) -> None:
    """Puts a file with mode 0600 in place, for this account or `account`; one that is there is replaced, not followed.

    `beside` is a folder of the same file system that nobody else may write to, where `path` is in one of `account`'s.
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
    """What `write_closed` has put there, or None when there is nothing; other accounts' permissions are taken away."""
    try:
        with open(path) as file:
            os.fchmod(file.fileno(), 0o600)
            return file.read().strip() or None
    except FileNotFoundError:
        return None


def new_password() -> str:
    """256 random bits, as letters and digits that need no quoting in a URL, a statement or a configuration file."""
    return secrets.token_hex(32)
