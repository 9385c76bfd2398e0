"""Reads the pods of workers, as the cluster last reported them, from Postgres, where `carafe.steward.cluster` keeps them.

Any process may read them, and as often as it likes, since that makes no request to the cluster's API server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from carafe.kubernetes.death import Death
from carafe.steward.statements import PODS
from carafe.store.database import Connection


@dataclass(frozen=True, slots=True)
class KnownPod:
    """A worker's pod that the cluster should run, or that is being deleted.

    `trouble` says why the pod does not run, and is empty if it runs or is being deleted; `trouble_since` says since when.
    `last_death` is a text that says how the pod's worker died last. `current` is False if no process watches the cluster
    now: then all the other fields show the state at the time `seen_at`.
    """

    name: str
    namespace: str
    node: str
    phase: str
    ready: bool
    deleting: bool
    restarts: int
    trouble: str
    trouble_since: datetime | None
    last_death: str
    created_at: datetime | None
    seen_at: datetime
    current: bool


async def pods(connection: Connection) -> list[KnownPod]:
    """Returns the known pods of workers, oldest first. Returns an empty list outside a cluster, or if Carafe has no
    permission to list pods."""
    return [_known(row) for row in await PODS.fetch(connection)]


def death_in(row: Mapping[str, Any]) -> Death | None:
    """Returns the record of the death that the row's columns ``death_…`` describe; None if these columns are empty."""
    if row["death_reason"] is None:
        return None
    return Death(
        reason=row["death_reason"],
        exit_code=row["death_exit_code"],
        signal=row["death_signal"],
        message=row["death_message"],
        container=row["death_container"],
        container_id=row["death_container_id"],
        started_at=row["death_started_at"],
        finished_at=row["death_finished_at"],
    )


def _known(row: Mapping[str, Any]) -> KnownPod:
    death = death_in(row)
    return KnownPod(
        name=row["name"],
        namespace=row["namespace"],
        node=row["node"],
        phase=row["phase"],
        ready=row["ready"],
        deleting=row["deleting"],
        restarts=row["restarts"],
        trouble=row["trouble"],
        trouble_since=row["trouble_since"],
        last_death="" if death is None else death.words(row["name"], row["node"]),
        created_at=row["created_at"],
        seen_at=row["seen_at"],
        current=row["current"],
    )
