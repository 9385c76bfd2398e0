"""The commands `config`, `token`, `dashboard`, `doctor` and `version`: show and check this installation, and make entries
for its settings."""

from typing import get_args

from carafe.cli.exits import Exit, Failure, say
from carafe.cli.output import clean, show_json, show_table
from carafe.settings.settings import hash_token, load_settings, load_settings_class, settings_markdown
from carafe.settings.types import Role


def show_config(*, as_json: bool) -> Exit:
    """Prints every setting with its value, secrets redacted, and where the value comes from."""
    effective = load_settings().effective()
    if as_json:
        show_json([{"name": name, "value": value, "source": source} for name, value, source in effective])
    else:
        show_table(("SETTING", "SOURCE", "VALUE"), [(name, source, value) for name, value, source in effective])
    return Exit.OK


def show_settings_table() -> Exit:
    """Prints the documentation of every setting as Markdown, with those of the application's class. Their values need not be
    valid: who has to correct them reads it."""
    print(settings_markdown(load_settings_class()), end="")
    return Exit.OK


def make_token(name: str, role: Role, *, as_json: bool) -> Exit:
    """Prints a new API token, and the entry to add to API_TOKENS for it. The token itself is stored nowhere."""
    import secrets

    assert role in get_args(Role)
    _check_name(name)
    token = secrets.token_urlsafe(32)
    entry = f"{name.strip()}:{role}:{hash_token(token)}"
    if as_json:
        show_json({"name": name.strip(), "role": role, "token": token, "entry": entry})
        return Exit.OK
    print(f"token  {token}\nentry  {entry}")
    say("Give the token to its user, who sends it as `Authorization: Bearer …`. The token is not shown again.")
    say("Add the entry to API_TOKENS (entries are separated by commas).")
    return Exit.OK


def make_dashboard_user(name: str, role: Role, *, as_json: bool) -> Exit:
    """Prints a user's entry for DASHBOARD_USERS. Asks for the password twice, or reads it from standard input."""
    assert role in get_args(Role)
    _check_name(name)
    password = _password()
    from carafe.dashboard.security.passwords import MAX_PASSWORD, hash_password

    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise Failure(f"the password must have {MIN_PASSWORD} to {MAX_PASSWORD:,} characters", Exit.USAGE)
    entry = f"{name.strip()}:{role}:{hash_password(password)}"
    if as_json:
        show_json({"name": name.strip(), "role": role, "entry": entry})
        return Exit.OK
    print(entry)
    say("Add the entry to DASHBOARD_USERS (entries are separated by commas). Use single quotes, because it has $ signs.")
    return Exit.OK


def make_secret_key(*, as_json: bool) -> Exit:
    """Prints a new key for DASHBOARD_SECRET_KEYS."""
    import secrets

    key = secrets.token_urlsafe(48)
    if as_json:
        show_json({"key": key})
        return Exit.OK
    print(key)
    say("Put this key first in DASHBOARD_SECRET_KEYS, in all replicas alike; remove an old key 12 hours later.")
    return Exit.OK


MIN_PASSWORD = 8
"""The minimum number of characters of a password (NIST SP 800-63B)."""


def _check_name(name: str) -> None:
    if not name.strip() or not name.isprintable() or len(name) > 100 or set(name) & set(":,[]\"'$"):
        raise Failure("NAME is 1 to 100 printable characters without : , [ ] $ or quotes", Exit.USAGE)


def _password() -> str:
    import getpass
    import sys

    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise Failure("the two passwords are not the same", Exit.USAGE)
    return password


def show_findings(*, as_json: bool, worker: bool = False) -> Exit:
    """Prints the findings of `carafe.cli.doctor`. If `worker` is true, prints only those that matter to a worker.

    Returns FAILED when something is broken, else OK.
    """
    from carafe.cli.doctor import Level, examine

    findings = examine(worker=worker)
    if as_json:
        show_json(findings)
    else:
        for finding in findings:
            print(f"{finding.level:<8} {finding.subject:<9} {clean(finding.text)}")
            if finding.advice:
                print(f"{'':<8} {'':<9} → {clean(finding.advice)}")
    broken = sum(finding.level is Level.BROKEN for finding in findings)
    if broken and not as_json:
        say(f"{broken} of {len(findings)} findings must be fixed")
    return Exit.FAILED if broken else Exit.OK


def show_version(*, as_json: bool) -> Exit:
    """Prints Carafe's version."""
    from carafe import __version__

    if as_json:
        show_json({"version": __version__})
    else:
        print(__version__)
    return Exit.OK
