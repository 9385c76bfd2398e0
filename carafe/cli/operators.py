"""The commands `workers` and `audit`: list the workers, drain one of them, and list what operators did."""

import asyncio
from uuid import UUID

from carafe.cli.connecting import actor, connected
from carafe.cli.exits import Exit, say
from carafe.cli.output import moment, shortened, show_json, show_table
from carafe.durations import measured
from carafe.jobs.stored_json import written
from carafe.readmodel.model import ReadModel
from carafe.readmodel.records import WorkerView
from carafe.readmodel.workforce import LISTED


def workers(*, as_json: bool) -> Exit:
    """Prints the workers that are alive."""

    async def go() -> Exit:
        async with connected() as client:
            found = await ReadModel(client.database, client.queue).workers()
        if as_json:
            show_json(found)
            return Exit.OK
        if found.cut:
            say(f"there are more workers: only {LISTED} are listed")
        if not found.live:
            say("no worker is alive")
            return Exit.OK
        show_table(
            ("ID", "NAME", "STATE", "SLOTS", "VERSION", "STARTED", "HEARTBEAT", "POD", "NODE", "RUNS"),
            [
                (
                    str(worker.id),
                    worker.name,
                    _state(worker),
                    f"{worker.slots_used}/{worker.concurrency}",
                    worker.version,
                    moment(worker.started_at),
                    f"{measured(worker.heartbeat_age)} ago",
                    worker.pod,
                    worker.node,
                    ", ".join(f"{shortened(job.kind)} for {measured(job.seconds)}" for job in worker.running),
                )
                for worker in found.live
            ],
        )
        return Exit.OK

    return asyncio.run(go())


def _state(worker: WorkerView) -> str:
    return f"{worker.state}, asked to drain" if worker.drain_requested and worker.state == "running" else worker.state


def drain(worker_id: UUID, *, reason: str | None, as_json: bool) -> Exit:
    """Asks a worker to drain, and prints when it was asked."""

    async def go() -> Exit:
        async with connected() as client:
            since = await client.drain_worker(worker_id, reason=reason, by=actor())
        if as_json:
            show_json({"id": worker_id, "drain_requested_at": since})
        else:
            print(f"{worker_id}  asked to drain, {moment(since)}")
        return Exit.OK

    return asyncio.run(go())


def audit(*, target: str | None, limit: int, cursor: str | None, as_json: bool) -> Exit:
    """Prints a page of what operators did, newest first."""

    async def go() -> Exit:
        async with connected() as client:
            page = await ReadModel(client.database).audit(target=target, cursor=cursor, limit=limit)
        if as_json:
            show_json(page)
            return Exit.OK
        if not page.rows:
            say("nothing")
            return Exit.OK
        show_table(
            ("AT", "WHO", "VIA", "WHAT", "TARGET", "REASON", "DETAILS"),
            [
                (
                    moment(row.at),
                    row.actor,
                    row.via,
                    row.action,
                    row.target,
                    row.reason or "",
                    written(dict(row.details)).decode() if row.details else "",
                )
                for row in page.rows
            ],
        )
        if page.next_cursor:
            say(f"more: --cursor {page.next_cursor}")
        return Exit.OK

    return asyncio.run(go())
