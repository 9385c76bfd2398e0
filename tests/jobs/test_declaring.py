"""A mistake in a declaration stops the import with an error that says what is wrong, what was given, and what to write."""

import functools
import importlib
import types
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from carafe import (
    BulkInvalid,
    Change,
    Client,
    Context,
    InvalidOption,
    Job,
    JobFilter,
    NewJob,
    State,
    SyncContext,
    handler,
    hook,
    testing,
)
from carafe.jobs import definition
from carafe.jobs.definition import kinds
from carafe.jobs.handlers import handlers
from carafe.jobs.hooks import hooked_kinds, hooks_of
from tests.jobs.kinds import Greet


class Declared(Job, kind="tests.declared"):
    """What the handlers and hooks below are for."""


class Undeclared(Job):
    """Has no kind."""


# -- the class line


@pytest.mark.parametrize("kind", ["a", "0", "report.declared", "Report_Export-2", "x" * 200])
def test_kinds_of_the_alphabet_are_taken(kind: str) -> None:
    class Fine(Job, kind=kind):
        pass

    assert kinds()[kind] is Fine
    del definition._kinds[kind]


@pytest.mark.parametrize(
    "kind", ["", " ", "a b", "a/b", "<b>", "a:b", "é", ".a", "-a", "_a", "a\n", "a\0", "x" * 201, 7, b"a"]
)
def test_other_kinds_are_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"Wrong: kind must be 1 to 200 letters .* \(got .*kind=\"report.export\""):

        class Wrong(Job, kind=kind):
            pass


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [
        ("retries", "did you mean max_retries=?"),
        ("max_attempts", "did you mean max_retries=?"),
        ("time_out", "did you mean timeout=?"),
        ("knd", "did you mean kind=?"),
        ("colour", "a job's own data are fields in its body"),
    ],
)
def test_a_class_keyword_that_does_not_exist_is_refused_with_the_one_that_does(keyword: str, meant: str) -> None:
    with pytest.raises(TypeError) as raised:
        types.new_class("Wrong", (Job,), {"kind": "tests.wrong", keyword: 3})

    assert f"Wrong: a job has no option {keyword}=; {meant}" in str(raised.value)
    assert "options: kind, timeout, max_retries, version" in str(raised.value)
    assert "tests.wrong" not in kinds()


def test_pydantics_keywords_and_those_of_an_applications_own_parents_are_taken() -> None:
    class Team:
        """A parent with a keyword of its own, behind Job."""

        def __init_subclass__(cls, *, team: str = "", **others: Any) -> None:
            super().__init_subclass__(**others)
            cls.team_name = team

        team_name = ""

    class Owned(Job, Team, kind="tests.owned", team="billing", frozen=True):
        pass

    assert (Owned.team_name, Owned.model_config["frozen"]) == ("billing", True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": "5m"}, r"timeout.* must be .*seconds.*timedelta.*\(got '5m'\)"),
        ({"timeout": "60"}, r"timeout.* must be .*seconds.*\(got '60'\)"),
        ({"timeout": timedelta(0)}, r"timeout.* above 0"),
        ({"timeout": float("nan")}, r"timeout.* must be .*seconds.*\(got nan\)"),
        ({"max_retries": "3"}, r"max_retries.* must be .*from 0 to 1000 \(got '3'\)"),
        ({"max_retries": 1.5}, r"max_retries.* must be .*from 0 to 1000 \(got 1.5\)"),
        ({"version": None}, r"version must be a whole number from 1 .*\(got None\)"),
    ],
)
def test_options_of_another_type_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=f"Wrong: {words}"):

        class Wrong(Job, kind="tests.wrong", **options):
            pass


class Base(Job, timeout=5, max_retries=0):
    """An abstract parent with options."""


class Other(Job, timeout=7):
    """Another one."""


class Charge(Base, kind="tests.charge"):
    """Says nothing of its own."""


class Patient(Charge, kind="tests.patient", timeout=60):
    """Below a class with a kind."""


class Between(Charge, timeout=8):
    """An abstract parent below a class with a kind."""


