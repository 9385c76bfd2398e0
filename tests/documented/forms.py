"""What the tests do with each documented command: they run it in its smallest form, or leave it out for a reason that is
given here.

A command's form is the first of `FORMS` whose pattern matches the whole command. A command without a form fails its test:
add a form here, which says how to run the command or why it cannot be run.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.documented.commands import ROOT


@dataclass(frozen=True, slots=True)
class Shell:
    """Run beside a running `carafe dev`, by this line of bash.

    In it `{0}` is the command itself and `{name}` a group of the pattern.

    `answers`: what its output must hold.
    """

    line: str = "{0}"
    answers: str = ""
    codes: Sequence[int] = (0,)


@dataclass(frozen=True, slots=True)
class Serves:
    """A process that runs until it is told to end, with these arguments of `carafe`; `says` shows that it is there."""

    arguments: str
    says: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """A target of the Makefile whose recipe is shown and not run, for this reason."""

    why: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A program of ours whose options are read and which then is not run, for this reason."""

    why: str


@dataclass(frozen=True, slots=True)
class RunBy:
    """Run by the test of this name in tests/test_smallest_rounds.py, which takes a test process of its own."""

    test: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """A variable of the shell, or a setting (whose name must be one)."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Not run here, for this reason. Files of ours that it names must be there."""

    why: str


Form = Shell | Serves | Recipe | Parsed | RunBy | Assignment | Elsewhere

WEBHOOK_WORKS = (
    """curl -s --fail -X PUT localhost:8080/sample-webhook/behaviour --json '{"mode": "ok"}' --output /dev/null"""
)
"""Whatever another command has told it."""

CLUSTER = Elsewhere("it acts on a cluster; tests/cluster and tests/deploy try the manifests")
DOCKER = Elsewhere("it needs Docker; tests/cluster builds the image and runs docker-compose.yml")

FORMS: Sequence[tuple[str, Form]] = (
    # The Makefile.
    (r"make dev", Shell("true")),  # the very process that the other commands are run beside
    (r"make dev ARGS=--reload", Recipe("tests/cli/test_reload.py runs it")),
    (r"make test", Recipe("it is what runs this")),
    (r"make servers", Recipe("tests/test_servers.py runs what it starts")),
    (r"\.venv/bin/python -m pytest (?P<arguments>.*)", Shell(f"cd {ROOT} && python -m pytest {{arguments}}", "1 passed")),
    (r"make bench( .*)?", RunBy("test_make_bench")),
    (r"make chaos( .*)?", RunBy("test_make_chaos")),
    (r"make soak( .*)?", RunBy("test_make_soak")),
    (r"make (image|deploy|test-cluster)( .*)?", Recipe("it needs Docker or a cluster")),
    (r"\.venv/bin/pre-commit install", Elsewhere("it changes .git; tests/test_pre_commit.py runs the hooks")),
    (r"git (tag|push) .*", Elsewhere("it makes a release")),
    (r"python -m benchmarks( .*)?", RunBy("test_make_bench")),
    (r"python -m chaos --broken .*", Parsed("tests/test_chaos.py runs a broken build")),
    (r"python -m chaos\.scenarios", Parsed("minutes; tests/test_nothing_spilled.py runs its scenarios")),
    (r"python -m chaos\.day", Parsed("ten minutes, whatever is asked for; tests/metrics tries its alerts")),
    # The command line.
    (r"carafe dev --servers", Elsewhere("it would find the servers of `make dev`; tests/cli/test_dev.py runs it")),
    (r"carafe serve", Serves("serve", r"serving")),
    (r"carafe serve --worker", Serves("serve --worker", r"worker starting")),
    (r"carafe bulk start discard --fingerprint \S+ (?P<rest>.*)", Shell("carafe bulk start discard --kind none {rest}")),
    (r"carafe bulk start cancel --kind report\.send --arg customer=42 --wait", Shell(answers="")),
    (
        r"carafe dashboard hash-password (?P<who>.*)",
        Shell("echo correct-horse | carafe dashboard hash-password {who}", r"\$argon2id"),
    ),
    (r"id=\$\(carafe enqueue .* && carafe jobs wait .*", Shell(f"{WEBHOOK_WORKS}; briefing={{briefing}}; {{0}}")),
    (
        r"carafe migrate --new .*",
        Elsewhere("it writes into the service's package; tests/cli/test_own_migrations.py runs it"),
    ),
    (r"carafe init shop", Shell(answers="To run it")),
    (r"carafe dev", Shell("true")),  # as `make dev`
    (r"(\.venv/bin/)?carafe .*", Shell()),
    # The API.
    (r"curl .*/api/v1/bulk-actions .*", Shell("{0}", "201 Created")),
    (r"curl .*/api/v1/jobs .*", Shell("{0}", "202 Accepted")),
    (r"curl .*sample-webhook/behaviour .*", Shell("{0}", '"mode"')),
    (r"curl .*/api/v1/briefings.*", Shell("{0}", '"id"')),
    (r"curl .*/greetings/Ada|pytest", Elsewhere("tests/second_application/test_second_application.py runs it")),
    (r"open (?P<url>http://localhost:\d+\S*)", Shell("curl -s --fail --output /dev/null {url}")),
    # Projects with Django and Flask.
    (r"python manage\.py .*", Elsewhere("tests/django/test_django.py runs it in examples/django")),
    (r"(gunicorn|uwsgi|flask --app shop) .*", Elsewhere("tests/wsgi/test_flask.py runs it with examples/flask")),
    # Servers and registries.
    (r'psql "\$DATABASE_URL" .*', Shell()),
    (r'psql "\$\(\.venv/bin/python -c .*', Shell()),
    (r'redis-cli -u "\$REDIS_URL" .*', Shell()),
    (r"pip install .*", Elsewhere("it asks a registry")),
    # Docker; what it runs of ours is run here.
    (
        r"docker run --rm (-it )?\S*carafe\S* dashboard hash-password (?P<who>.*)",
        Shell("echo correct-horse | carafe dashboard hash-password {who}"),
    ),
    (r"docker run --rm (-it )?\S*carafe\S* (?P<arguments>.*)", Shell("carafe {arguments}")),
    (r"docker compose exec web (?P<command>carafe .*)", Shell("{command}")),
    (r"docker (build|compose (up|down)).*", DOCKER),
    # A cluster.
    (r"alias carafe='kubectl .*'", CLUSTER),
    (r"kubectl .*", CLUSTER),
    (r"sed .* deploy/kustomize/canary\.yaml \| kubectl .*", CLUSTER),
    (r"kustomize edit set image .*", CLUSTER),
    (r"kind create cluster|tilt up", CLUSTER),
    (r"so='kubectl .*'|\$so .*", CLUSTER),
    (r"cd (deploy/kustomize/overlays/production|shop)", Elsewhere("it only says where the next one is run")),
    (r"[A-Za-z_]+=\S*( [a-z]+=\S*)*( [a-z0-9]+\)( keda=.*)?)?|redis=\$\(openssl .*", Assignment()),
)


def form_of(text: str) -> tuple[Form, "re.Match[str]"] | None:
    """The form of a command, and the match of its pattern; None for a command that nobody has thought of."""
    for pattern, form in FORMS:
        if match := re.fullmatch(pattern, text, re.DOTALL):
            return form, match
    return None
