"""A pod's deletion cost is written when it changes, not more often than allowed, and harms nobody when it cannot be."""

import pytest

from carafe.kubernetes.deletion_cost import AT_LEISURE, EVERY, DeletionCost
from carafe.kubernetes.pod import Pod
from carafe.kubernetes.refusals import NotInstalled, NotPermitted, refused_pause
from tests.waiting import eventually

POD = Pod("carafe-worker-1", "carafe", "u-1", "kit")


class Patches:
    """What was patched; fails as long as there are errors to fail with."""

    def __init__(self, *errors: Exception) -> None:
        self.written: list[int] = []
        self.errors = list(errors)
        self.tried = 0

    def __call__(self, cost: int) -> None:
        self.tried += 1
        if self.errors:
            raise self.errors.pop(0)
        self.written.append(cost)


def of_a_pod(patches: Patches, monkeypatch: pytest.MonkeyPatch, *, every: float = 0.0, leisure: float = 0.0) -> DeletionCost:
    """One that waits for nothing, unless told."""
    monkeypatch.setattr("carafe.kubernetes.deletion_cost.EVERY", every)
    monkeypatch.setattr("carafe.kubernetes.deletion_cost.AT_LEISURE", leisure)
    return DeletionCost(POD, patch=patches)


async def test_each_change_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    patches = Patches()
    cost = of_a_pod(patches, monkeypatch)

    for wanted in (0, 100, 0):
        for _ in range(5):
            cost.want(wanted)
        await eventually(lambda: cost.wait(0) is None)

    assert patches.written == [0, 100, 0]


async def test_it_is_tried_again_while_the_api_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    patches = Patches(OSError("refused"), TimeoutError())
    cost = of_a_pod(patches, monkeypatch)

    cost.want(100)

    await eventually(lambda: patches.written == [100])
    assert patches.tried == 3


async def test_it_is_off_without_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    patches = Patches(NotInstalled("kubernetes"))
    cost = of_a_pod(patches, monkeypatch)

    cost.want(100)
    await eventually(lambda: cost.off)
    cost.want(0)

    thread = cost._thread
    assert thread is not None
    await eventually(lambda: not thread.is_alive())
    assert (patches.tried, patches.written) == (1, [])


async def test_where_it_may_not_it_is_tried_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carafe.kubernetes.deletion_cost.refused_pause", lambda refusals: 0.0)
    patches = Patches(*[NotPermitted("Forbidden (403)")] * 3)
    cost = of_a_pod(patches, monkeypatch)

    cost.want(100)

    # An API server that has just started refuses everybody.
    await eventually(lambda: patches.written == [100])
    assert patches.tried == 4
    assert [refused_pause(refusals) for refusals in (1, 2, 3, 7, 8, 1000)] == [5, 10, 20, 320, 600, 600]


def test_after_a_refusal_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeletionCost, "_run", lambda self: None)
    cost = DeletionCost(POD, patch=Patches(*[NotPermitted("Forbidden (403)")] * 3))
    cost.want(100)
    for pause in (5, 10, 20):
        cost._write(100)
        assert cost._tried is not None
        assert cost.wait(cost._tried) == pytest.approx(pause)
    cost._write(100)
    cost.want(0)
    assert cost._tried is not None
    assert cost.wait(cost._tried) == pytest.approx(EVERY)


def test_between_two_patches_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeletionCost, "_run", lambda self: None)
    cost = DeletionCost(POD, patch=Patches())
    began = cost._began
    assert cost.wait(began) is None

    # At its start a worker has better things to do than to say that it is idle; that it is busy it says at once.
    cost.want(0)
    assert cost.wait(began + 1) == pytest.approx(AT_LEISURE - 1)
    assert cost.wait(began + AT_LEISURE + 1) == 0
    cost.want(100)
    assert cost.wait(began + 1) == 0

    cost._write(100)
    assert cost.wait(began + 1) is None
    cost.want(0)
    assert cost._tried is not None
    assert cost.wait(cost._tried + 1) == pytest.approx(EVERY - 1)
    assert cost.wait(cost._tried + EVERY) == 0
    # Busy again before it was due: nothing is left to write.
    cost.want(100)
    assert cost.wait(cost._tried + EVERY) is None
