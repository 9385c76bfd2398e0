"""The pods of workers, as the cluster told of them last: read from Postgres, where `carafe.steward.cluster` keeps them.

Reading asks the API server nothing, so that anybody may, as often as they like.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from carafe.jobs.moves import Connection
from carafe.jobs.statements import PODS
from carafe.kubernetes.death import Death


@dataclass(frozen=True, slots=True)
class KnownPod:
    """A pod of a worker that is wanted, or on its way out.

    `trouble` says why it is not there (empty when it is), since `trouble_since`; `last_death` how its worker died last, in
    words. `current` is False when nobody watches the cluster now: then all this is as of `seen_at`.
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
    """The pods of workers that there are, oldest first; none outside a cluster, or where nobody may look at them."""
    return [_known(row) for row in await connection.fetch(PODS.positional)]


def death_in(row: Mapping[str, Any]) -> Death | None:
    """The death that a row tells of in its columns ``death_…``."""
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