class Low(Between, kind="tests.low", version=3):
    """Below that."""


class Mixed(Other, Base, kind="tests.mixed"):
    """Two parents: the first decides where both say something."""


class Usual(Base, kind="tests.usual", max_retries=None):
    """Wants the default again."""


@pytest.mark.parametrize(
    ("job", "timeout", "max_retries", "version"),
    [
        (Charge, 5.0, 0, 1),
        (Patient, 60.0, 0, 1),
        (Low, 8.0, 0, 3),
        (Mixed, 7.0, 0, 1),
        (Usual, 5.0, None, 1),
    ],
)
def test_options_are_inherited_and_the_nearest_class_decides(
    job: type[Job], timeout: float, max_retries: int | None, version: int
) -> None:
    options = job.job_options

    assert (options.timeout, options.max_retries, options.version) == (timeout, max_retries, version)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": "5m"}, "timeout: must be seconds"),
        ({"timeout": True}, "timeout: must be seconds"),
        ({"timeout": b"7"}, "timeout: must be seconds"),
        ({"max_retries": "x"}, "max_retries: must be from 0 to 1000"),
        ({"version": 2}, r"version belongs to a kind: .*\(got 2\)"),
    ],
)
def test_an_abstract_parents_options_are_checked_like_any(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=f"Wrong: {words}"):

        class Wrong(Job, **options):
            pass


def upgrade_without_classmethod(self: Any, arguments: dict[str, Any], version: int) -> dict[str, Any]:
    """Takes an object, which a worker does not have yet."""
    return arguments


async def upgrade_later(cls: type[Job], arguments: dict[str, Any], version: int) -> dict[str, Any]:
    """Would have to be awaited."""
    return arguments


@pytest.mark.parametrize(
    ("upgrade", "words"),
    [
        (upgrade_without_classmethod, "write it as @classmethod def upgrade"),
        (classmethod(lambda cls, arguments: arguments), "write it as @classmethod def upgrade"),
        (classmethod(upgrade_later), "is called without being awaited"),
    ],
)
def test_an_upgrade_that_no_worker_could_call_is_refused(upgrade: Any, words: str) -> None:
    for keywords in ({"kind": "tests.wrong"}, {}):
        with pytest.raises(TypeError, match=rf"Wrong\.upgrade: {words}"):
            types.new_class("Wrong", (Job,), keywords, lambda body: body.update(upgrade=upgrade, __annotations__={}))


# -- handlers


async def only_the_job(job: Declared) -> None:
    """Takes too little."""


async def three(job: Declared, ctx: Context, more: int) -> None:
    """Takes too much."""


async def yields(job: Declared, ctx: Context) -> AsyncIterator[int]:
    """Yields."""
    yield 1


def yields_too(job: Declared, ctx: SyncContext) -> Iterator[int]:
    """Yields in a thread."""
    yield 1


def plain_with_context(job: Declared, ctx: Context) -> None:
    """Gets a `SyncContext`."""


async def async_with_sync_context(job: Declared, ctx: "SyncContext") -> None:
    """Gets a `Context`."""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (only_the_job, r"only_the_job\(job: .*\) -> None is called with the job and its context"),
        (three, "is called with the job and its context"),
        (yields, "yields, and nobody would iterate it"),
        (yields_too, "yields, and nobody would iterate it"),
        (plain_with_context, "is a plain `def`, so it gets a SyncContext, but its second parameter is annotated as Context"),
        (
            async_with_sync_context,
            "is an `async def`, so it gets a Context, but its second parameter is annotated as SyncContext",
        ),
        (7, "must decorate a function"),
        (functools.partial(yields), "@handler"),
    ],
)
def test_what_could_not_run_as_a_handler_is_refused(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"@handler.*{words}|{words}"):
        handler(Declared)(function)

    assert "tests.declared" not in handlers()


@pytest.mark.parametrize("isolation", ["thread", "async", "", True])
def test_an_isolation_that_does_not_exist_is_refused(isolation: Any) -> None:
    with pytest.raises(TypeError, match=r'isolation is "process" or left out .*a plain `def` in a thread'):
        handler(Declared, isolation=isolation)


