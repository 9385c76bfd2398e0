"""The runner: executes claimed jobs with exactly as many slots as the concurrency says, and nothing else.

``async def`` handlers run on its loop, each attempt in a task of its own, plain functions in threads, isolated ones in child
processes; all in a clean context. A timeout or a cancel stops the first by cancellation, asks the second (its slot and claim
stay until it returns), and kills the third.
Guarantees: an attempt that has begun has exactly one end, whatever its handler raises, returns, cancels or sets; making it
cannot fail. Nothing of a handler but its own attempt depends on what it does.
Must never: touch the database or Redis; what comes in is claimed, what goes out is an `End`.
"""

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from carafe.database import Database
from carafe.engine import captured_logs
from carafe.engine.attempts import AttemptContext, ThreadContext
from carafe.engine.children import Child, ChildDied, Children, suspect_memory_limit
from carafe.engine.ends import Cancelled, End, Failed, Released, Snoozed, Succeeded
from carafe.engine.handler_connections import close_what_is_left_open
from carafe.engine.hiding import Hiding, loaded
from carafe.engine.left_running import name_what_is_left
from carafe.engine.pace import Pace
from carafe.engine.results import ResultNotUsable, encode_result
from carafe.engine.slot import Claim, Slot, Stop
from carafe.engine.threads import Threads
from carafe.engine.worker_loop import GuardedTask, SharedLoop
from carafe.job_log import JobLog
from carafe.jobs.backoff import backoff
from carafe.jobs.delays import delay_of
from carafe.jobs.errors import InvalidArguments, PayloadTooLarge
from carafe.jobs.handlers import Handler
from carafe.jobs.outcomes import Cancel, Discard, Outcome, Retry, Snooze
from carafe.texts import MAX_ERROR, MAX_TRACEBACK, class_name, clean, describe, in_words, reason_of, text_of

if TYPE_CHECKING:
    from carafe.tracing.attempts import Attempts

log = structlog.stdlib.get_logger("carafe.runner")

YIELD_EVERY = 0.005
"""Seconds after which jobs that never wait let others have the loop."""

OVERRUN = 60.0
"""Seconds beyond its timeout after which a job that cannot be stopped counts as stuck for good."""

INSIST_EVERY = 1.0
"""Seconds between two cancellations of a handler that swallows them."""

DEAF = 3.0
"""Seconds after which a handler that cannot hear of its cancellation (it waits for what is not its own to cancel) gets its
end without having heard of it."""

NOT_BEGUN_PAUSE = 10.0
"""Seconds, at most, until a job that could not be begun is offered again."""

MAX_REASON = 1_000
"""Characters of the reason of a cancel that are kept."""


