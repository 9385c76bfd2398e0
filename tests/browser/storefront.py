"""A shop's system as a person on call finds it: rows in the real tables, for looking at the pages.

Everything is there at once: jobs in every state, some with progress, attempts and logs; dead letters in groups; bulk actions
under way, paused and done; workers and pods, one in trouble; an hour with a deploy, a pause and an outage in its samples.
No worker and no steward need run: `freshen` keeps the heartbeats, the lease and the samples as if they did.

`say` changes every text that a person or a program could have chosen, for pages that must show all of them as text.
"""

import json
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import Field, SecretStr

from carafe import Job
from carafe.store.database import plain_dsn
from carafe.telemetry.metrics import BOUNDS

Connection = Any  # asyncpg, which ships no types


class SendEmail(Job, kind="email.send"):
    """Send an email to a customer."""

    to: str = Field(description="The customer's address.", examples=["ana@example.com"])
    template: Literal["receipt", "reminder", "welcome"] = "receipt"
    api_key: SecretStr | None = Field(None, description="Of the mail service; empty: the shop's own.")
    send_on: date | None = None
    copies: int = Field(1, ge=1, le=5)
    urgent: bool = False
    values: dict[str, str] = Field(default_factory=dict, description="For the template's places.")


class RenderInvoice(Job, kind="invoice.render"):
    """Make the PDF of an order's invoice."""

    order: int
    currency: Literal["EUR", "USD"] = "EUR"


class ResizeImage(Job, kind="image.resize"):
    """Make a picture's smaller sizes."""

    url: str
    widths: list[int] = Field(default_factory=lambda: [320, 640, 1280])


class ExportReport(Job, kind="report.export", timeout=3600):
    """Export a month of orders."""

    month: str


class DeliverWebhook(Job, kind="webhook.deliver"):
    """Tell a merchant's server of an order."""

    url: str
    order: int


KINDS = ["email.send", "image.resize", "invoice.render", "webhook.deliver", "report.export"]
WEIGHTS = [8, 5, 4, 4, 1]

PAUSED = "image.resize"
"""The kind that somebody has paused."""

TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/worker/handlers/{module}.py", line 41, in {function}
    answer = await client.post(job.url, json=payload, timeout=10)
  File "/srv/shop/lib/python3.13/site-packages/httpx/_client.py", line 1859, in post
    return await self.request("POST", url, content=content, data=data, files=files, json=json)
  File "/srv/shop/lib/python3.13/site-packages/httpx/_transports/default.py", line 118, in map_httpcore_exceptions
    raise mapped_exc(message) from exc
{error}"""

DEATHS = (
    ("webhook.deliver", "ConnectTimeout", "no answer from hooks.northwind.example within 10 s", 312, 14, 1),
    ("image.resize", "UnidentifiedImageError", "cannot identify image file 'uploads/{n}.heic'", 97, 55, 9),
    ("invoice.render", "KeyError", "'vat_rate'", 41, 190, 25),
    ("email.send", "SMTPRecipientsRefused", "550 5.1.1 the mailbox of customer {n} does not exist", 8, 1300, 160),
)
"""Kind, error class, error, how many, and between how many minutes ago."""


def _itself(text: str) -> str:
    return text


@dataclass(slots=True)
class Storefront:
    """Where to look. Job ids by what is to be seen there."""

    now: datetime
    jobs: dict[str, UUID] = field(default_factory=dict)
    groups: dict[str, tuple[str, str]] = field(default_factory=dict)
    bulks: dict[str, UUID] = field(default_factory=dict)
    briefings: dict[str, UUID] = field(default_factory=dict)
    workers: list[UUID] = field(default_factory=list)

    @classmethod
    def sample(cls) -> Self:
        """As after a fill, for anyone who wants to know what there is to see without looking."""
        some = UUID(int=0)
        jobs = ("queued", "scheduled", "running", "retrying", "succeeded", "cancelled", "dead", "discarded")
        bulks = ("running", "paused", "done", "cancelled")
        return cls(
            datetime.now(UTC),
            dict.fromkeys(jobs, some),
            {kind: (kind, "0") for kind, *_ in DEATHS},
            dict.fromkeys(bulks, some),
            dict.fromkeys(("completed", "failed", "processing", "pending"), some),
            [some],
        )


class Filler:
    """Fills a migrated, empty database once. The same rows every time, as far from now."""

    def __init__(self, connection: Connection, say: Callable[[str], str] = _itself) -> None:
        self._connection, self._say = connection, say
        self._random = random.Random(7)
        self.now = datetime.now(UTC)
        self.found = Storefront(self.now)

    def ago(self, **how_long: float) -> datetime:
        return self.now - timedelta(**how_long)

    def new_id(self, at: datetime) -> UUID:
        """An id as of a time (version 7)."""
        number = (int(at.timestamp() * 1000) << 80) | self._random.getrandbits(80)
        return UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | (0x7 << 76) | (0x2 << 62))

    async def insert(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        """Rows with the same columns; values that are dicts or lists of a jsonb column come as JSON text."""
        rows = list(rows)
        schema, _, name = table.rpartition(".")
        columns = list(rows[0])
        records = [tuple(row[column] for column in columns) for row in rows]
        await self._connection.copy_records_to_table(name, schema_name=schema or None, columns=columns, records=records)

    async def fill(self) -> Storefront:
        """All of it."""
        await self._connection.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=_jsonb, decoder=json.loads, format="binary"
        )
        await self._workers()
        await self._live()
        await self._ended()
        await self._bulk_actions()
        await self._paused_kind()
        await self._audit()
        await self._history()
        await self._briefings()
        await freshen(self._connection)
        await self._connection.execute("analyze")
        return self.found

    def arguments(self, kind: str, n: int) -> dict[str, Any]:
        """What a job of that kind may have been given."""
        say = self._say
        shapes: dict[str, dict[str, Any]] = {
            "email.send": {
                "to": say(f"customer{n}@example.com"),
                "template": "receipt",
                "api_key": None,
                "values": {say("name"): say("Ana"), "order": str(4000 + n)},
            },
            "image.resize": {"url": say(f"https://cdn.shop.example/uploads/{n}.heic"), "widths": [320, 640, 1280]},
            "invoice.render": {"order": 4000 + n, "currency": say("EUR")},
            "webhook.deliver": {"url": say("https://hooks.northwind.example/orders"), "order": 4000 + n},
            "report.export": {"month": say("2026-10")},
        }
        return shapes[kind]

    def job(self, kind: str, state: str, at: datetime, n: int, **changes: Any) -> dict[str, Any]:
        """A row of jobs."""
        return {
            "id": self.new_id(at),
            "kind": self._say(kind),
            "queue": "default",
            "state": state,
            "args": self.arguments(kind, n),
            "secrets": None,
            "version": 1,
            "attempt": 0,
            "max_attempts": 4,
            "fence": 0,
            "snoozes": 0,
            "releases": 0,
            "timeout": 300.0,
            "unique_key": None,
            "worker": None,
            "created_at": at,
            "due_at": at,
            "started_at": None,
            "trace": None,
            "created_by": self._say("checkout"),
            "progress": None,
            "progress_note": None,
            "cancel_requested_at": None,
        } | changes

    async def _workers(self) -> None:
        pods: list[dict[str, Any]] = []
        workers: list[dict[str, Any]] = []
        for n, (state, minutes, version) in enumerate(
            [
                ("running", 38, "2026.11.4"),
                ("running", 37, "2026.11.4"),
                ("running", 36, "2026.11.4"),
                ("draining", 410, "2026.11.3"),
                ("stopped", 420, "2026.11.3"),
                ("lost", 415, "2026.11.3"),
            ]
        ):
            name = self._say(f"worker-7c9d8f6b5-{['x2kqp', 'm4zrt', 'p8wvn', 'hh6dl', '9fjsc', 't5bqg'][n]}")
            uid, started = f"pod-{n}", self.ago(minutes=minutes)
            gone = self.ago(minutes={"stopped": 35, "lost": 6}[state]) if state in ("stopped", "lost") else None
            workers.append(
                {
                    "id": self.new_id(started),
                    "name": name,
                    "host": name,
                    "pid": 7,
                    "incarnation": f"pod {uid}",
                    "version": self._say(version),
                    "kinds": [*map(self._say, KINDS), "briefing.generate"],
                    "versions": [1] * (len(KINDS) + 1),
                    "concurrency": 5,
                    "state": state,
                    "started_at": started,
                    "stopped_at": gone,
                    "drain_requested_at": self.ago(seconds=25) if state == "draining" else None,
                }
            )
            pods.append(self._pod(uid, name, started, gone_at=gone, node=self._say(f"node-{n % 3 + 1}")))
        waiting = self._pod("pod-9", self._say("worker-7c9d8f6b5-zz7km"), self.ago(minutes=3), node="", phase="Pending")
        waiting |= {"ready": False, "trouble_since": self.ago(minutes=3)}
        waiting["trouble"] = self._say("Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.")
        await self.insert("carafe.workers", workers)
        await self.insert("carafe.pods", [*pods, waiting])
        self.found.workers = [worker["id"] for worker in workers]

    def _pod(self, uid: str, name: str, created: datetime, **changes: Any) -> dict[str, Any]:
        return {
            "uid": uid,
            "namespace": "shop",
            "name": name,
            "node": "node-1",
            "phase": "Running",
            "ready": True,
            "deleting": False,
            "ended": changes.get("gone_at") is not None,
            "restarts": 0,
            "trouble": "",
            "trouble_since": None,
            "created_at": created,
            "gone_at": None,
        } | changes

    async def _live(self) -> None:
        jobs, say, find = [], self._say, self.found.jobs
        for n in range(340):
            at = self.ago(seconds=95 - n * 0.28)
            kind = self._random.choices(KINDS, WEIGHTS)[0]
            row = self.job(kind, "queued", at, n)
            hinted_at = None if kind == PAUSED else at
            jobs.append(row | {"hinted_at": hinted_at, "deadline_at": None, "suspect": False})
        find["queued"] = jobs[-20]["id"]
        for n in range(62):
            row = self.job(self._random.choices(KINDS, WEIGHTS)[0], "scheduled", self.ago(hours=1 + n / 7), n)
            row["due_at"] = self.now + timedelta(minutes=7 * n + 20)
            jobs.append(row | {"hinted_at": None, "deadline_at": None, "suspect": False})
        find["scheduled"] = jobs[-1]["id"]
        notes = {"report.export": "page 41 of 66", "image.resize": "1280 px", "email.send": ""}
        running = []
        for n in range(17):
            kind = "report.export" if n < 2 else self._random.choices(KINDS[:4], WEIGHTS[:4])[0]
            started = self.ago(seconds=260 if n == 0 else 71 if n == 1 else self._random.uniform(0.3, 9))
            row = self.job(kind, "running", started - timedelta(seconds=40), n, worker=self.found.workers[n % 4])
            row |= {"attempt": 1 if n == 0 else 0, "fence": 2 if n == 0 else 1, "started_at": started}
            if kind in notes:
                row |= {"progress": 0.62 if n == 0 else round(self._random.random(), 2), "progress_note": say(notes[kind])}
            running.append(row | {"hinted_at": started, "deadline_at": started + timedelta(minutes=5), "suspect": False})
        find["running"] = running[0]["id"]
        jobs += running
        retrying = []
        for n in range(48):
            at = self.ago(seconds=720 - 14 * n)
            row = self.job("webhook.deliver", "retrying", at, n, attempt=1 + n % 3, fence=1 + n % 3, started_at=at)
            row |= {"due_at": self.now + timedelta(seconds=9 + 11 * n), "unique_key": say(f"order-{4000 + n}")}
            retrying.append(row | {"hinted_at": None, "deadline_at": None, "suspect": False})
        find["retrying"] = retrying[-1]["id"]
        await self.insert("carafe.jobs", [*jobs, *retrying])
        lines = (
            "reports.py:88 in export",
            "reports.py:131 in write_page",
            "lib/python3.13/site-packages/s3/upload.py:57 in put",
        )
        question = {
            "job_id": find["running"],
            "fence": 2,
            "worker": running[0]["worker"],
            "requested_at": self.ago(seconds=13),
        }
        answer = {"answered_at": self.ago(seconds=12), "lines": [say(f"/srv/shop/{line}") for line in lines]}
        await self.insert("carafe.stacks", [question | answer])
        before = running[0]["started_at"] - timedelta(seconds=9)
        attempts = [self._attempt(row, row["attempt"], worker=row["worker"]) for row in retrying]
        await self.insert("carafe.attempts", [*attempts, self._attempt(running[0], 1, before)])
        await self._logs(
            running[0],
            [
                ("info", "exporting 2026-10: 65,210 orders in 66 pages"),
                ("info", "page 40 written (1,000 rows)"),
                ("warning", "order 4711 has no address, written without one"),
                ("info", "page 41 written (1,000 rows)"),
            ],
        )

    def _attempt(self, row: dict[str, Any], number: int, ended: datetime | None = None, **changes: Any) -> dict[str, Any]:
        kind, error_class, error = "webhook", "ConnectTimeout", "no answer from hooks.northwind.example within 10 s"
        ended = ended or row["started_at"] + timedelta(seconds=10)
        return {
            "job_id": row["id"],
            "kind": row["kind"],
            "attempt": number,
            "fence": number,
            "cause": "error",
            "error_class": self._say(error_class),
            "error": self._say(error),
            "traceback": self._say(TRACEBACK.format(module=kind, function="deliver", error=f"{error_class}: {error}")),
            "worker": self.found.workers[number % 4],
            "worker_name": self._say("worker-7c9d8f6b5-m4zrt"),
            "started_at": ended - timedelta(seconds=10),
            "ended_at": ended,
        } | changes

    async def _logs(self, row: dict[str, Any], lines: Sequence[tuple[str, str]], failed: bool = False) -> None:
        began = row["started_at"]
        await self.insert(
            "carafe.job_logs",
            [
                {
                    "failed": failed,
                    "written_at": self.ago(seconds=2),
                    "job_id": row["id"],
                    "fence": row["fence"],
                    "attempt": row["attempt"] + (0 if failed else 1),
                    "first": 1,
                    "last": len(lines),
                    "times": [began + timedelta(seconds=1 + 2.5 * n) for n in range(len(lines))],
                    "levels": [level for level, _ in lines],
                    "texts": [self._say(text) for _, text in lines],
                }
            ],
        )

    async def _ended(self) -> None:
        for days in range(2):
            day = self.ago(days=days).date()
            for side in ("jobs_dead", "jobs_done"):
                await self._connection.execute(
                    f"create table if not exists carafe.{side}_{day:%Y%m%d} partition of carafe.{side}"
                    f" for values from ('{day}+00') to ('{day + timedelta(days=1)}+00')"
                )
        rows, attempts = [], []
        for n in range(2400):
            at = self.ago(seconds=1.5 * (2400 - n) * (1 + n % 3 / 10))
            cancelled = n % 150 == 7
            run = self._random.lognormvariate(-1, 1)
            row = self.job(self._random.choices(KINDS, WEIGHTS)[0], "cancelled" if cancelled else "succeeded", at, n)
            row |= {"worker": self.found.workers[n % 4], "attempt": 1, "fence": 1}
            row |= {"started_at": at + timedelta(seconds=self._random.uniform(0.01, 3))}
            row["ended_at"] = row["started_at"] + timedelta(seconds=run)
            result = None if cancelled else {"bytes": 48213 + n, "place": self._say(f"s3://shop/{n}.pdf")}
            rows.append(self._end(row, result=result, error=self._say("cancelled by ana") if cancelled else None))
        find = self.found.jobs
        find["succeeded"] = next(row["id"] for row in reversed(rows) if row["state"] == "succeeded")
        find["cancelled"] = next(row["id"] for row in reversed(rows) if row["state"] == "cancelled")
        for kind, error_class, error, number, first, last in DEATHS:
            fingerprint = f"{len(kind):08x}{number:08x}"
            self.found.groups[kind] = (self._say(kind), fingerprint)
            for n in range(number):
                at = self.ago(minutes=first - (first - last) * n / number)
                row = self.job(kind, "dead", at - timedelta(minutes=4), n, attempt=4, fence=4)
                row |= {"worker": self.found.workers[n % 4], "started_at": at - timedelta(seconds=10), "ended_at": at}
                text = self._say(error.format(n=5000 + n))
                row = self._end(row, error_class=self._say(error_class), error=text, error_fingerprint=fingerprint)
                if kind == "email.send" and n < 3:
                    row |= {"resolved_at": at + timedelta(minutes=9), "resolved_by": self._say("ben")}
                    row["resolved_reason"] = self._say("customers are gone")
                    find["discarded"] = row["id"]
                rows.append(row)
            find.setdefault("dead", rows[-1]["id"])
            for number_ in range(1, 5):
                attempts.append(
                    self._attempt(
                        rows[-1],
                        number_,
                        rows[-1]["ended_at"] - timedelta(seconds=(4 - number_) * 45),
                        worker=rows[-1]["worker"],
                        error_class=rows[-1]["error_class"],
                        error=rows[-1]["error"],
                    )
                )
        await self.insert("carafe.jobs_ended", rows)
        await self.insert("carafe.attempts", attempts)
        lines = [("info", "delivering order 4311 to northwind"), ("error", "no answer from hooks.northwind.example")]
        for row in rows:
            if row["id"] == find["dead"]:
                await self._logs(row, lines, failed=True)
            if row["id"] == find["succeeded"]:
                await self._logs(row, [("info", "done in one go")])

    def _end(self, row: dict[str, Any], **changes: Any) -> dict[str, Any]:
        return (
            row
            | dict.fromkeys(
                ("result", "error_class", "error", "error_fingerprint", "resolved_at", "resolved_by", "resolved_reason")
            )
            | changes
        )

    async def _bulk_actions(self) -> None:
        say = self._say
        rows: list[dict[str, Any]] = []
        kind, fingerprint = self.found.groups["image.resize"]
        dead = {"states": ["dead"], "kind": kind, "fingerprint": fingerprint, "resolved": False}
        shapes = [
            ("running", "retry", dead, 10.0, 340, 212, 3, 2, None, "the codec is installed now", 0.6),
            ("paused", "retry", {"states": ["dead"], "text": say("hooks.northwind")}, 50.0, 2310, 850, 0, 0, None, "", 9),
            (
                "done",
                "cancel",
                {"states": ["scheduled"], "kind": say("report.export")},
                None,
                31,
                29,
                2,
                0,
                61,
                "wrong month",
                62,
            ),
            (
                "done",
                "discard",
                {"states": ["dead"], "kind": say("email.send")},
                None,
                3,
                3,
                0,
                0,
                151,
                "customers are gone",
                152,
            ),
            ("cancelled", "run_now", {"states": ["scheduled"]}, 5.0, 120, 14, 1, 0, 299, "", 300),
        ]
        for state, action, wanted, rate, matched, done, skipped, failed, ended, reason, minutes in shapes:
            at = self.ago(minutes=minutes)
            rows.append(
                {
                    "id": self.new_id(at),
                    "action": action,
                    "filter": wanted,
                    "cutoff": at,
                    "rate": rate,
                    "actor": say("ana"),
                    "via": "dashboard" if action != "discard" else "cli",
                    "reason": say(reason) if reason else None,
                    "state": state,
                    "matched": matched,
                    "done": done,
                    "skipped": skipped,
                    "failed": failed,
                    "last_error": say("job 0197 has been pruned") if failed else None,
                    "created_at": at,
                    "ended_at": None if ended is None else self.ago(minutes=ended),
                    "next_at": self.now + timedelta(days=1),
                }
            )
            self.found.bulks[state] = rows[-1]["id"]
        await self.insert("carafe.bulk_actions", rows)

    async def _audit(self) -> None:
        say, find = self._say, self.found
        acts: list[tuple[float, str, str, str, Any, str, dict[str, Any]]] = [
            (0.6, "ana", "dashboard", "bulk start", find.bulks["running"], "the codec is installed now", {"matched": 340}),
            (2, "ana", "dashboard", "retry", find.jobs["retrying"], "northwind says it is back", {"attempts": 1}),
            (8, "ben", "api", "bulk pause", find.bulks["paused"], "", {}),
            (9, "ana", "dashboard", "bulk start", find.bulks["paused"], "", {"matched": 2310, "rate": 50.0}),
            (0.4, "ana", "dashboard", "drain", find.workers[3], "", {}),
            (19, "ben", "cli", "resume", "default", "", {}),
            (22, "ben", "cli", "pause", "default", "the database moves to larger disks", {}),
            (31, "ana", "dashboard", "cancel", find.jobs["cancelled"], "duplicate", {}),
            (44, "ana", "dashboard", "sign in", "ana", "", {"address": "10.1.2.3"}),
            (62, "ana", "dashboard", "bulk start", find.bulks["done"], "wrong month", {"matched": 31}),
            (151, "ben", "cli", "discard", find.jobs["discarded"], "customers are gone", {}),
        ]
        await self.insert(
            "carafe.audit",
            [
                {
                    "id": self.new_id(self.ago(minutes=minutes)),
                    "at": self.ago(minutes=minutes),
                    "actor": say(actor),
                    "via": via,
                    "action": action,
                    "target": str(target),
                    "reason": say(reason) if reason else None,
                    "details": {
                        say(key): value if isinstance(value, float | int) else say(value) for key, value in details.items()
                    },
                }
                for minutes, actor, via, action, target, reason, details in acts
            ],
        )

    def _traffic(self, minutes: float) -> dict[str, float]:
        """What happened that many minutes ago: rates a second, and gauges."""
        daily = 1 + 0.5 * math.sin((minutes / 1440 + 0.1) * 2 * math.pi)
        arrived = 7 * daily * (1 + 0.12 * math.sin(minutes / 2.3) + 0.08 * math.sin(minutes / 0.7))
        paused = 19 < minutes < 22
        backlog = 12 + 6 * math.sin(minutes / 3)
        if paused:
            backlog += (22 - minutes) * 60 * arrived
        elif 12 < minutes <= 19:
            backlog += 1400 * (minutes - 12) / 7
        elif minutes <= 6:
            backlog += 320 * (6 - minutes) / 6
        outage = 1 if minutes < 14 else 0.02
        workers = 5 if 12 < minutes <= 18 else 4 if minutes < 36 else 3
        return {
            "succeeded": 0.02 if paused else arrived * (1.6 if 12 < minutes <= 19 else 0.93 if minutes < 6 else 1),
            "dead": 0.0 if paused else 0.37 * outage * daily,
            "retrying": 0.0 if paused else 1.3 * outage * daily,
            "backlog": max(0.0, backlog),
            "running": 1
            if paused
            else min(workers * 5, 17 if minutes < 6 else 20 if minutes < 19 else 6 + 3 * math.sin(minutes)),
            "wait": 95 * backlog / 340 if backlog > 40 else 0.3 + abs(math.sin(minutes * 3)),
            "workers": workers,
            "wanted": 5 if minutes < 6 or 12 < minutes <= 21 else workers,
            "dead_there": 458 if minutes < 1 else 146 + 312 * (14 - minutes) / 13 if minutes < 14 else 140,
        }

    async def _paused_kind(self) -> None:
        pause = {"paused_at": self.ago(minutes=8), "paused_by": self._say("ana")}
        reason = self._say("pictures from phones cannot be read; a fix is under way")
        await self.insert("carafe.paused_kinds", [{"kind": self._say(PAUSED), **pause, "paused_reason": reason}])

    async def _history(self) -> None:
        rows: list[dict[str, Any]] = []
        for width, seconds in ((10, 4000), (60, 90_000), (600, 7 * 86_400)):
            last = int(self.now.timestamp()) // width * width
            for at in range(last - seconds, last + (width if width > 10 else 0), width):
                moment = datetime.fromtimestamp(at, UTC)
                traffic = self._traffic(max(0.0, (self.now - moment).total_seconds() / 60))
                for outcome in ("succeeded", "dead", "retrying"):
                    count = round(traffic[outcome] * width * (1 + self._random.uniform(-0.06, 0.06)))
                    if count:
                        waits = self._bars(count, traffic["wait"] / 2)
                        runs = self._bars(count, 0.35 if outcome == "succeeded" else 10.0)
                        rows.append(
                            {"width": width, "at": moment, "kind": "", "outcome": outcome, "count": count,
                             "wait_seconds": count, "run_seconds": count, "waits": waits, "runs": runs}
                        )  # fmt: skip
                        rows += self._of_kinds(rows[-1], at, last)
        await self.insert("carafe.statistics", rows)
        samples = [5 * n for n in range(4000 // 5)] + [60 * n for n in range(67, 1441)] + [600 * n for n in range(145, 1008)]
        await self.insert("carafe.gauges", [self._sample(seconds + 6) for seconds in samples])

    def _of_kinds(self, row: dict[str, Any], at: int, last: int) -> list[dict[str, Any]]:
        """The kinds' shares of a row of all kinds, of the last hours."""
        if at < last - 3 * 3600:
            return []
        found = []
        for kind, weight in zip(KINDS, WEIGHTS, strict=True):
            share = weight / sum(WEIGHTS) if row["outcome"] == "succeeded" else float(kind == "webhook.deliver")
            if kind == PAUSED and at > last - 480:
                share = 0.0
            parts = {name: [round(n * share) for n in row[name]] for name in ("waits", "runs")}
            count = sum(parts["runs"])
            if count:
                sums = {"count": count, "wait_seconds": count, "run_seconds": 0.4 * count}
                found.append({**row, **parts, **sums, "kind": self._say(kind)})
        return found

    def _sample(self, seconds: float) -> dict[str, Any]:
        traffic = self._traffic(seconds / 60)
        return {
            "at": self.ago(seconds=seconds),
            "queue": "default",
            "queued": round(traffic["backlog"]),
            "running": round(traffic["running"]),
            "scheduled": 62,
            "retrying": 48,
            "dead": round(traffic["dead_there"]),
            "oldest_wait": traffic["wait"],
            "paused": 19 < seconds / 60 < 22,
            "workers": round(traffic["workers"]),
            "slots": round(traffic["workers"]) * 5,
            "used": round(traffic["running"]),
            "wanted": round(traffic["wanted"]),
        }

    def _bars(self, count: int, middle: float) -> list[int]:
        """A histogram of that many around a middle in seconds, roughly lognormal."""
        bars = [0] * (len(BOUNDS) + 1)
        steps = min(count, 40)
        for n in range(steps):
            seconds = middle * math.exp(math.log((n + 0.5) / (steps - n - 0.5)) * 0.45)
            share = count * (n + 1) // steps - count * n // steps
            bars[bisect_right(BOUNDS, seconds)] += share
        return bars

    async def _briefings(self) -> None:
        say = self._say
        rows: list[dict[str, Any]] = []
        text = "Glass carafes keep wine and water without taste of their own.\n\n" * 3
        for n, (topic, status) in enumerate(
            [
                ("Why carafes are made of glass", "completed"),
                ("Decanting old wine", "completed"),
                ("Recycling of bottles in Europe", "failed"),
                ("Lead crystal and health", "processing"),
                ("The history of the water jug", "pending"),
            ]
        ):
            at = self.ago(minutes=50 - 12 * n)
            rows.append(
                {
                    "id": self.new_id(at),
                    "topic": say(topic),
                    "status": status,
                    "content": say(text) if status == "completed" else None,
                    "error": say("ConnectTimeout: no answer from the text model") if status == "failed" else None,
                    "job_id": self.found.jobs["running" if status == "processing" else "succeeded"],
                    "requested_by": say("ana"),
                    "created_at": at,
                    "updated_at": at,
                    "completed_at": at + timedelta(seconds=9) if status == "completed" else None,
                }
            )
            self.found.briefings[status] = rows[-1]["id"]
        await self.insert("briefings", rows)


