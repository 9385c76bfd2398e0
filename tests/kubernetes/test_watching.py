"""Pods are followed whatever the API server does, with one entry for each pod."""

from collections.abc import Iterator
from typing import Any

import pytest

from carafe.kubernetes.presence import Presence
from carafe.kubernetes.refusals import Expired, NotInstalled, NotPermitted
from carafe.kubernetes.watching import PodWatch
from tests.kubernetes.pods import ERROR, OOM, RUNNING, Scripted, pod
from tests.waiting import eventually


class Followed:
    """A watch, and all that was taken from it."""

    def __init__(self, source: Scripted) -> None:
        self.watch = PodWatch(source, self._count, pause=0.001)
        self.changes = 0
        self.known: dict[str, Presence] = {}
        self.whole: set[str] | None = None

    def _count(self) -> None:
        self.changes += 1

    def take(self) -> dict[str, Presence]:
        seen, whole = self.watch.take()
        self.known |= {presence.uid: presence for presence in seen}
        self.whole = whole if whole is not None else self.whole
        return self.known


@pytest.fixture
def source() -> Iterator[Scripted]:
    source = Scripted()
    yield source
    source.release()


@pytest.fixture
def followed(source: Scripted) -> Iterator[Followed]:
    followed = Followed(source)
    yield followed
    followed.watch.stop()


async def test_a_list_then_every_change(source: Scripted, followed: Followed) -> None:
    source.lists.append([pod(uid="a"), pod(uid="b")])
    source.tell(
        ("MODIFIED", pod(OOM, uid="a", version="5")),
        ("BOOKMARK", {"metadata": {"resourceVersion": "7"}}),
    )
    source.tell(("ADDED", pod(uid="c", version="8")), ("DELETED", pod(ERROR, uid="b", version="9")))
    followed.watch.keep(60)

    await eventually(lambda: followed.take().keys() == {"a", "b", "c"} and followed.known["b"].gone)
    await eventually(lambda: source.asked[:4] == ["list", "watch 1", "watch 7", "watch 9"])
    assert followed.known["a"].ended
    assert not followed.known["c"].ended
    assert followed.whole is not None
    assert followed.whole >= {"a", "b"}
    assert followed.changes >= 4
    await eventually(lambda: followed.watch.well)


async def test_a_version_that_is_too_old_is_a_new_list(source: Scripted, followed: Followed) -> None:
    source.lists.append([pod(uid="a")])
    source.lists.append([pod(uid="b")])
    source.tell(Expired("too old resource version"))
    followed.watch.keep(60)

    await eventually(lambda: source.asked == ["list", "watch 1", "list", "watch 1"])
    followed.take()
    # The first is not among those listed: it is gone, also when nobody has taken it meanwhile.
    assert (followed.known["a"].gone, followed.known["b"].gone) == (True, False)
    assert followed.whole == {"b"}


async def test_an_api_server_that_was_away_is_asked_from_where_we_were(source: Scripted, followed: Followed) -> None:
    source.lists.append(ConnectionRefusedError())
    source.lists.append([pod(uid="a")])
    source.tell(("MODIFIED", pod(OOM, uid="a", version="5")), ConnectionResetError())
    source.tell(("MODIFIED", pod(RUNNING, OOM, uid="a", version="6")))
    followed.watch.keep(60)

    await eventually(lambda: source.asked[-1] == "watch 6")
    assert source.asked == ["list", "list", "watch 1", "watch 5", "watch 6"]
    assert not followed.take()["a"].ended


async def test_it_is_off_without_a_client(source: Scripted, followed: Followed) -> None:
    source.lists.append(NotInstalled("kubernetes"))
    followed.watch.keep(60)
    await eventually(lambda: followed.watch.off)

    followed.watch.keep(60)

    assert (source.asked, followed.watch.well) == (["list"], False)


async def test_where_it_may_not_it_asks_again_from_the_list_on(source: Scripted, followed: Followed) -> None:
    source.lists.append(NotPermitted("Forbidden (403)"))
    source.lists.append([pod(uid="a")])
    # An API server that has just started refuses everybody.
    source.tell(("MODIFIED", pod(OOM, uid="a", version="5")), ConnectionResetError())
    source.tell(NotPermitted("Forbidden (403)"))
    source.lists.append([pod(uid="b")])
    followed.watch.keep(60)

    await eventually(lambda: "b" in followed.take())
    assert source.asked[:5] == ["list", "list", "watch 1", "watch 5", "list"]
    await eventually(lambda: followed.watch.well)


async def test_however_much_happens_it_is_one_entry_a_pod(source: Scripted, followed: Followed) -> None:
    events: list[Any] = [("MODIFIED", pod(uid=f"{n % 3}", version=f"{n}", restarts=n)) for n in range(1000)]
    source.tell(*events)
    followed.watch.keep(60)

    await eventually(lambda: followed.changes > 1000)
    seen, _ = followed.watch.take()
    assert {presence.uid: presence.restarts for presence in seen} == {"0": 999, "1": 997, "2": 998}


async def test_nobody_looks_when_nobody_asks(source: Scripted, followed: Followed) -> None:
    followed.watch.keep(60)
    await eventually(lambda: source.asked == ["list", "watch 1"])

    followed.watch.stop()
    source.tell(("ADDED", pod(uid="a", version="5")))
    await eventually(lambda: not followed.watch.well)
    # Anyone who asks again begins with a list, since much may have happened meanwhile.
    source.lists.append([pod(uid="b")])
    followed.watch.keep(60)
    await eventually(lambda: "b" in followed.take())
    assert source.asked[:3] == ["list", "watch 1", "list"]