class Runner:
    """The slots of one worker. Everything here happens on one event loop, but for the functions run in threads."""

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
        """`database` is the handlers'. `ended` is told of every end; `idle` that a slot found nothing to run, both on the
        runner's loop. `retry_base` and `retry_cap` in seconds. `tracing` None: nothing is traced."""
        self._handlers = handlers
        self._database, self._children, self._pace, self._log = database, children, pace, job_log
        self._result_limit, self._retry_base, self._retry_cap = result_limit, retry_base, retry_cap
        self._ended, self._idle, self._tracing = ended, idle, tracing
        self.slots = [Slot(index) for index in range(concurrency)]
        self.ready: deque[Claim] = deque()
        self._suspects: deque[Claim] = deque()
        self._suspect_runs = False
        self._trusted_until = float("inf")
        self._woken = self._begins_some = False
        self.begun = 0
        """Attempts begun so far."""
        self._threads = Threads(concurrency, "carafe handler")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._blank, self._own = Context(), Context()
        self._recursion_limit = sys.getrecursionlimit()
        self._doubtful: set[Claim] = set()
        self._deaf: dict[Claim, float] = {}

    def start(self) -> None:
        """Run jobs on this loop from now on."""
        self._loop = asyncio.get_running_loop()
        if self._tracing is not None:
            self._blank.run(self._tracing.hush)
        self._begin_what_can()

    async def stop(self) -> None:
        """End what still runs; call it when that is nothing, or after `ask_all_to_stop`."""
        tasks = [
            slot.claim.task for slot in self.running() if slot.claim is not None and type(slot.claim.task) is GuardedTask
        ]
        for task in tasks:
            task.stop()
        if tasks:
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
        self._go_on()
        return suspects

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
        self._go_on()

    @property
    def trusted(self) -> bool:
        """Whether jobs may be started now; from any thread."""
        return time.monotonic() < self._trusted_until

    def running(self) -> list[Slot]:
        """The slots that run a job."""
        return [slot for slot in self.slots if slot.claim is not None]

    def ask_all_to_stop(self) -> None:
        """Tell everything that runs to stop, for a drain."""
        for slot in self.slots:
            if (claim := slot.claim) is not None:
                claim.ask_to_stop("drain")

    @property
    def free(self) -> int:
        """Slots that run nothing."""
        return sum(1 for slot in self.slots if slot.claim is None)

    def check_deadlines(self, now: float) -> None:
        """Stop what has outlasted its timeout; called by the engine's tick, so that a job pays nothing for its timer."""
        deaf, self._deaf = self._deaf, {}
        for slot in self.slots:
            claim = slot.claim
            if claim is None:
                continue
            if now >= claim.deadline:
                claim.deadline = now + INSIST_EVERY
                claim.ask_to_stop("timeout")
            if claim.stop is not None and type(claim.task) is GuardedTask and claim.task.deaf:
                since = self._deaf[claim] = deaf.get(claim, now)
                if now - since >= DEAF:
                    self._end_deaf(slot, claim, now)

    def _end_deaf(self, slot: Slot, claim: Claim, now: float) -> None:
        """Its slot and its claim would be held for as long as others go on. Should it ever go on itself, Python has the
        cancellation ready for it."""
        log.warning(
            "a handler that is to stop waits for tasks that are not its own: its attempt ends without it",
            job_id=str(claim.id),
            kind=claim.kind,
        )
        self._over(slot, claim, self._unusual(claim, None, asyncio.CancelledError(), now - claim.started))

    def overrun(self, now: float) -> bool:
        """Whether every slot is held by a job that has outlasted its timeout by over `OVERRUN` seconds (functions in
        threads, which cannot be stopped): then nothing runs here any more."""
        return all(
            (claim := slot.claim) is not None and now - claim.started > claim.row["timeout"] + OVERRUN for slot in self.slots
        )

    @property
    def dead(self) -> int:
        """Slots whose job's task or thread has ended without an end; `revive` gives them one."""
        return sum(1 for slot in self.slots if (claim := slot.claim) is not None and _has_died(claim))

    def revive(self) -> None:
        """Give attempts an end whose task or thread has ended without one, so that their slots go on: a task that was
        cancelled before it began, or what nobody foresaw. Called by the engine's tick; the second look decides, since an
        end may be on its way."""
        before, self._doubtful = self._doubtful, set()
        for slot in self.slots:
            claim = slot.claim
            if claim is None or not _has_died(claim):
                continue
            if claim not in before:
                self._doubtful.add(claim)
                continue
            seconds = time.monotonic() - claim.started
            if claim.stop is None and type(claim.task) is not GuardedTask:
                log.error("an attempt has ended without an end, it counts as failed", job_id=str(claim.id), kind=claim.kind)
            self._over(slot, claim, self._unusual(claim, None, asyncio.CancelledError(), seconds))

    def _begin_what_can(self) -> None:
        """The one place where jobs begin: as many as there are slots, and in their place those after them."""
        self._woken, self._begins_some = False, True
        until = time.monotonic() + YIELD_EVERY
        try:
            for slot in self.slots:
                while slot.claim is None:
                    if not self._begin_next(slot):
                        return
                    if time.monotonic() > until:
                        self._begins_some = False
                        self._go_on()
                        return
        finally:
            self._begins_some = False

    def _go_on(self) -> None:
        if not self._begins_some and not self._woken and self._loop is not None:
            self._woken = True
            self._loop.call_soon(self._begin_what_can, context=self._own)

    def _begin_next(self, slot: Slot) -> bool:
        """Begin a job in a free slot; False when there is none."""
        now = time.monotonic()
        claim = self._next(now)
        if claim is None:
            self._idle()
            return False
        handler = self._handlers[claim.kind]
        self.begun += 1
        claim.started = now
        claim.deadline = now + claim.row["timeout"]
        slot.claim = claim
        context = self._blank.copy()
        try:
            if handler.mode == "async" and not claim.suspect:
                assert self._loop is not None
                attempt = self._attempt(slot, claim, handler)
                if type(self._loop) is SharedLoop:
                    self._loop.begin(attempt, claim, context)
                else:  # another's, in tests of handlers
                    task = claim.task = GuardedTask(attempt, loop=self._loop, name=claim.kind, context=context)
                    task.owner = claim
            elif handler.mode == "process" or claim.suspect:
                killer = _Killer()
                claim.stop_with = killer.stop
                claim.task = self._threads.submit(context, self._attempt_apart, slot, claim, handler, killer)
            else:
                claim.task = self._threads.submit(context, self._attempt_apart, slot, claim, handler, None)
        except Exception as error:
            self._not_begun(slot, claim, error)
            return False
        return True

    def _not_begun(self, slot: Slot, claim: Claim, error: Exception) -> None:
        """The system gives this worker no more threads, or no memory: nothing was spent, and others may do better. Until the
        next beat nothing begins here, lest a sick worker goes through the whole queue."""
        log.error(
            "a job could not be begun, it is left to others",
            job_id=str(claim.id),
            kind=claim.kind,
            error=in_words(error, 500),
        )
        self._trusted_until = 0.0
        claim.over = True
        slot.claim = claim.task = claim.stop_with = None
        if claim.suspect:
            self._suspect_runs = False
        self._ended(Released(claim, 0.0, started=False, defer=NOT_BEGUN_PAUSE))

    def _next(self, now: float) -> Claim | None:
        """The next job to begin, if there is one and this worker may begin any."""
        if now >= self._trusted_until:
            return None
        if self._suspects and not self._suspect_runs:
            self._suspect_runs = True
            return self._suspects.popleft()
        return self.ready.popleft() if self.ready else None

    async def _attempt(self, slot: Slot, claim: Claim, handler: Handler) -> None:
        """One attempt of an ``async def`` handler, the whole life of its task."""
        monotonic = time.monotonic
        row = claim.row
        context: AttemptContext | None = None
        end: End
        try:
            self._begins(claim)
            context = AttemptContext(row, claim, self._database, self._result_limit)
            value = await handler.function(loaded(handler.job, row, claim), context)
            seconds = monotonic() - claim.started
            if claim.stop is not None or context.completed or issubclass(type(value), Outcome):
                end = self._unusual(claim, context, value, seconds)
            else:
                end = Succeeded(claim, seconds, encode_result(value, self._result_limit))
        except BaseException as error:
            end = self._unusual(claim, context, error, monotonic() - claim.started)
        self._over(slot, claim, end)

    def _begins(self, claim: Claim) -> None:
        """Within the attempt's own context."""
        captured_logs.running.set(claim)
        if self._tracing is None:
            self._log.started(claim.id, claim.kind, claim.attempt)
        else:
            traced = claim.traced = self._tracing.begin(claim)
            self._log.started(claim.id, claim.kind, claim.attempt, None if traced is None else traced.trace_id)

    def _over(self, slot: Slot, claim: Claim, end: End) -> None:
        """An attempt has its end: tell it, and begin the next. The only place where a slot comes free."""
        if claim.over:
            return  # given back by a drain that could not wait
        if sys.getrecursionlimit() < self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)  # a handler's; ours needs its own
        claim.over = True
        # The two know each other: left so, thousands of jobs a second would wait for the garbage collector.
        slot.claim = claim.task = claim.stop_with = None
        if claim.hiding is not None:
            end = _without_secrets(end, claim.hiding)
        if claim.suspect:
            self._suspect_runs = False
        self._pace.observe(claim.kind, end.seconds)
        if claim.traced is not None:
            _end_span(claim, end)
        if type(end) is Succeeded:
            self._log.completed(claim.id, claim.kind, claim.attempt, end.seconds, claim.trace_id)
        if claim.connections is not None:
            close_what_is_left_open(claim)
        if claim.left is not None:
            name_what_is_left(claim)
        self._ended(end)
        if not self._begins_some:
            self._go_on()

    def _unusual(self, claim: Claim, context: AttemptContext | None, what: Any, seconds: float) -> End:
        """The end of an attempt that did not simply return. Total: whatever it was, an end comes out."""
        try:
            if sys.getrecursionlimit() < self._recursion_limit:
                sys.setrecursionlimit(self._recursion_limit)
            return self._told(claim, context, what, seconds)
        except BaseException as failure:
            with contextlib.suppress(BaseException):
                log.exception("the end of an attempt could not be made, it counts as failed", job_id=str(claim.id))
            text = f"the attempt ended with {class_name(what)}, and its end could not be made: {in_words(failure, 500)}"
            if claim.hiding is not None:
                try:
                    text = claim.hiding.text(text)
                except BaseException:
                    text = f"the attempt ended with {class_name(what)}, and its end could not be made"
            return Failed(claim, seconds, "error", class_name(what), text, None, self._retry_base)

    def _told(self, claim: Claim, context: AttemptContext | None, what: Any, seconds: float) -> End:
        row, stop = claim.row, claim.stop
        kind = type(what)  # never by `isinstance`, which asks the object
        if context is not None and context.completed:
            # The job ended in the handler's own transaction; whatever came after it cannot change that.
            if issubclass(kind, BaseException) and not issubclass(kind, Outcome):
                log.warning("handler failed after completing its job", job_id=str(claim.id), error=class_name(what))
            self._log.completed(claim.id, claim.kind, claim.attempt, seconds, claim.trace_id)
            return Completed(claim, seconds)
        if stop == "timeout":
            text = f"the attempt took longer than its timeout of {row['timeout']:g} s"
            return self._failed(claim, seconds, "timeout", "TimeoutError", text, None)
        if stop == "cancelled":
            self._log.cancelled(claim.id, claim.kind, claim.attempt, seconds, trace=claim.trace_id)
            return Cancelled(claim, seconds, "cancelled by an operator")
        if not issubclass(kind, BaseException):
            return self._succeeded(claim, seconds, what)
        if stop is not None:
            self._log.released(claim.id, claim.kind, claim.attempt, seconds, trace=claim.trace_id)
            return Released(claim, seconds)
        if issubclass(kind, Outcome):
            return self._said(claim, kind, what, seconds)
        return self._raised(claim, kind, what, seconds)

    def _said(self, claim: Claim, kind: type, what: Any, seconds: float) -> End:
        """The end that an outcome asks for. Its attributes may be anything: a subclass need not call ours."""
        reason = reason_of(getattr(what, "reason", None))
        if issubclass(kind, Retry):
            after = getattr(what, "after", None)
            delay = None if after is None else delay_of("Retry(after=)", after)
            return self._failed(claim, seconds, "error", "Retry", reason, None, delay=delay)
        if issubclass(kind, Snooze):
            for_ = delay_of("Snooze()", getattr(what, "for_", None))
            self._log.snoozed(claim.id, claim.kind, claim.attempt, seconds, for_, claim.trace_id)
            return Snoozed(claim, seconds, for_)
        if issubclass(kind, Discard):
            return self._failed(claim, seconds, "discarded", "Discard", reason, None, final=True)
        if issubclass(kind, Cancel):
            self._log.cancelled(claim.id, claim.kind, claim.attempt, seconds, trace=claim.trace_id)
            return Cancelled(claim, seconds, clean(reason, MAX_REASON))
        return self._failed(claim, seconds, "error", *describe(what))

    def _raised(self, claim: Claim, kind: type, what: Any, seconds: float) -> Failed:
        """The end that an exception makes."""
        if issubclass(kind, InvalidArguments):
            return self._failed(claim, seconds, "validation", class_name(what), text_of(what), None, final=True)
        if issubclass(kind, ResultNotUsable | PayloadTooLarge):
            return self._failed(claim, seconds, "result", class_name(what), text_of(what), None, final=True)
        if issubclass(kind, ChildDied):
            return self._failed(claim, seconds, "crash", "ChildDied", text_of(what), None)
        if issubclass(kind, RemoteFailure):
            final = what.cause in ("validation", "result")
            return self._failed(claim, seconds, what.cause, *what.error, final=final)
        if issubclass(kind, asyncio.CancelledError):
            text = "the handler was cancelled: it cancelled its own task, or awaited something that was cancelled"
            return self._failed(claim, seconds, "error", "CancelledError", text, describe(what)[2])
        return self._failed(claim, seconds, "error", *describe(what))

    def _succeeded(self, claim: Claim, seconds: float, value: Any) -> End:
        """A value that came although the handler had been asked to stop for a drain: it is done, so it counts."""
        try:
            result = encode_result(value, self._result_limit)
        except (ResultNotUsable, PayloadTooLarge) as error:
            return self._failed(claim, seconds, "result", class_name(error), text_of(error), None, final=True)
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
        if claim.hiding is not None:
            error = claim.hiding.text(error)
            traceback = None if traceback is None else claim.hiding.text(traceback)
        said = f"{error_class}: {error}"
        if final or claim.is_last:
            self._log.failed(claim.id, claim.kind, claim.attempt, seconds, said, claim.trace_id)
        else:
            self._log.retried(claim.id, claim.kind, claim.attempt, seconds, said, delay, claim.trace_id)
        return Failed(claim, seconds, cause, error_class, error, traceback, delay, final)

    # -- threads and processes: in a thread of `Threads`, which does nothing else meanwhile

    def _attempt_apart(self, slot: Slot, claim: Claim, handler: Handler, killer: "_Killer | None") -> None:
        """One attempt in this thread, or in a child process that this thread watches; the whole of it, with its end."""
        assert self._loop is not None
        context = AttemptContext(claim.row, claim, self._database, self._result_limit)
        end: End
        try:
            self._begins(claim)
            if killer is None:
                value = self._in_thread(handler, claim, context)
            else:
                value = self._in_child(handler, claim, context, killer)
            seconds = time.monotonic() - claim.started
            if claim.stop is not None or context.completed or issubclass(type(value), Outcome):
                end = self._unusual(claim, context, value, seconds)
            else:
                end = Succeeded(claim, seconds, encode_result(value, self._result_limit))
        except BaseException as error:
            end = self._unusual(claim, context, error, time.monotonic() - claim.started)
        with contextlib.suppress(RuntimeError):  # the loop has ended under it: so has the worker
            self._loop.call_soon_threadsafe(self._over, slot, claim, end, context=Context())

    def _in_thread(self, handler: Handler, claim: Claim, context: AttemptContext) -> Any:
        arguments = loaded(handler.job, claim.row, claim)
        return handler.function(arguments, ThreadContext(context, self._reporting(context)))

    def _in_child(self, handler: Handler, claim: Claim, context: AttemptContext, killer: "_Killer") -> Any:
        def logged(at: float, level: str, text: str) -> None:
            captured_logs.add(claim, at, level, text)

        spans = None if self._tracing is None else self._tracing.from_child
        request = self._request(handler, claim)
        # Its time starts with its handler; until then `carafe.engine.children.START` bounds it.
        claim.deadline = float("inf")

        def begun() -> None:
            claim.deadline = time.monotonic() + claim.row["timeout"]

        def completes(yes: bool) -> None:
            claim.completes = yes

        answer = self._children.run(request, killer.started, begun, completes, self._reporting(context), logged, spans)
        context.completed = answer.get("completed", False)
        return _unpacked(answer)

    def _reporting(self, context: AttemptContext) -> Callable[[float, str], None]:
        def report(fraction: float, note: str) -> None:
            assert self._loop is not None
            # In no context of the handler's: it is not a task that the handler has left running.
            Context().run(asyncio.run_coroutine_threadsafe, context.progress(fraction, note), self._loop)

        return report

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


def _has_died(claim: Claim) -> bool:
    return claim.task is not None and claim.task.done() and not claim.over


class Completed(End):
    """Ended in the handler's own transaction: there is nothing left to write."""


class RemoteFailure(Exception):
    """A failure inside a child process: its cause, and (class, message, traceback)."""

    def __init__(self, cause: str, error: Sequence[Any]) -> None:
        name, message, trace = error
        self.cause = reason_of(cause)
        self.error = clean(name, 500), clean(message, MAX_ERROR), None if trace is None else clean(trace, MAX_TRACEBACK)
        super().__init__(self.error[1])


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


def _without_secrets(end: End, hiding: Hiding) -> End:
    """What a failure says is without them already (`_failed`, `_unusual`), since the log has said it too."""
    match end:
        case Succeeded(result=str(result)):
            return replace(end, result=hiding.json(result))
        case Cancelled():
            return replace(end, reason=hiding.text(end.reason))
    return end


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