def test_a_handler_may_have_more_parameters_with_defaults() -> None:
    @handler(Declared)
    async def fine(job: Declared, ctx: Context, *others: Any, server: str = "localhost") -> None:
        pass

    assert handlers()["tests.declared"].function is fine
    del handlers()["tests.declared"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("put_on", [handler, lambda job: hook(job, State.DEAD)])
@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Undeclared, "Undeclared declares no kind"),
        (Declared(), r"takes a job class, not an instance of one: write .*Declared"),
        ("tests.declared", r"takes a job class first, as in @\w+\(Export\)"),
        (only_the_job, r"takes a job class first.*got the function only_the_job"),
        (dict, "got the class dict"),
    ],
)
def test_handlers_and_hooks_are_for_a_declared_class(put_on: Callable[[Any], Any], job: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        put_on(job)


# -- hooks


def plain(session: AsyncSession, change: Change) -> None:
    """A plain function."""


async def short(session: AsyncSession) -> None:
    """Takes too little."""


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (plain, r"tests\.jobs\.test_declaring\.plain is a plain `def`: write `async def`"),
        (lambda session, change: None, "is a plain `def`"),
        (short, "is called with the session and the change"),
        (yields, "yields"),
    ],
)
def test_what_could_not_run_as_a_hook_is_refused(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"@hook: .*{words}"):
        hook(Declared, State.DEAD)(function)

    assert hooks_of("tests.declared", State.DEAD) == []


def test_a_hook_may_be_a_partial_a_wrapped_function_or_an_object() -> None:
    async def follow(session: AsyncSession, change: Change, more: int = 0) -> None:
        pass

    @functools.wraps(follow)
    def wrapped(*arguments: Any) -> Any:
        return follow(*arguments)

    class Follower:
        async def __call__(self, session: AsyncSession, change: Change) -> None:
            pass

    found: list[Any] = [functools.partial(follow, more=1), wrapped, Follower()]
    for function in found:
        hook(Declared, State.CANCELLED)(function)
    assert hooks_of("tests.declared", State.CANCELLED) == found
    hooks_of("tests.declared", State.CANCELLED).clear()


@pytest.mark.parametrize("states", [("failed",), (State.DEAD, "Dead"), ([State.DEAD],)])
def test_a_state_that_does_not_exist_is_refused(states: Any) -> None:
    with pytest.raises(TypeError, match=r"@hook: states: .* is not a state; the states are scheduled, queued, running"):
        hook(Declared, *states)


def test_a_hook_names_a_state() -> None:
    with pytest.raises(TypeError, match=r"@hook: names no state: @hook\(Declared, State\.SUCCEEDED, State\.DEAD\)"):
        hook(Declared)


class ByText(Job, kind="tests.by_text"):
    """Has hooks on states that are given as text."""


@handler(ByText)
async def by_text(job: ByText, ctx: Context) -> None:
    """Does nothing."""


seen: list[str] = []


@hook(ByText, "running", "succeeded")
async def note(session: AsyncSession, change: Change) -> None:
    """Notes what it saw."""
    seen.append(change.state)


async def test_hooks_run_for_states_that_are_given_as_text(carafe_client: Client) -> None:
    seen.clear()
    async with testing.inline(carafe_client):
        await carafe_client.enqueue(ByText())

    assert seen == ["running", "succeeded"]
    assert "tests.by_text" in hooked_kinds(State.RUNNING)


# -- calls


async def test_what_is_no_job_is_refused(carafe_client: Client) -> None:
    client: Any = carafe_client
    with pytest.raises(InvalidOption, match=r"job: is the class Greet; a job is an object of it.*: Greet\(\.\.\.\)"):
        await client.enqueue(Greet)
    with pytest.raises(InvalidOption, match=r"must be an object of a class declared with Job \(got one of dict\)"):
        await client.enqueue({"name": "Ada"})
    with pytest.raises(BulkInvalid, match=r"\[1\] job: is the class Greet"):
        await client.enqueue_many([Greet(name="Ada"), Greet, NewJob(Greet)])  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="Undeclared declares no kind"):
        await client.enqueue(Undeclared())


