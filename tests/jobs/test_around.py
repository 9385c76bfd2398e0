"""Something can be put around each attempt of every handler, whenever and however the handler was registered."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from carafe import Context, Job, State, SyncClient, SyncContext, handler, testing
from carafe.jobs import handlers
from carafe.jobs.handlers import around

seen: list[str] = []


def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
    """Notes the names of the functions that are called."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*arguments: Any) -> Any:
            seen.append(function.__name__)
            return await function(*arguments)

        return run_async

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        seen.append(function.__name__)
        return function(*arguments)

    return run


class Early(Job, kind="tests.around_early"):
    """Registered before."""


class Late(Job, kind="tests.around_late"):
    """Registered afterwards."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of this test's own."""
    monkeypatch.setattr(handlers, "_handlers", {})
    monkeypatch.setattr(handlers, "_wraps", [])
    seen.clear()


def test_handlers_run_within_what_is_put_around_them(registry: None, carafe_sync_client: SyncClient) -> None:
    @handler(Early)
    def early(job: Early, ctx: SyncContext) -> None:
        """In a thread."""

    around(wrap)
    around(wrap)

    @handler(Late)
    async def late(job: Late, ctx: Context) -> None:
        """On the loop."""

    with testing.inline(carafe_sync_client):
        ended = [carafe_sync_client.get(carafe_sync_client.enqueue(job).id).state for job in (Early(), Late())]

    assert ended == [State.SUCCEEDED, State.SUCCEEDED]
    assert seen == ["early", "late"]
    early(Early(), None)  # type: ignore[arg-type]
    assert seen == ["early", "late"]  # a test that calls its function calls that alone
