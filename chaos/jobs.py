"""The jobs of the chaos suite and their hooks (JOB_MODULES). Each shape has a kind; `tag` names the request that made it.

Kinds of `INNOCENT` never fail by themselves: whatever happens around them, they must not end dead.
Hooks write on the transaction's own connection, with its transaction id, so that a witness can tell whether an end and its
hook were one commit.
"""

from typing import TYPE_CHECKING

from carafe import Change, Job, State, hook

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class Tagged(Job):
    """A job that knows which request made it."""

    tag: str


class Plain(Tagged, kind="chaos.plain"):
    """The bulk of the load: a short coroutine, no hooks."""

    milliseconds: int = 5


class Threaded(Tagged, kind="chaos.thread"):
    """A plain function, no hooks."""

    milliseconds: int = 20


class Isolated(Tagged, kind="chaos.process"):
    """A child process of its own."""


class Long(Tagged, kind="chaos.long"):
    """Seconds of waiting."""

    seconds: float


class Failing(Tagged, kind="chaos.failing", max_retries=2):
    """Never succeeds."""


class Discarding(Tagged, kind="chaos.discarding"):
    """Dead at its first attempt, by its own word."""


class Retrying(Tagged, kind="chaos.retrying", max_retries=8):
    """Fails this many times, then succeeds."""

    failures: int


class Unique(Tagged, kind="chaos.unique"):
    """Enqueued under a few keys."""


class Snoozing(Tagged, kind="chaos.snoozing"):
    """Puts itself off now and then."""


class Effect(Tagged, kind="chaos.effect"):
    """Writes a row in the transaction that ends it; fails at times after having written."""

    fails_first: bool = False


class Ordered(Tagged, kind="chaos.ordered"):
    """Enqueued in the web application's own transaction, with a row of its own."""


class Crashing(Tagged, kind="chaos.crashing"):
    """Ends its process without a word, at its first start."""


class Poisoned(Tagged, kind="chaos.poisoned"):
    """Ends its process without a word, at each start."""


KINDS: tuple[type[Tagged], ...] = (
    *(Plain, Threaded, Isolated, Long, Failing, Discarding, Retrying, Unique, Snoozing, Effect, Ordered, Crashing, Poisoned),
)
INNOCENT = frozenset(kind.job_options.kind for kind in (Plain, Threaded, Isolated, Long, Unique, Snoozing, Effect, Ordered))
HOOKED = (Isolated, Long, Failing, Discarding, Retrying, Unique, Snoozing, Effect, Ordered, Crashing, Poisoned)
HOOKED_KINDS = frozenset(kind.job_options.kind for kind in HOOKED)


async def witness(session: "AsyncSession", change: Change) -> None:
    """Leave a row for the change, and the state in the job's status."""
    from sqlalchemy import text  # here, since each child process imports this module

    values = {"job_id": change.job_id, "state": change.state.value, "attempt": change.attempt}
    await session.execute(
        text("insert into chaos.hooked (job_id, state, attempt) values (:job_id, :state, :attempt)"), values
    )
    await session.execute(
        text(
            "insert into chaos.status as s (job_id, state) values (:job_id, :state)"
            " on conflict (job_id) do update set state = excluded.state, changes = s.changes + 1"
        ),
        values,
    )


for _kind in HOOKED:
    hook(_kind, State.SUCCEEDED, State.DEAD, State.CANCELLED, State.RETRYING, State.SCHEDULED)(witness)
for _kind in (Effect, Retrying, Long):
    hook(_kind, State.QUEUED, State.RUNNING)(witness)