async def test_what_is_no_id_is_refused(carafe_client: Client) -> None:
    client: Any = carafe_client
    calls = [client.get, client.wait, client.cancel, client.retry, client.run_now]
    for call in calls:
        for wrong in ("xyz", None, 7, Greet(name="Ada")):
            with pytest.raises(InvalidOption, match=r"job_id: must be a UUID, as `enqueue` answers it in `id`"):
                await call(wrong)


async def test_an_id_may_be_text_or_what_enqueue_answered(carafe_client: Client) -> None:
    accepted = await carafe_client.enqueue(Greet(name="Ada"))
    client: Any = carafe_client
    for given in (str(accepted.id), accepted, await client.get(accepted)):
        assert (await client.get(given)).id == accepted.id


@pytest.mark.parametrize("limit", [1.5e9, 2**70, "1G", 0, -1, True, 2**62 + 1])
def test_a_memory_limit_that_no_process_can_have_is_refused(limit: Any) -> None:
    with pytest.raises(TypeError, match=r"memory_limit is a whole number of bytes, from 1 to 2\*\*62"):
        handler(Declared, isolation="process", memory_limit=limit)
    with pytest.raises(TypeError, match=r'memory_limit needs isolation="process"'):
        handler(Declared, memory_limit=1)


def test_a_second_handler_is_refused_even_under_the_firsts_name() -> None:
    class Twice(Job, kind="tests.twice"):
        """Gets two handlers of one name."""

    def first() -> None:
        @handler(Twice)
        async def take(job: Twice, ctx: Context) -> None:
            """The first."""

        take_again(take)

    def take_again(first: Any) -> None:
        async def take(job: Twice, ctx: Context) -> None:
            """The second."""

        take.__qualname__ = first.__qualname__
        with pytest.raises(TypeError, match=r"'tests\.twice' already has the handler .*take \(line \d+\)"):
            handler(Twice)(take)

    first()
    first()  # the same lines once more, as when a module is run again


def test_a_reload_replaces_a_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reloaded(Job, kind="tests.reloaded"):
        """Its handler's module is edited and reloaded."""

    written = (
        "from carafe import handler\nfrom carafe.jobs.definition import job_class\n{}@handler(job_class('tests.reloaded'))\n"
    )
    written += "async def take(job, ctx):\n    return {!r}\n"
    module = tmp_path / "reloaded_handlers.py"
    module.write_text(written.format("", "first"))
    monkeypatch.syspath_prepend(tmp_path)
    imported = importlib.import_module("reloaded_handlers")

    module.write_text(written.format("# a new line\n", "the second one"))
    importlib.reload(imported)

    assert handlers()["tests.reloaded"].function is imported.take


async def test_a_delay_is_in_seconds(carafe_client: Client) -> None:
    client: Any = carafe_client
    with pytest.raises(InvalidOption, match=r"delay: must be .*, a number of seconds or a timedelta \(got '5m'"):
        await client.enqueue(Greet(name="Ada"), delay="5m")


async def test_states_of_a_search_may_be_text(carafe_client: Client) -> None:
    accepted = await carafe_client.enqueue(Greet(name="Ada"))

    page = await carafe_client.find(states=["queued", State.DEAD])
    assert [job.id for job in page.jobs] == [accepted.id]
    text: Any = ["queued", "dead"]
    assert JobFilter(states=text) == JobFilter(states=frozenset({State.QUEUED, State.DEAD}))
    with pytest.raises(InvalidOption, match=r"states: 'ded' is not a state"):
        JobFilter(states=frozenset({"ded"}))  # type: ignore[arg-type]
    for wrong in (["failed"], "failed", [7]):
        with pytest.raises(InvalidOption, match=r"states: .* is not a state; the states are scheduled, queued"):
            await carafe_client.find(states=wrong)  # type: ignore[arg-type]
