"""A process is known to be gone only when that is certain."""

import os
import sys

import pytest

from carafe.process.incarnation import incarnation, known_gone, pod, start_time
from tests.steward.processes import Child
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture(autouse=True)
def outside_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POD_UID", raising=False)


def test_this_process_is_not_gone() -> None:
    assert incarnation() == incarnation()
    assert not known_gone(incarnation())


async def test_a_killed_process_is_gone_as_a_zombie_and_after(child: Child) -> None:
    assert not known_gone(child.incarnation)

    child.kill()
    await eventually(child.is_zombie)
    assert known_gone(child.incarnation)
    assert start_time(child.pid) == ""

    child.reap()
    assert known_gone(child.incarnation)


def test_another_process_with_its_pid_is_another_incarnation() -> None:
    before = incarnation().rpartition(" ")[0] + " 1"

    assert known_gone(before)


def test_of_another_boot_or_pid_namespace_nothing_is_known(child: Child) -> None:
    child.kill()
    child.reap()
    place, _, process = child.incarnation.partition("|")
    _, boot, namespace = place.split(" ")

    assert known_gone(f"boot {boot} {namespace}|{process}")
    assert not known_gone(f"boot {boot[::-1]} {namespace}|{process}")
    assert not known_gone(f"boot {boot} pid:[1]|{process}")


@pytest.mark.parametrize("other", ["", "x", "host here 1", "pod 7a3c 1 100", "|1 100", "boot a b|", "boot a b|x y"])
def test_what_cannot_be_judged_is_never_gone(other: str) -> None:
    assert not known_gone(other)


def test_in_a_pod_its_uid_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_UID", "7a3c")

    assert pod() == "pod 7a3c "
    assert incarnation() == f"pod 7a3c {os.getpid()} {start_time(os.getpid())}"
    assert not known_gone(incarnation())
