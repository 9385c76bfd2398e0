"""Large bodies: their jobs are counted before they are validated, few bodies are processed at a time, and only as many
faults are listed as people read."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from carafe.settings.settings import Settings
from carafe.web import large_bodies
from carafe.web.bulk_bodies import parse_bulk
from carafe.web.large_bodies import LARGE, ROOM, LargeBodies, TooBusy
from tests.waiting import eventually
from tests.web.conftest import Serve

BULK = "/api/v1/jobs/bulk"
JSON = {"Content-Type": "application/json"}


async def problem(http: httpx.AsyncClient, body: bytes, status: int) -> dict[str, Any]:
    answer = await http.post(BULK, content=body, headers=JSON)
    assert answer.status_code == status, answer.text[:500]
    assert len(answer.content) < 400_000
    found: dict[str, Any] = answer.json()
    assert len(found["detail"]) < 10_000
    return found


def jobs(*entries: bytes) -> bytes:
    return b'{"jobs": [' + b",".join(entries) + b"]}"


async def test_jobs_are_counted_before_they_are_validated(http: httpx.AsyncClient) -> None:
    for entry in (b"0", b"{}", b'"x"', b"[]"):
        found = await problem(http, jobs(*[entry] * 300_000), 422)
        assert "at most 10000 at once (got 300000)" in found["detail"]
        assert found["fault_count"] == 1


async def test_values_are_counted_before_they_are_made(serve: Serve) -> None:
    async with serve(bulk_limit=100) as http:
        found = await problem(http, b'{"jobs": [' + b"[" * 400_000, 413)
        assert "values" in found["detail"]


def test_commas_in_texts_are_no_values() -> None:
    entry = b'{"kind": "a", "args": {"text": "' + b"a,[{" * 1_000 + b'\\", \\\\"}}'
    assert len(parse_bulk(jobs(*[entry] * 300), Settings(bulk_limit=300)).jobs) == 300


@pytest.mark.parametrize("end", [b'"', b"\\", b'"' + b'\\"' * 1_000_000, b'"' + b"\\" * 2_000_001])
async def test_a_text_that_does_not_end_costs_one_look(http: httpx.AsyncClient, end: bytes) -> None:
    answer = await http.post(BULK, content=b'{"jobs": [' + b"0," * 1_000_000 + end, headers=JSON)
    assert answer.status_code in (400, 413)


async def test_many_faults_are_counted_and_few_listed(http: httpx.AsyncClient) -> None:
    entry = b"{" + b",".join(b'"x%d": 0' % number for number in range(60)) + b"}"
    found = await problem(http, jobs(*[entry] * 9_000), 422)
    assert len(found["faults"]) == 1_000
    assert found["fault_count"] == 9_000 * 60
    assert "more" in found["detail"]
    wrong = b'{"kind": "web.resize", "args": {"width": "wide"}}'
    found = await problem(http, jobs(*[wrong] * 9_000), 422)
    assert found["type"] == "/problems/bulk-invalid"
    assert len(found["faults"]) == 1_000
    assert found["fault_count"] == 9_000
    assert found["detail"].startswith("9,000 of 9,000 jobs are not valid")


async def test_faults_of_form_and_of_values_are_counted_together(http: httpx.AsyncClient) -> None:
    entry = b"{" + b",".join(b'"x%d": 0' % number for number in range(60)) + b"}"
    wrong = b'{"kind": "web.resize", "args": {"width": "wide"}}'
    found = await problem(http, jobs(*[entry, wrong] * 3_000), 422)
    assert found["type"] == "/problems/bulk-invalid"
    assert len(found["faults"]) == 1_000
    assert found["detail"].startswith("6,000 of 6,000 jobs are not valid")


async def test_names_of_any_length_are_shown_short(http: httpx.AsyncClient) -> None:
    name = b"n" * 100_000
    await problem(http, b'{"jobs": [{"kind": "web.resize", "args": {"width": 1, "' + name + b'": 1}}]}', 422)
    await problem(http, b'{"jobs": [{"kind": "web.resize"}], "' + name + b'": 1}', 422)


async def test_nesting_has_an_end(http: httpx.AsyncClient) -> None:
    deep = b'{"kind": "web.anything", "args": {"value": ' + b"[" * 1_000 + b"]" * 1_000 + b"}}"
    assert "recursion" in (await problem(http, jobs(deep), 400))["detail"]


async def test_a_number_that_is_not_finite_is_refused_in_a_bulk_too(http: httpx.AsyncClient) -> None:
    for number in (b"NaN", b"-Infinity", b"1e999"):
        entry = b'{"kind": "web.anything", "args": {"value": [' + number + b"]}}"
        assert "not finite" in (await problem(http, jobs(*[entry] * 2_000), 400))["detail"]


async def test_room_is_given_in_turn_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = LargeBodies()
    async with bodies.place() as small, bodies.place() as large:
        await small.announce(LARGE)  # takes nothing
        await large.announce(3 * ROOM)  # alone, it may be larger than the room
        assert await small.work(10, lambda: "done") == "done"
        async with bodies.place() as third:
            waiting = asyncio.create_task(third.announce(LARGE + 1))
            await asyncio.sleep(0)
            assert not waiting.done()
            large.leave()
            await waiting
            async with bodies.place() as fourth:
                with pytest.raises(TooBusy):
                    fourth.grow(2 * ROOM)  # it holds nothing, and another does
    monkeypatch.setattr(large_bodies, "PATIENCE", 0.01)
    async with bodies.place() as first, bodies.place() as second:
        await first.announce(ROOM)
        with pytest.raises(TooBusy):
            await second.announce(ROOM)
    async with bodies.place() as again:
        await again.announce(ROOM)


async def test_few_are_worked_on_at_once_and_the_others_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = LargeBodies()
    begun: list[int] = []
    go_on = asyncio.Event()

    async def one(number: int) -> None:
        async with bodies.place() as place:
            await place.work(LARGE + 1, lambda: begun.append(number))
            await go_on.wait()

    tasks = [asyncio.create_task(one(number)) for number in range(large_bodies.AT_ONCE + 3)]
    await eventually(lambda: len(begun) == large_bodies.AT_ONCE)
    monkeypatch.setattr(large_bodies, "WAITING", 3)
    async with bodies.place() as refused:
        with pytest.raises(TooBusy):
            await refused.work(LARGE + 1, lambda: None)
    go_on.set()
    await asyncio.gather(*tasks)
    assert sorted(begun) == list(range(large_bodies.AT_ONCE + 3))


async def test_only_large_ones_are_worked_on_off_the_loop() -> None:
    async with LargeBodies().place() as place:
        assert await place.work(LARGE, threading.get_ident) == threading.get_ident()
        assert await place.work(LARGE + 1, threading.get_ident) != threading.get_ident()


async def test_who_waits_for_room_is_in_nobodys_way_who_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = LargeBodies()
    monkeypatch.setattr(large_bodies, "AT_ONCE", 1)
    async with bodies.place() as first, bodies.place() as second, bodies.place() as third:
        await first.announce(ROOM)
        await second.work(LARGE + 1, lambda: None)
        waiting = asyncio.create_task(third.announce(ROOM))
        worked = asyncio.create_task(first.work(ROOM, lambda: "done"))
        await asyncio.sleep(0)
        second.leave()
        assert await worked == "done"
        first.leave()
        await waiting


async def test_one_that_grows_may_be_larger_than_the_room_while_it_is_alone() -> None:
    bodies = LargeBodies()
    async with bodies.place() as alone:
        for size in (LARGE + 1, ROOM, 3 * ROOM):
            alone.grow(size)
        async with bodies.place() as other:
            with pytest.raises(TooBusy):
                other.grow(LARGE + 1)


async def test_a_large_body_without_a_length_is_taken(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_bodies, "ROOM", 100_000)
    body = jobs(*[b'{"kind": "web.resize", "args": {"width": 1}}'] * 2_500)

    async def unannounced() -> AsyncIterator[bytes]:
        for place in range(0, len(body), 10_000):
            yield body[place : place + 10_000]

    async with serve() as http:
        assert (await http.post(BULK, content=unannounced(), headers=JSON)).status_code == 202


async def test_who_finds_no_room_is_told_when_to_come_again(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_bodies, "AT_ONCE", 0)
    monkeypatch.setattr(large_bodies, "PATIENCE", 0.01)
    async with serve() as http:
        answer = await http.post(
            BULK, content=jobs(*[b'{"kind": "web.resize", "args": {"width": 1}}'] * 2_000), headers=JSON
        )
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/too-busy")
        assert answer.headers["Retry-After"] == "2"
        assert (await http.post(BULK, json={"jobs": [{"kind": "web.resize", "args": {"width": 1}}]})).status_code == 202
