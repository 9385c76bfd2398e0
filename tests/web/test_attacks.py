"""What a web process pays for attacks from outside: less than its own memory again, and ``/livez`` is answered meanwhile,
each answer with less than a second of the web process's work before it.

That the answer is there within a second *by the clock* is what ``python -m tests.web.attacks`` asserts, on a machine of its
own: here other tests run at the same time, and a second may pass while nobody gives the web process a processor. The bounds
of single connections are in `test_connections.py`.
"""

from collections.abc import AsyncIterator

import pytest

from tests.waiting import eventually
from tests.web.attacks import ATTACKS, Web, attacked, cost

PATIENT = ("connections_that_say_nothing", "heads_that_stay_half_sent", "bodies_that_dawdle")
"""These wait for a bound of ten seconds: at the same time."""

OTHERS = [name for name in ATTACKS if name not in PATIENT]

SAID: dict[str, object] = {
    "a_target_of_a_megabyte": "431",
    "headers_by_the_ten_thousand": {"431": 50},
    "connections_that_say_nothing": 500,
    "heads_that_stay_half_sent": {"408": 500},
    "more_connections_than_there_may_be": 0,
    "a_bulk_of_half_a_million": {"422": 6},
    "a_bulk_that_is_wrong_all_over": "422",
    "deep_nesting": {"413": 10, "400": 10},
    "websockets": {"200": 50},
}
"""What attacks see, where that is the same each time."""


@pytest.fixture(scope="module")
async def web(database_url: str, redis_url: str) -> AsyncIterator[Web]:
    """One web process for all attacks: what one leaves behind would be seen in the next."""
    async with attacked(database_url, redis_url) as web:
        yield web


@pytest.mark.process
@pytest.mark.parametrize("names", [PATIENT, *((name,) for name in OTHERS)], ids=lambda names: names[0])
async def test_an_attack_costs_little_and_nobody_waits(web: Web, names: tuple[str, ...]) -> None:
    await eventually(lambda: web.memory() < 1.9 * web.idle, within=30)
    found = await cost(web, *names)
    assert found.fault == ""
    assert found.peak < 2 * web.idle, f"{found.peak / web.idle:.2f} times idle"
    assert found.worked < 1.0
    assert {name: found.said[name] for name in names if name in SAID} == {name: SAID[name] for name in names if name in SAID}


@pytest.mark.process
async def test_a_flood_is_told_in_a_line(web: Web) -> None:
    told = [line for line in web.lines if "carafe.web.connections" in line]
    assert told
    assert len(told) < 40
    assert not [line for line in web.lines if "Traceback" in line]
