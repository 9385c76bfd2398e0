"""The three requests to the API server, as this pod's service account: list pods, watch them, patch one annotation.

This is the only module that uses the `kubernetes` client. The client is heavy (half a second, 40 MB), so it is imported with
the first request. Every method blocks, so call it in a thread. Pods are returned as the API's own JSON, not as the client's
models.
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
"""Seconds to connect, and seconds to wait for an answer, until a request is given up."""

LIST_ANSWER = 10.0
"""Seconds to wait for the answer to a list request. This is longer than for other requests, since a list may be long."""

LIMIT = 500
"""The maximum number of pods in one page of a list."""

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


class Api:
    """Requests to the API server from one pod.

    Every method raises `NotInstalled`, `NotPermitted`, or the client's errors when the API server is away. The latter have
    no common base class, so catch `Exception`.
    """

    def __init__(self, pod: Pod) -> None:
        self._pod = pod

    def list(self, labels: str) -> tuple[list[JSON], str]:
        """Returns the pods in this pod's namespace that have these labels. Also returns the list's resource version, from
        which `watch` can continue."""
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
        """Yields, for this many seconds, each change after the resource version `version`, as (type, object). For the types
        ADDED, MODIFIED and DELETED the object is the pod; for BOOKMARK it only has a newer resource version.

        Raises `Expired` when the version is too old. Then list the pods again.
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
        """Write the deletion cost of this pod."""
        # Because of the UID, the API server refuses if another pod has this name by now.
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
    """Returns the client, signed in as this process's service account, and the class of the exceptions that it raises for
    refused requests. The client reads the account's token again every minute. Raises `NotInstalled` if the `kubernetes`
    package is missing."""
    try:
        from kubernetes.client import ApiClient, Configuration, CoreV1Api
        from kubernetes.client.exceptions import ApiException
        from kubernetes.config import load_incluster_config
    except ImportError as error:
        raise NotInstalled(error.name or str(error)) from error

    configuration = Configuration()
    configuration.retries = False  # the callers decide when to ask again
    load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    return CoreV1Api(ApiClient(configuration)), ApiException
