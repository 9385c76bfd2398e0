"""The runner: executes claimed jobs with exactly as many slots as the concurrency says, and nothing else.

``async def`` handlers run on its loop, plain functions in threads, isolated ones in child processes. A timeout or a cancel
stops the first by cancellation, asks the second (its slot and claim stay until it returns), and kills the third.
Must never: touch the database or Redis; what comes in is claimed, what goes out is an `End`.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from carafe.database import Database
from carafe.engine import captured_logs
from carafe.engine.attempts import AttemptContext, ThreadContext
from carafe.engine.children import Child, ChildDied, Children, suspect_memory_limit
from carafe.engine.ends import Cancelled, End, Failed, Released, Snoozed, Succeeded, class_name, clean, describe
from carafe.engine.pace import Pace
from carafe.engine.results import ResultNotUsable, encode_result
from carafe.engine.slot import Claim, Slot, Stop
from carafe.engine.threads import Threads
from carafe.job_log import JobLog
from carafe.jobs.backoff import backoff
from carafe.jobs.definition import load
from carafe.jobs.errors import CarafeError, InvalidArguments, PayloadTooLarge
from carafe.jobs.handlers import Handler
from carafe.jobs.outcomes import Cancel, Discard, Outcome, Retry, Snooze

if TYPE_CHECKING:
    from carafe.tracing.attempts import Attempts, Traced

log = structlog.stdlib.get_logger("carafe.runner")

YIELD_EVERY = 0.005
"""Seconds after which a slot whose handlers never wait lets the others have the loop."""

OVERRUN = 60.0
"""Seconds beyond its timeout after which a job that cannot be stopped counts as stuck for good."""

INSIST_EVERY = 1.0
"""Seconds between two cancellations of a handler that swallows them."""


class Runner:
    """The slots of one worker. Everything here happens on the runner's loop, but for the functions run in threads."""

    def __init__(
        self,
        *,
        concurrency: int,
        handlers: Mapping[str, Handler],
        database: Database,
        children: Children,
        pace: Pace,
        job_log: JobLog,
        result_limit: int,
        retry_base: float,
        retry_cap: float,
        ended: Callable[[End], None],
        idle: Callable[[], None],
        tracing: "Attempts | None" = None,
    ) -> None:
        """`ended` is told of every end; `idle` that a slot found nothing to run. `retry_base` and `retry_cap` in seconds.
        `tracing` None: nothing is traced."""
        self._handlers = handlers
        self._database, self._children, self._pace, self._log = database, children, pace, job_log
        self._result_limit, self._retry_base, self._retry_cap = result_limit, retry_base, retry_cap
        self._ended, self._idle, self._tracing = ended, idle, tracing
        self.slots = [Slot(index) for index in range(concurrency)]
        self.ready: deque[Claim] = deque()
        self._suspects: deque[Claim] = deque()
        self._suspect_runs = False
        self._trusted_until = float("inf")
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._threads = Threads(concurrency, "carafe handler")
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the slots."""
        self._loop = asyncio.get_running_loop()
        for slot in self.slots:
            slot.task = asyncio.create_task(self._run(slot), name=f"slot {slot.index}")

    async def stop(self) -> None:
        """End the slots; call it when they run nothing, or after `ask_all_to_stop`."""
        tasks = [slot.task for slot in self.slots if slot.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1)
        self._threads.stop()

    def offer(self, claims: Sequence[Claim]) -> list[Claim]:
        """Give claimed jobs to the slots, in order. Returns suspects that there is no place for."""
        suspects = [claim for claim in claims if claim.suspect]
        if suspects:
            claims = [claim for claim in claims if not claim.suspect]
            place = max(0, len(self.slots) - len(self._suspects))
            self._suspects.extend(suspects[:place])
            suspects = suspects[place:]
        self.ready.extend(claims)
        self._wake(len(claims) + len(self._suspects))
        return suspects

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)

    def withdraw(self) -> list[Claim]:
        """Take back the jobs that no slot has begun."""
        claims = [*self.ready, *self._suspects]
        self.ready.clear()
        self._suspects.clear()
        return claims

    def withdraw_suspects(self, before: float) -> list[Claim]:
        """Take back suspects that wait for another since before that monotonic time."""
        if not self._suspects or self._suspects[0].claimed > before:
            return []
        claims = list(self._suspects)
        self._suspects.clear()
        return claims

    def forget(self, claim: Claim) -> bool:
        """Take one back that no slot has begun; False when it does not wait here."""
        for waiting in (self.ready, self._suspects):
            if claim in waiting:
                waiting.remove(claim)
                return True
        return False

    def trust_until(self, moment: float) -> None:
        """Jobs may be started until that monotonic time; what waits for trust goes on."""
        self._trusted_until = moment
        self._wake(len(self._waiting))

    def running(self) -> list[Slot]:
        """The slots that run a job."""
        return [slot for slot in self.slots if slot.claim is not None]

    def ask_all_to_stop(self) -> None:
        """Tell everything that runs to stop, for a drain."""
        for slot in self.running():
            slot.ask_to_stop("drain")

    @property
    def free(self) -> int:
        """Slots that run nothing."""
        return sum(1 for slot in self.slots if slot.claim is None)

    def check_deadlines(self, now: float) -> None:
        """Stop what has outlasted its timeout; called by the engine's tick, so that a job pays nothing for its timer."""
        for slot in self.slots:
            if slot.claim is not None and now >= slot.deadline:
                slot.deadline = now + INSIST_EVERY
                slot.ask_to_stop("timeout")

    def overrun(self, now: float) -> bool:
        """Whether every slot is held by a job that has outlasted its timeout by over `OVERRUN` seconds (functions in
        threads, which cannot be stopped): then nothing runs here any more."""
        return all(
            slot.claim is not None and now - slot.started > slot.claim.row["timeout"] + OVERRUN for slot in self.slots
        )

    async def _run(self, slot: Slot) -> None:
        assert self._loop is not None
        loop, handlers, monotonic = self._loop, self._handlers, time.monotonic
        captured = captured_logs.running
        job_log, pace, database, limit = self._log, self._pace, self._database, self._result_limit
        tracing = self._tracing
        traced: Traced | None = None
        if tracing is not None:
            tracing.hush()
        yielded = monotonic()
        while True:
            started = monotonic()
            claim = self._next(started)
            while claim is None:
                self._idle()
                future = loop.create_future()
                self._waiting.append(future)
                await future
                yielded = started = monotonic()
                claim = self._next(started)
            row, kind = claim.row, claim.kind
            handler = handlers[kind]
            slot.started = started
            slot.deadline = started + row["timeout"]
            slot.claim = claim
            captured.set(claim)
            if tracing is None:
                job_log.started(claim.id, kind, claim.attempt)
            else:
                traced = claim.traced = tracing.begin(claim)
                job_log.started(claim.id, kind, claim.attempt, None if traced is None else traced.trace_id)
            context = AttemptContext(row, slot, database, limit)
            end: End | None
            try:
                if handler.mode == "async" and not claim.suspect:
                    arguments = load(handler.job, row["args"], row["version"])
                    value = await handler.function(arguments, context)
                else:
                    value = await self._elsewhere(handler, slot, claim, context)
                if slot.stop is not None or context.completed or isinstance(value, Outcome):
                    end = self._unusual(slot, claim, context, value, monotonic() - started)
                else:
                    finished = monotonic()
                    end = Succeeded(claim, finished - started, encode_result(value, limit))
            except BaseException as error:
                end = self._unusual(slot, claim, context, error, monotonic() - started)
                if isinstance(error, asyncio.CancelledError) and slot.stop is None and slot.task_is_cancelled():
                    slot.claim = None
                    _end_span(claim, end)
                    self._ended(end)
                    raise
            slot.free()
            if claim.suspect:
                self._suspect_runs = False
                self._wake(1)
            finished = monotonic()
            pace.observe(kind, finished - started)
            if traced is not None:
                _end_span(claim, end)
            if type(end) is Succeeded:
                trace_id = None if traced is None else traced.trace_id
                job_log.completed(claim.id, kind, claim.attempt, end.seconds, trace_id)
            self._ended(end)
            if finished - yielded > YIELD_EVERY:
                await asyncio.sleep(0)
                yielded = monotonic()

    def _next(self, now: float) -> Claim | None:
        """The next job to begin, if there is one and this worker may begin any."""
        if now >= self._trusted_until:
            return None
        if self._suspects and not self._suspect_runs:
            self._suspect_runs = True
            return self._suspects.popleft()
        return self.ready.popleft() if self.ready else None

    def _unusual(self, slot: Slot, claim: Claim, context: AttemptContext, what: Any, seconds: float) -> End:
        """The end of an attempt that did not simply return: stopped, completed in a transaction, an outcome or an error."""
        row = claim.row
        if context.completed:
            # The job ended in the handler's own transaction; whatever came after it cannot change that.
            if isinstance(what, BaseException) and not isinstance(what, Outcome):
                log.warning("handler failed after completing its job", job_id=str(claim.id), error=class_name(what))
            self._log.completed(claim.id, claim.kind, claim.attempt, seconds, claim.trace_id)
            return Completed(claim, seconds)
        match slot.stop, what:
            case "timeout", _:
                text = f"the attempt took longer than its timeout of {row['timeout']:g} s"
                return self._failed(claim, seconds, "timeout", "TimeoutError", text, None)
            case "cancelled", _:
                self._log.cancelled(claim.id, claim.kind, claim.attempt, seconds, trace=claim.trace_id)
                return Cancelled(claim, seconds, "cancelled by an operator")
            case "drain" | "lost", BaseException():
                self._log.released(claim.id, claim.kind, claim.attempt, seconds, trace=claim.trace_id)
                return Released(claim, seconds)
            case _, Retry(reason=reason, after=after):
                return self._failed(claim, seconds, "error", "Retry", clean(reason, 10_000), None, delay=after)
            case _, Snooze(for_=for_):
                self._log.snoozed(claim.id, claim.kind, claim.attempt, seconds, for_, claim.trace_id)
                return Snoozed(claim, seconds, for_)
            case _, Discard(reason=reason):
                return self._failed(claim, seconds, "discarded", "Discard", clean(reason, 10_000), None, final=True)
            case _, Cancel(reason=reason):
                self._log.cancelled(claim.id, claim.kind, claim.attempt, seconds, trace=claim.trace_id)
                return Cancelled(claim, seconds, clean(reason, 1000))
            case _, InvalidArguments():
                return self._failed(
                    claim, seconds, "validation", class_name(what), clean(str(what), 10_000), None, final=True
                )
            case _, ResultNotUsable() | PayloadTooLarge():
                return self._failed(claim, seconds, "result", class_name(what), str(what), None, final=True)
            case _, ChildDied():
                return self._failed(claim, seconds, "crash", "ChildDied", str(what), None)
            case _, RemoteFailure():
                final = what.cause in ("validation", "result")
                return self._failed(claim, seconds, what.cause, *what.error, final=final)
            case _, asyncio.CancelledError():
                # The slot itself is being ended, or the handler cancelled itself.
                return self._failed(claim, seconds, "error", "CancelledError", "the handler was cancelled", None)
            case _, BaseException():
                return self._failed(claim, seconds, "error", *describe(what))
        return self._succeeded(claim, seconds, what)

    def _succeeded(self, claim: Claim, seconds: float, value: Any) -> End:
        """A value that came although the handler had been asked to stop for a drain: it is done, so it counts."""
        try:
            result = encode_result(value, self._result_limit)
        except (CarafeError, ResultNotUsable) as error:
            return self._failed(claim, seconds, "result", class_name(error), str(error), None, final=True)
        return Succeeded(claim, seconds, result)

    def _failed(
        self,
        claim: Claim,
        seconds: float,
        cause: str,
        error_class: str,
        error: str,
        traceback: str | None,
        *,
        delay: float | None = None,
        final: bool = False,
    ) -> Failed:
        if delay is None:
            delay = backoff(claim.attempt, base=self._retry_base, cap=self._retry_cap)
        said = f"{error_class}: {error}"
        if final or claim.is_last:
            self._log.failed(claim.id, claim.kind, claim.attempt, seconds, said, claim.trace_id)
        else:
            self._log.retried(claim.id, claim.kind, claim.attempt, seconds, said, delay, claim.trace_id)
        return Failed(claim, seconds, cause, error_class, error, traceback, delay, final)

    # -- threads and processes

    async def _elsewhere(self, handler: Handler, slot: Slot, claim: Claim, context: AttemptContext) -> Any:
        """Run a handler in a thread, or in a child process that a thread watches; always waits for its return."""
        assert self._loop is not None

        def report(fraction: float, note: str) -> None:
            assert self._loop is not None
            asyncio.run_coroutine_threadsafe(context.progress(fraction, note), self._loop)

        def logged(at: float, level: str, text: str) -> None:
            captured_logs.add(claim, at, level, text)

        apart = handler.mode == "process" or claim.suspect
        if not apart:
            arguments = load(handler.job, claim.row["args"], claim.row["version"])
            slot.stop_with = lambda why: None  # the function sees it in ctx.cancelled
            work = self._threads.submit(handler.function, arguments, ThreadContext(context, report))
        else:
            killer = _Killer()
            slot.stop_with = killer.stop
            request = self._request(handler, claim)
            spans = None if self._tracing is None else self._tracing.from_child
            # Its time starts with its handler; until then `carafe.engine.children.START` bounds it.
            slot.deadline = float("inf")

            def begun() -> None:
                slot.deadline = time.monotonic() + claim.row["timeout"]

            work = self._threads.submit(self._children.run, request, killer.started, begun, report, logged, spans)
        future = asyncio.wrap_future(work)
        # Only the end of the worker cancels this wait; the thread itself cannot be stopped.
        answer = await future
        if not apart:
            return answer
        context.completed = answer.get("completed", False)
        return _unpacked(answer)

    def _request(self, handler: Handler, claim: Claim) -> dict[str, Any]:
        row = claim.row
        return {
            "id": str(claim.id),
            "fence": claim.fence,
            "kind": claim.kind,
            "args": row["args"],
            "version": row["version"],
            "attempt": row["attempt"],
            "max_attempts": row["max_attempts"],
            "timeout": row["timeout"],
            "deadline_at": row["deadline_at"].isoformat(),
            "memory_limit": handler.memory_limit or (suspect_memory_limit() if claim.suspect else None),
            "result_limit": self._result_limit,
            "database_url": self._database.url,
            "trace": None if claim.traced is None else claim.traced.here.text,
        }


