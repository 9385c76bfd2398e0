"""The three requests to the API server, as this pod's service account: list pods, watch them, patch one annotation.

The only place that touches the `kubernetes` client. It is heavy (half a second, 40 MB), so it is imported with the first
request; every method blocks and belongs in a thread. Pods come as the API's own JSON, not as the client's models.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from carafe.kubernetes.pod import Pod
from carafe.kubernetes.refusals import Expired, NotInstalled, NotPermitted

JSON = Mapping[str, Any]

CONNECT = 2.0
ANSWER = 2.0
"""Seconds until a request is given up."""

LIST_ANSWER = 10.0
"""The same for a list, which may be long."""

LIMIT = 500
"""Pods in one page of a list."""

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


class Api:
    """The API server, as one pod sees it.

    Every method raises `NotInstalled`, `NotPermitted`, or what the client raises when the API server is away, which has no
    common class: catch `Exception`.
    """

    def __init__(self, pod: Pod) -> None:
        self._pod = pod

    def list(self, labels: str) -> tuple[list[JSON], str]:
        """The pods of the own namespace with these labels, and the resource version that the list stands for."""
        pods: list[JSON] = []
        following = None
        while True:
            page = self._ask(
                "list_namespaced_pod",
                self._pod.namespace,
                label_selector=labels,
                limit=LIMIT,
                **({"_continue": following} if following else {}),
                _request_timeout=(CONNECT, LIST_ANSWER),
            )
            found = json.loads(page.data)
            page.release_conn()
            pods += found.get("items") or []
            following = found["metadata"].get("continue")
            if not following:
                return pods, found["metadata"]["resourceVersion"]

    def watch(self, labels: str, version: str, seconds: int) -> Iterator[tuple[str, JSON]]:
        """Changes after `version` for so many seconds: ADDED, MODIFIED or DELETED with the pod, BOOKMARK with a version.

        Raises `Expired` when the version is too old: list again.
        """
        response = self._ask(
            "list_namespaced_pod",
            self._pod.namespace,
            label_selector=labels,
            watch=True,
            resource_version=version,
            timeout_seconds=seconds,
            allow_watch_bookmarks=True,
            _request_timeout=(CONNECT, seconds + 10.0),
        )
        try:
            for line in _lines(response.stream(None, decode_content=True)):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    if status.get("code") == 410:
                        raise Expired(status.get("message", ""))
                    raise OSError(f"watching pods: {status.get('message')}")
                yield event["type"], event["object"]
        finally:
            response.close()

    def set_deletion_cost(self, cost: int) -> None:
        """Write the own pod's deletion cost."""
        # With the UID the API server refuses, should another pod have the name by now.
        metadata = {"uid": self._pod.uid, "annotations": {DELETION_COST: str(cost)}}
        self._ask(
            "patch_namespaced_pod",
            self._pod.name,
            self._pod.namespace,
            {"metadata": metadata},
            _request_timeout=(CONNECT, ANSWER),
        ).release_conn()

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        core, refused = _client()
        try:
            return getattr(core, method)(*arguments, **options, _preload_content=False)
        except refused as error:
            if error.status in (403, 422):  # 422 is how an admission policy may say it
                raise NotPermitted(f"{error.reason} ({error.status})") from error
            if error.status == 410:
                raise Expired(str(error.reason)) from error
            raise


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())


@functools.cache
def _client() -> tuple[Any, type[Any]]:
    """The client of this process's service account, and the class of its refusals. Its token is read anew every minute."""
    try:
        from kubernetes.client import ApiClient, Configuration, CoreV1Api
        from kubernetes.client.exceptions import ApiException
        from kubernetes.config import load_incluster_config
    except ImportError as error:
        raise NotInstalled(error.name or str(error)) from error

    configuration = Configuration()
    configuration.retries = False  # who asks knows when to ask again
    load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    return CoreV1Api(ApiClient(configuration)), ApiException
