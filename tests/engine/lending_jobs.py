"""Kinds whose hooks and handlers treat borrowed transactions and connections as careless code does (JOB_MODULES)."""

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from carafe import Change, Job, State, hook
from tests.waiting import eventually

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class Lent(Job):
    """`what` is done to the session, in the state that `when` names or in the handler."""

    what: str = ""
    when: str = ""


class Hooked(Lent, kind="lending.hooked", timeout=20):
    """Its hook does it."""


class Partial(Lent, kind="lending.partial", timeout=20):
    """Its hook is an object without a name of its own."""


class Handled(Lent, kind="lending.handled", timeout=20):
    """Its handler does it."""


class Looks(Job, kind="lending.looks", timeout=20):
    """Uses the connections as every handler does, and returns what it sees on them."""


kept: list[Any] = []


async def misuse(what: str, session: "AsyncSession") -> None:
    """Everything that has gone wrong."""
    from sqlalchemy import event, text

    match what:
        case "swallow":
            try:
                await session.execute(text("select 1 / 0"))
            except Exception:
                pass  # "it may fail"
        case "swallow within a savepoint":
            try:
                async with session.begin_nested():
                    await session.execute(text("select 1 / 0"))
            except Exception:
                pass
        case "swallow a flush":
            session.add(_row_of_no_table())
            try:
                await session.flush()
            except Exception:
                pass
        case "swallow and go on":
            try:
                await session.execute(text("select 1 / 0"))
            except Exception:
                pass
            session.add(_row_of_no_table())
        case "break a deferred constraint":
            await session.execute(text("insert into children values (7)"))
        case "commit":
            await session.commit()
        case "roll back":
            await session.rollback()
        case "close":
            await session.close()
        case "roll back by a statement":
            await session.execute(text("rollback"))
        case "leave a statement":
            connection = await session.connection()
            begun = asyncio.Event()
            event.listen(connection.sync_connection, "before_cursor_execute", lambda *_: begun.set())
            kept.append(asyncio.create_task(session.execute(text("select pg_sleep(0.5)"))))
            await begun.wait()
        case "keep":
            kept.append(asyncio.create_task(_use_later(session)))
        case "role":
            await session.execute(text("set role pg_monitor"))
        case "temporary table":
            await session.execute(text("create temporary table effects (x int)"))
        case "codec":
            raw: Any = (await (await session.connection()).get_raw_connection()).driver_connection
            await raw.set_type_codec("uuid", encoder=_refuse, decoder=_refuse, schema="pg_catalog")
        case "fail":
            raise LookupError("as told")


@functools.cache
def _class_of_no_table() -> Any:
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        pass

    class Nowhere(Base):
        __tablename__ = "nowhere"
        id: Mapped[int] = mapped_column(primary_key=True)

    return Nowhere


def _row_of_no_table() -> Any:
    return _class_of_no_table()(id=1)


async def _use_later(session: "AsyncSession") -> None:
    from sqlalchemy import text

    lent: Any = session.sync_session
    await eventually(lambda: not lent.lent)
    await session.execute(text("select 'kept'"))
    await asyncio.Event().wait()


def _refuse(value: Any) -> Any:
    raise ValueError("nobody else's codec")


async def does(session: "AsyncSession", change: Change) -> None:
    if change.arguments["when"] == change.state.value:
        await misuse(change.arguments["what"], session)


hook(Hooked, State.RUNNING, State.SUCCEEDED, State.QUEUED)(does)
hook(Partial, State.RUNNING, State.SUCCEEDED)(functools.partial(does))