class Completed(End):
    """Ended in the handler's own transaction: there is nothing left to write."""


class RemoteFailure(Exception):
    """A failure inside a child process: its cause, and (class, message, traceback)."""

    def __init__(self, cause: str, error: Sequence[str]) -> None:
        self.cause, self.error = cause, error
        super().__init__(error[1])


class _Killer:
    """Kills a child, also one that has not started yet when the stop comes."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._stopped = False

    def started(self, child: Child) -> None:
        self._child = child
        if self._stopped:
            child.kill()

    def stop(self, why: Stop) -> None:
        self._stopped = True
        if self._child is not None:
            with contextlib.suppress(OSError):
                self._child.kill()


def _end_span(claim: Claim, end: End) -> None:
    traced = claim.traced
    if traced is None:
        return
    match end:
        case Failed():
            outcome = "dead" if end.final or claim.is_last else "retrying"
            traced.end(outcome, end.cause, (end.error_class, end.error, end.traceback))
        case Succeeded() | Completed():
            traced.end("succeeded", None, None)
        case _:
            traced.end(type(end).__name__.lower(), None, None)


def _unpacked(answer: Mapping[str, Any]) -> Any:
    """A child's answer as what a handler would have returned or raised."""
    import orjson

    match answer:
        case {"completed": True}:
            return None
        case {"result": result}:
            return None if result is None else orjson.Fragment(result)
        case {"outcome": "retry", "reason": reason, "after": after}:
            return Retry(reason, after=after)
        case {"outcome": "snooze", "for": for_}:
            return Snooze(for_)
        case {"outcome": "discard", "reason": reason}:
            return Discard(reason)
        case {"outcome": "cancel", "reason": reason}:
            return Cancel(reason)
    raise RemoteFailure(answer["cause"], answer["error"])
