"""Which pods can reach which others, and that a worker's token permits no more than the worker needs."""

import base64
import json
import ssl
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from tests.cluster.deployment import Deployment
from tests.cluster.kubectl import name_of, uid_of
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

COST = "controller.kubernetes.io/pod-deletion-cost"
SERVERS = [("carafe-redis", 6379), ("carafe-postgres", 5432)]

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=4).close()
    print("connected")
except OSError as error:
    print("refused", type(error).__name__)
"""


@pytest.fixture(scope="module")
def pods(deployed: Deployment) -> Iterator[dict[str, str]]:
    """Two pods that do nothing: a stranger, and one that is labelled as a canary is, which no Service selects."""
    idle = ["python", "-c", "import signal; signal.sigwait([signal.SIGTERM])"]
    names = {"stranger": "cluster-stranger", "friend": "cluster-friend"}
    labels = {"app.kubernetes.io/name": "carafe", "app.kubernetes.io/component": "canary"}
    deployed.kubectl.apply(
        deployed.pod(names["stranger"], idle),
        deployed.pod(names["friend"], idle, labels=labels),
    )
    for name in names.values():
        until(f"{name} runs", partial(_runs, deployed, name), 60)
    yield names
    for name in names.values():
        deployed.kubectl.delete("pod", name, "--wait=false")


@pytest.mark.parametrize(("server", "port"), SERVERS)
def test_a_stranger_cannot_reach_the_servers(deployment: Deployment, pods: dict[str, str], server: str, port: int) -> None:
    kubectl = deployment.kubectl
    # A friend gets through, so the stranger's failure is the policy's doing and not the test's.
    assert "connected" in kubectl.exec(pods["friend"], "python", "-c", CONNECT, server, str(port))
    assert "refused" in kubectl.exec(pods["stranger"], "python", "-c", CONNECT, server, str(port))


def test_keda_reads_redis_as_a_user_of_its_own_that_can_do_nothing_else(deployment: Deployment) -> None:
    user, password = deployment.secret("carafe-keda", "username"), deployment.secret("carafe-keda", "password")
    assert user == "keda"
    answers = deployment.redis_as(user, password, "LLEN default", "ZCARD carafe:running", "ZCARD carafe:busy").splitlines()
    assert all(answer.isdigit() for answer in answers), answers
    for command in ("LPUSH default x", "DEL default", "LRANGE default 0 -1", "GET x", "KEYS *", "FLUSHALL", "CONFIG GET *"):
        assert "NOPERM" in deployment.redis_as(user, password, command), command


def test_redis_lets_nobody_in_without_a_password(deployment: Deployment) -> None:
    said = deployment.kubectl.exec("carafe-redis-0", "redis-cli", "--raw", given="DBSIZE\nAUTH wrong\n")
    assert "NOAUTH" in said
    assert "WRONGPASS" in said


class Identity:
    """The API server with the token of a pod's service account, bound to that pod as the pod's own is."""

    def __init__(self, deployment: Deployment, pod: str, account: str) -> None:
        admin = deployment.kubectl
        bound = [
            "--bound-object-kind=Pod",
            f"--bound-object-name={pod}",
            f"--bound-object-uid={uid_of(admin.get('pod', pod))}",
        ]
        token = admin("create", "token", account, *bound).strip()
        view = json.loads(admin("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
        cluster = view["clusters"][0]["cluster"]
        trust: ssl.SSLContext | bool = not cluster.get("insecure-skip-tls-verify", False)
        if "certificate-authority-data" in cluster:
            trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self._http = httpx.Client(
            base_url=cluster["server"], headers={"Authorization": f"Bearer {token}"}, verify=trust, trust_env=False
        )
        self._namespace = deployment.namespace

    def __call__(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/merge-patch+json"
    ) -> tuple[int, str]:
        """The status of an answer and its words; a relative path is one of the namespace's core objects."""
        url = path if path.startswith("/") else f"/api/v1/namespaces/{self._namespace}/{path}"
        content_type = kind if method == "PATCH" else "application/json"
        content = None if body is None else json.dumps(body)
        answer = self._http.request(method, url, content=content, headers={"Content-Type": content_type})
        return answer.status_code, answer.text

    def annotate(self, pod: str, name: str, value: str) -> tuple[int, str]:
        """Set an annotation of a pod."""
        return self("PATCH", f"pods/{pod}", {"metadata": {"annotations": {name: value}}})


def test_a_workers_token_sets_its_own_deletion_cost_and_nothing_else(deployment: Deployment) -> None:
    with deployment.paused_at(2):
        own, other = (name_of(pod) for pod in deployment.workers())
        ask = Identity(deployment, own, "carafe-worker")
        status, words = ask.annotate(own, COST, "7")
        assert status == 200, words
        container = deployment.kubectl.get("pod", own)["spec"]["containers"][0]["name"]
        image = {"spec": {"containers": [{"name": container, "image": "evil:1"}]}}
        scale = f"/apis/apps/v1/namespaces/{deployment.namespace}/deployments/carafe-worker/scale"
        answers = {
            "another worker's cost": ask.annotate(other, COST, "7"),
            "a web pod's cost": ask.annotate(_web(deployment), COST, "7"),
            "another annotation": ask.annotate(own, "example.com/other", "x"),
            "a label": ask("PATCH", f"pods/{own}", {"metadata": {"labels": {"app.kubernetes.io/component": "web"}}}),
            "a finalizer": ask("PATCH", f"pods/{own}", {"metadata": {"finalizers": ["example.com/never"]}}),
            "its image": ask("PATCH", f"pods/{own}", image, kind="application/strategic-merge-patch+json"),
            "its deadline": ask("PATCH", f"pods/{own}", {"spec": {"activeDeadlineSeconds": 1}}),
            "its status": ask("PATCH", f"pods/{own}/status", {"status": {"reason": "x"}}),
            "a container beside it": ask("PATCH", f"pods/{own}/ephemeralcontainers", image),
            "reading itself": ask("GET", f"pods/{own}"),
            "listing pods": ask("GET", "pods"),
            "secrets": ask("GET", "secrets"),
            "deleting itself": ask("DELETE", f"pods/{own}"),
            "making a pod": ask("POST", "pods", deployment.pod("cluster-evil", ["true"])),
            "scaling": ask("PATCH", scale, {"spec": {"replicas": 9}}),
            "another namespace": ask("GET", "/api/v1/namespaces/kube-system/pods"),
            "another account's token": ask("POST", "serviceaccounts/carafe-web/token", {"spec": {}}),
        }
        assert {what: answer for what, answer in answers.items() if answer[0] != 403} == {}


def test_a_web_pods_token_reads_pods_and_nothing_else(deployment: Deployment) -> None:
    own = _web(deployment)
    ask = Identity(deployment, own, "carafe-web")
    status, words = ask("GET", "pods")
    assert status == 200, words
    answers = {
        "its own cost": ask.annotate(own, COST, "7"),
        "deleting itself": ask("DELETE", f"pods/{own}"),
        "secrets": ask("GET", "secrets"),
        "settings": ask("GET", "configmaps"),
        "another namespace": ask("GET", "/api/v1/namespaces/kube-system/pods"),
        "running a command": ask("POST", f"pods/{own}/exec?command=true"),
    }
    assert {what: answer for what, answer in answers.items() if answer[0] != 403} == {}


def _runs(deployment: Deployment, pod: str) -> bool:
    return bool(deployment.kubectl.get("pod", pod)["status"]["phase"] == "Running")


def _web(deployment: Deployment) -> str:
    return name_of(deployment.webs()[0])
