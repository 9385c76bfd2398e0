"""`config`, `token`, `doctor` and `version`: what this installation is, and whether it is well."""

from typing import get_args

from carafe.cli.exits import Exit, Failure, say
from carafe.cli.output import clean, show_json, show_table
from carafe.setting_types import Role
from carafe.settings import hash_token, load_settings


def show_config(*, as_json: bool) -> Exit:
    """Prints every setting with its source, redacted."""
    effective = load_settings().effective()
    if as_json:
        show_json([{"name": name, "value": value, "source": source} for name, value, source in effective])
    else:
        show_table(("SETTING", "SOURCE", "VALUE"), [(name, source, value) for name, value, source in effective])
    return Exit.OK


def make_token(name: str, role: Role, *, as_json: bool) -> Exit:
    """Prints a new token and the entry of API_TOKENS that lets it in. Only the entry is ever stored."""
    import secrets

    assert role in get_args(Role)
    if not name.strip() or not name.isprintable() or len(name) > 100 or set(name) & set(":,[]\"'"):
        raise Failure("NAME is 1 to 100 printable characters without : , [ ] or quotes", Exit.USAGE)
    token = secrets.token_urlsafe(32)
    entry = f"{name.strip()}:{role}:{hash_token(token)}"
    if as_json:
        show_json({"name": name.strip(), "role": role, "token": token, "entry": entry})
        return Exit.OK
    print(f"token  {token}\nentry  {entry}")
    say("Give the token to its user, who sends it as `Authorization: Bearer …`; it is not shown again.")
    say("Add the entry to API_TOKENS (entries are separated by commas).")
    return Exit.OK


def show_findings(*, as_json: bool, worker: bool = False) -> Exit:
    """Prints what `carafe.doctor` found, for a `worker` alone or for everything; FAILED when something is broken."""
    from carafe.doctor import Level, examine

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
        say(f"{broken} of {len(findings)} findings must be mended")
    return Exit.FAILED if broken else Exit.OK


def show_version(*, as_json: bool) -> Exit:
    """Prints the version."""
    from carafe import __version__

    if as_json:
        show_json({"version": __version__})
    else:
        print(__version__)
    return Exit.OK
