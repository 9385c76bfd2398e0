"""A process finds out its own pod, or that it runs outside a cluster."""

from pathlib import Path

import pytest

from carafe.kubernetes import Pod, here, in_pod, pod

TOLD = {
    "POD_NAME": "carafe-worker-1",
    "POD_NAMESPACE": "carafe",
    "POD_UID": "u-1",
    "NODE_NAME": "kit",
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
}


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """As in a pod that is told everything."""
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    token = tmp_path / "token"
    token.write_text("secret")
    monkeypatch.setattr(pod, "TOKEN", token)
    return monkeypatch


def test_a_process_knows_its_pod(inside: pytest.MonkeyPatch) -> None:
    assert here() == Pod("carafe-worker-1", "carafe", "u-1", "kit")
    assert in_pod() == ", pod 'carafe-worker-1' on node 'kit'"


def test_a_node_need_not_be_told(inside: pytest.MonkeyPatch) -> None:
    inside.delenv("NODE_NAME")

    assert here() == Pod("carafe-worker-1", "carafe", "u-1", "")
    assert in_pod() == ", pod 'carafe-worker-1'"


@pytest.mark.parametrize("missing", [name for name in TOLD if name != "NODE_NAME"])
def test_what_is_not_told_all_of_it_is_nowhere(inside: pytest.MonkeyPatch, missing: str) -> None:
    inside.delenv(missing)

    assert here() is None


def test_without_a_token_nobody_is_asked(inside: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inside.setattr(pod, "TOKEN", tmp_path / "none")

    assert here() is None


def test_outside_nothing_is_said_of_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POD_NAME", raising=False)

    assert in_pod() == ""