def _jsonb(value: Any) -> bytes:
    return b"\x01" + json.dumps(value).encode()


async def fill(database_url: str, say: Callable[[str], str] = _itself) -> Storefront:
    """Fill a migrated, empty database."""
    connection = await asyncpg.connect(plain_dsn(database_url))
    try:
        return await Filler(connection, say).fill()
    finally:
        await connection.close()


FRESH = """
update carafe.workers set beat_at = now() - interval '1 second' where state in ('running', 'draining');
update carafe.pods set confirmed_at = now(), seen_at = now();
insert into carafe.leases (name, holder, holder_name, term, acquired_at, expires_at)
values ('steward', '00000000-0000-7000-8000-000000000001', 'web-5d7f9', 3, now() - interval '6 hours',
    now() + interval '1 day')
on conflict (name) do update set expires_at = excluded.expires_at, holder = excluded.holder,
    holder_name = excluded.holder_name, term = excluded.term;
insert into carafe.gauges (at, queue, queued, running, scheduled, retrying, dead, oldest_wait, paused, workers, slots, used,
    wanted)
select now(), queue, queued, running, scheduled, retrying, dead, oldest_wait, paused, workers, slots, used, wanted
from carafe.gauges where at > now() - interval '10 minutes' order by at desc limit 1;
insert into carafe.statistics (width, at, kind, outcome, count, wait_seconds, run_seconds, waits, runs)
select 10, date_bin('10 seconds', now(), timestamptz '2000-01-01 00:00+00') - n * interval '10 seconds', '', outcome, count,
    wait_seconds, run_seconds, waits, runs
from generate_series(0, 8) as n, (
    select * from carafe.statistics where width = 10 and kind = '' and at > now() - interval '1 hour'
        and outcome in ('succeeded', 'dead', 'retrying') order by at desc limit 3
) as last
on conflict (width, at, kind, outcome) do nothing;
"""


async def freshen(connection: Connection) -> None:
    """Beat for the workers, hold the lease and take a sample: good for the next 20 s."""
    await connection.execute(FRESH)


async def freshen_at(database_url: str) -> None:
    """The same, of a database."""
    connection = await asyncpg.connect(plain_dsn(database_url))
    try:
        await freshen(connection)
    finally:
        await connection.close()
