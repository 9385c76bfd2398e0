"""Guessing a password gets slower and slower, but only for the person who guesses, and nobody is ever locked out."""

import asyncio
import re
from collections import Counter
from itertools import count
from typing import Any

import argon2
import pytest

from carafe.dashboard.security import passwords as passwords_module
from carafe.dashboard.security.failed_logins import (
    BUCKETS,
    FREE,
    LONGEST,
    SHARES,
    FailedLogins,
    bucket_of,
    network_of,
    share_of,
)
from carafe.dashboard.security.passwords import WAITING_OF_ONE, Passwords, hash_password
from carafe.dashboard.security.refusals import Refused
from carafe.settings.types import DashboardUser
from carafe.store.database import Database
from tests.dashboard.conftest import PASSWORDS, Open
from tests.waiting import eventually

PROXIED: dict[str, Any] = {"dashboard_proxy_networks": "127.0.0.0/8"}


async def rest(database: Database, seconds: float) -> None:
    """As if so much time had passed since everybody's last attempt."""
    async with database.connection() as connection:
        await connection.execute("update carafe.failed_logins set last_at = last_at - make_interval(secs => $1)", seconds)


@pytest.fixture(autouse=True)
async def forgotten(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("delete from carafe.failed_logins")


async def test_a_wrong_name_and_a_wrong_password_look_the_same(opened: Open) -> None:
    async with opened(**PROXIED) as served:
        answers = []
        for name, password in (("ana", "wrong"), ("nobody", "wrong"), ("nobody", PASSWORDS["ana"])):
            visitor = served.visitor()
            answer = await visitor.sign_in(name, password)
            text = re.sub(r'data-now="[^"]+"', "", answer.text)
            answers.append((answer.status_code, text.replace(visitor.token, "").replace(name, "NAME")))
        assert answers[0][0] == 401
        assert answers[0] == answers[1] == answers[2]
        assert PASSWORDS["ana"] not in answers[2][1]


async def test_a_name_that_nobody_has_costs_what_the_dearest_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    dear = argon2.PasswordHasher(time_cost=3, memory_cost=30_000, parallelism=1).hash("x" * 10)
    passwords = Passwords([DashboardUser("dear", "view", dear), DashboardUser("cheap", "view", hash_password("y" * 10))])
    verified: list[str] = []
    verify = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, hash: str, password: str) -> bool:  # noqa: A002
        verified.append(hash)
        return verify(self, hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    assert await passwords.check("dear", "x" * 10)
    assert await passwords.check("dear", "wrong") is None
    assert await passwords.check("nobody", "x" * 10) is None
    assert len(verified) == 3
    assert argon2.extract_parameters(verified[2]) == argon2.extract_parameters(verified[0])
    assert await passwords.check("nobody", "z" * 10_000) is None


async def test_each_failure_makes_the_next_wait_longer_up_to_half_a_minute(database: Database) -> None:
    failed = FailedLogins(database)
    for _ in range(FREE):
        assert await failed.attempt("ana", "1.2.3.4") == 0
    waits = []
    for _ in range(7):
        wait = await failed.attempt("ana", "1.2.3.4")
        waits.append(round(wait))
        await rest(database, wait)
        assert await failed.attempt("ana", "1.2.3.4") == 0
    assert waits == [1, 2, 4, 8, 16, LONGEST, LONGEST]


async def test_who_gets_in_has_their_own_count_forgotten_and_nobody_elses(database: Database) -> None:
    failed = FailedLogins(database)
    names = (f"user {number}" for number in count())
    theirs = next(name for name in names if bucket_of(name) == bucket_of("ana") and share_of(name) != share_of("ana"))
    assert await failed.attempt(theirs, "1.2.3.4") == 0
    for _ in range(FREE - 1):
        assert await failed.attempt("ana", "1.2.3.4") == 0
    # Somebody with a password of their own cannot try another's for ever by signing in between.
    await failed.succeeded(theirs, "1.2.3.4")
    assert await failed.attempt("ana", "1.2.3.4") == 0
    assert await failed.attempt("ana", "1.2.3.4") > 0
    await failed.succeeded(theirs, "1.2.3.4")
    assert await failed.attempt("ana", "1.2.3.4") > 0
    await failed.succeeded("ana", "1.2.3.4")
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from carafe.failed_logins") == 0


async def test_trying_too_early_is_told_how_long_and_makes_nothing_longer(database: Database) -> None:
    failed = FailedLogins(database)
    for _ in range(FREE + 3):
        await rest(database, LONGEST)
        await failed.attempt("ana", "1.2.3.4")
    first = await failed.attempt("ana", "1.2.3.4")
    for _ in range(20):
        assert await failed.attempt("ana", "1.2.3.4") <= first
    await rest(database, first)
    assert await failed.attempt("ana", "1.2.3.4") == 0


async def test_a_day_of_rest_forgets(database: Database) -> None:
    failed = FailedLogins(database)
    for _ in range(FREE + 3):
        await failed.attempt("ana", "1.2.3.4")
        await rest(database, LONGEST)
    await rest(database, 86_400)
    for _ in range(FREE):
        assert await failed.attempt("ana", "1.2.3.4") == 0


async def test_guessing_slows_down_the_guesser_and_not_the_owner(opened: Open, database: Database, acts: Any) -> None:
    async with opened(**PROXIED) as served:
        guesser = served.visitor(**{"x-forwarded-for": "203.0.113.9, 127.0.0.1"})
        for _ in range(FREE):
            assert (await guesser.sign_in("ana", "wrong")).status_code == 401
        refused = await guesser.sign_in("ana", PASSWORDS["ana"])
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "Wait 1 s" in refused.text
        # From elsewhere nobody waits, nor does another name.
        owner = served.visitor(**{"x-forwarded-for": "203.0.113.9, 198.51.100.1"})
        assert (await owner.sign_in("ana", PASSWORDS["ana"])).status_code == 303
        housemate = served.visitor(**guesser.headers)
        assert (await housemate.sign_in("vic", PASSWORDS["vic"])).status_code == 303
        # Never a lock-out: the right password gets in after the wait, and is then as good as new.
        await rest(database, LONGEST)
        assert (await guesser.sign_in("ana", PASSWORDS["ana"])).status_code == 303
        async with database.connection() as connection:
            assert await connection.fetchval("select count(*) from carafe.failed_logins") == 0


async def test_who_must_wait_costs_no_hash(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    async def check(_: Passwords, name: str, password: str) -> None:
        checked.append(name)

    monkeypatch.setattr(Passwords, "check", check)
    async with opened() as served:
        visitor = served.visitor()
        statuses = [(await visitor.sign_in("ana", "wrong")).status_code for _ in range(FREE + 3)]
    assert statuses.count(401) == len(checked)
    assert statuses[FREE] == 429


async def test_an_address_is_believed_of_the_proxy_alone(opened: Open, database: Database) -> None:
    async with opened(dashboard_proxy_networks="10.0.0.0/8") as served:
        for number in range(FREE):
            liar = served.visitor(**{"x-forwarded-for": f"203.0.113.{number}"})
            assert (await liar.sign_in("ana", "wrong")).status_code == 401
        assert (await served.visitor(**{"x-forwarded-for": "203.0.113.99"}).sign_in("ana", "wrong")).status_code == 429
        async with database.connection() as connection:
            rows = await connection.fetch("select name, address, count from carafe.failed_logins")
        assert {tuple(row) for row in rows} == {(row, "127.0.0.1", FREE) for row in (bucket_of("ana"), share_of("ana"))}


async def test_signing_in_is_written_down_with_its_address(opened: Open, database: Database) -> None:
    async with opened() as served:
        await served.visitor().sign_in("vic", PASSWORDS["vic"])
        async with database.connection() as connection:
            row = await connection.fetchrow(
                "select actor, via, action, target, details::text from carafe.audit where actor = 'vic' order by at desc"
            )
        assert row is not None
        assert tuple(row)[:4] == ("vic", "dashboard", "sign in", "vic")
        assert "127.0.0.1" in row["details"]


async def test_a_name_of_any_kind_is_only_a_name(opened: Open) -> None:
    async with opened() as served:
        for name in ("'; drop table x; --", "x" * 5_000, "<script>", "\0", "🦄", " ", ""):
            answer = await served.visitor().sign_in(name, "wrong")
            assert answer.status_code in (401, 422), name
            assert "<script>" not in answer.text.replace("<script src", "").replace("<script type", "")


async def test_old_counts_are_dropped_when_somebody_else_tries(database: Database) -> None:
    failed = FailedLogins(database)
    await failed.attempt("guesser", "203.0.113.9")
    await rest(database, 86_401)
    await failed.attempt("ana", "127.0.0.1")
    async with database.connection() as connection:
        names = await connection.fetchval("select array_agg(name) from carafe.failed_logins")
    assert set(names) == {bucket_of("ana"), share_of("ana")}


async def test_random_names_make_a_bounded_number_of_rows(database: Database) -> None:
    failed = FailedLogins(database)
    for number in range(BUCKETS * 6):
        await failed.attempt(f"random {number}", "203.0.113.9")
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from carafe.failed_logins") <= BUCKETS * (1 + SHARES)
        buckets = await connection.fetchval("select count(*) from carafe.failed_logins where name not like '%share%'")
        assert buckets <= BUCKETS


async def test_a_network_of_ipv6_counts_as_one() -> None:
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("::ffff:203.0.113.9") == network_of("203.0.113.9") == "203.0.113.9"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("") == ""


async def test_eighty_who_make_up_names_keep_nobody_out(opened: Open, database: Database) -> None:
    """From elsewhere the right password gets in, in the midst of them; from their own address, before long."""
    async with opened(**PROXIED) as served:
        answers: Counter[int] = Counter()

        async def guess(number: int) -> None:
            guesser = served.visitor(**{"x-forwarded-for": f"2001:db8:0:1::{number + 1:x}"})
            await guesser.open("/login")
            for attempt in range(3):
                answers[(await guesser.send("/login", name=f"random {number} {attempt}", password="wrong")).status_code] += 1

        async def gets_in(name: str, address: str) -> set[str]:
            """What was said until it did."""
            visitor = served.visitor(**{"x-forwarded-for": address})
            said: set[str] = set()
            while (answer := await visitor.sign_in(name, PASSWORDS[name])).status_code != 303:
                said |= set(re.findall("Too many [^.]*|Postgres cannot", answer.text))
                assert answer.status_code in (429, 503), answer.text
                await rest(database, LONGEST)
            return said

        async with asyncio.timeout(120):
            flood = asyncio.gather(*(guess(number) for number in range(80)))
            elsewhere, there = await asyncio.gather(gets_in("ana", "2001:db8:0:2::1"), gets_in("vic", "2001:db8:0:1::ffff"))
            await flood
        assert elsewhere <= {"Postgres cannot"}  # a machine that is too busy; nobody there is ever told to wait
        assert there <= {"Postgres cannot", "Too many tries", "Too many people are signing in at once from your IP address"}
        assert answers.total() == 240
        assert answers[429] > 80
        async with database.connection() as connection:
            assert await connection.fetchval("select count(*) from carafe.failed_logins") <= BUCKETS * (1 + SHARES)
            buckets = await connection.fetchval("select count(*) from carafe.failed_logins where name not like '%share%'")
        assert buckets <= BUCKETS


async def test_one_address_has_one_turn_at_a_time() -> None:
    passwords = Passwords([DashboardUser("ana", "view", hash_password(PASSWORDS["ana"]))])
    release, inside = asyncio.Event(), []

    async def hold(address: str) -> None:
        async with passwords.turn(address):
            inside.append(address)
            await release.wait()

    held = [asyncio.create_task(hold("203.0.113.9")) for _ in range(WAITING_OF_ONE)]
    await eventually(lambda: inside)
    with pytest.raises(Refused) as refused:
        async with passwords.turn("203.0.113.9"):
            raise AssertionError("unreachable")
    assert refused.value.status == 429
    async with passwords.turn("198.51.100.1"):
        assert await passwords.check("ana", PASSWORDS["ana"])
    assert inside == ["203.0.113.9"]
    release.set()
    await asyncio.gather(*held)
    async with passwords.turn("203.0.113.9"):
        assert await passwords.check("ana", "wrong") is None


async def test_so_many_addresses_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords_module, "WAITING", 2)
    passwords = Passwords([])
    async with passwords.turn("203.0.113.1"), passwords.turn("203.0.113.2"):
        with pytest.raises(Refused) as refused:
            async with passwords.turn("203.0.113.3"):
                raise AssertionError("unreachable")
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "2"})
    async with passwords.turn("203.0.113.3"):
        pass
