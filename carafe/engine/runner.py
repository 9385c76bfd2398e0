"""The runner executes claimed jobs in a fixed number of slots, which is the worker's concurrency.

Handlers that are ``async def`` run on the event loop, each attempt in a task of its own. Plain functions run in threads,
isolated handlers in child processes. Each attempt has a clean context. At a timeout or a cancel the runner cancels the task,
or kills the child process. A function in a thread can only be asked to stop: it keeps its slot and its claim until it
returns.
Guarantees: for an attempt that has begun, the runner makes exactly one `End`, no matter what its handler raises, returns,
cancels or sets. A handler affects no attempt but its own.
Must never: claim a job, write its end to Postgres, or use Redis. The runner gets claims, and returns an `End` for each. Only
handlers use Postgres here (to report progress, and in their own transactions), on their own connections.
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

from carafe.engine import captured_logs
from carafe.engine.children import Child, ChildDied, Children, NotBegun, NotStarted
from carafe.engine.claim import Claim, Stop
from carafe.engine.completions import (
    ASKED,
    BY_AN_OPERATOR,
    Cancelled,
    Completed,
    End,
    Failed,
    Released,
    Said,
    Succeeded,
    read_outcome,
)
from carafe.engine.contexts import AttemptContext, ThreadContext
from carafe.engine.failures import Failure, failure_of
from carafe.engine.handler_connections import close_what_is_left_open
from carafe.engine.left_running import name_what_is_left
from carafe.engine.lifespans import Values
from carafe.engine.results import ResultNotUsable, encode_result
from carafe.engine.runtimes import Pace
from carafe.engine.slot import Slot
from carafe.engine.suspects import admit
from carafe.engine.threads import Threads
from carafe.engine.worker_loop import GuardedTask, SharedLoop
from carafe.jobs.backoff import backoff
from carafe.jobs.delays import delay_of
from carafe.jobs.errors import PayloadTooLarge
from carafe.jobs.handlers import Handler
from carafe.jobs.hiding import Hiding, loaded
from carafe.jobs.outcomes import Outcome
from carafe.store.database import Database
from carafe.telemetry.job_log import JobLog
from carafe.telemetry.loggers import get_logger
from carafe.texts import MAX_ERROR, MAX_TRACEBACK, class_name, clean, in_words, reason_of, text_of

if TYPE_CHECKING:
    from carafe.tracing.attempts import Attempts

log = get_logger("carafe.runner")

YIELD_EVERY = 0.005
"""When the runner has begun jobs for this many seconds without a break, it lets other code use the event loop before it
begins more."""

OVERRUN = 60.0
"""If a job that cannot be stopped runs this many seconds longer than its timeout, it counts as stuck, and is not expected to
end."""

INSIST_EVERY = 1.0
"""Seconds until a handler is cancelled again after it has ignored a cancellation."""

DEAF = 3.0
"""Seconds after a cancellation until the attempt is ended anyway, when its handler cannot notice the cancellation because it
awaits a task that other code owns."""

NOT_BEGUN_PAUSE = 10.0
"""The maximum number of seconds until the hint of a job that could not be begun is pushed again."""

FREE_RELEASES = 10
"""The number of times that a job goes back to the queue without spending an attempt, because its child process could not
begin it. After that, each time counts as a failed attempt."""


class Runner:
    """The slots of one worker. Everything here happens on one event loop, except functions that run in threads."""

    def __init__(
        self,
        *,
        slots: list[Slot],
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
        shared: Values,
        tracing: "Attempts | None" = None,
    ) -> None:
        """`database` gives handlers their connections, and `shared` has the values of the worker lifespans. The function
        `ended` is called with each `End`, and the function `idle` when a slot is free and no job waits. `retry_base` and
        `retry_cap` are in seconds. When `tracing` is None, nothing is traced."""
        self._handlers = handlers
        self._database, self._children, self._pace, self._log = database, children, pace, job_log
        self._result_limit, self._retry_base, self._retry_cap = result_limit, retry_base, retry_cap
        self._ended, self._idle, self._shared, self._tracing = ended, idle, shared, tracing
        self.slots = slots
        self.ready: deque[Claim] = deque()
        self._trusted_until = float("inf")
        self._woken = self._begins_some = False
        self.begun = 0
        """The number of attempts begun so far."""
        self._threads = Threads(len(slots), "carafe handler")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._blank, self._own = Context(), Context()
        self._recursion_limit = sys.getrecursionlimit()
        self._doubtful: set[Claim] = set()
        self._deaf: dict[Claim, float] = {}

    def start(self) -> None:
        """Run jobs on the current event loop from now on."""
        self._loop = asyncio.get_running_loop()
        if self._tracing is not None:
            self._blank.run(self._tracing.hush)
        self._begin_what_can()

    async def stop(self) -> None:
        """Cancel the tasks of handlers that still run, and end the threads. Before, either all jobs must have ended, or
        `ask_all_to_stop` must have been called."""
        tasks = [
            slot.claim.task for slot in self.running() if slot.claim is not None and type(slot.claim.task) is GuardedTask
        ]
        for task in tasks:
            task.stop()
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        self._threads.stop()

    def offer(self, claims: Sequence[Claim]) -> Sequence[Claim]:
        """Give claimed jobs to the slots, in order. Returns the suspects for which this worker has no room (see
        `carafe.engine.suspects`)."""
        suspects = [claim for claim in claims if claim.suspect]
        refused: Sequence[Claim] = ()
        if suspects:
            held = [claim for claim in (*self.claims(), *self.ready) if claim.suspect]
            refused = admit(suspects, held, len(self.slots))
            without = set(refused)
            claims = [claim for claim in claims if claim not in without]
        self.ready.extend(claims)
        self._go_on()
        return refused

    def withdraw(self) -> list[Claim]:
        """Take back and return the claims that no slot has begun."""
        claims = list(self.ready)
        self.ready.clear()
        return claims

    def forget(self, claim: Claim) -> bool:
        """Take back a claim that waits for a slot. Returns False if it does not wait (its job has begun, for example)."""
        if claim not in self.ready:
            return False
        self.ready.remove(claim)
        return True

    def trust_until(self, moment: float) -> None:
        """Allow jobs to start until the monotonic time `moment`, and start those that wait."""
        self._trusted_until = moment
        self._go_on()

    @property
    def trusted(self) -> bool:
        """Whether jobs may start now (see `reconciliation.TRUST`). Callable from any thread."""
        return time.monotonic() < self._trusted_until

    def running(self) -> list[Slot]:
        """Returns the slots that run a job."""
        return [slot for slot in self.slots if slot.claim is not None]

    def claims(self) -> list[Claim]:
        """Returns the claims that run. Callable from any thread."""
        return [claim for slot in self.slots if (claim := slot.claim) is not None]

    def ask_all_to_stop(self) -> None:
        """Ask all running jobs to stop, for a drain."""
        for slot in self.slots:
            if (claim := slot.claim) is not None:
                claim.ask_to_stop("drain")

    def release_running(self) -> None:
        """Release the jobs that still run because they cannot be stopped. Does not wait until they end, since the process is
        about to exit."""
        now = time.monotonic()
        for slot in self.slots:
            if (claim := slot.claim) is not None:
                claim.over = True
                slot.claim = None
                self._ended(Released(claim, now - claim.started))

    @property
    def free(self) -> int:
        """The number of slots that run no job."""
        return sum(1 for slot in self.slots if slot.claim is None)

    def check_deadlines(self, now: float) -> None:
        """Ask jobs that have exceeded their timeout to stop. Called at each tick of the engine, so that no job needs a timer
        of its own."""
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
        """End an attempt whose handler cannot notice its cancellation, so that its slot becomes free. If the handler ever
        continues, it is cancelled then."""
        log.warning(
            "a handler cannot be stopped because it waits for tasks that are not its own: its attempt ends anyway",
            job_id=str(claim.id),
            kind=claim.kind,
        )
        self._over(slot, claim, self._unusual(claim, None, asyncio.CancelledError(), now - claim.started))

    def overrun(self, now: float) -> bool:
        """Returns whether every slot has a job that runs more than `OVERRUN` seconds longer than its timeout allows. Such
        jobs are functions in threads, which cannot be stopped. If every slot has one, this worker can run no other job."""
        return all(
            (claim := slot.claim) is not None and now - claim.started > claim.row["timeout"] + OVERRUN for slot in self.slots
        )

    @property
    def dead(self) -> int:
        """The number of slots whose job's task or thread has ended without recording an end. `revive` ends these
        attempts."""
        return sum(1 for slot in self.slots if (claim := slot.claim) is not None and _has_died(claim))

    def revive(self) -> None:
        """End attempts whose task or thread has ended without recording an end (because the task was cancelled before it
        began, or there was an unexpected error), so that their slots become free. Called at each tick of the engine. An
        attempt is ended only if two ticks in a row find it in this state, since its end may just be about to be recorded."""
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
                log.error("an attempt has ended without an outcome: it failed", job_id=str(claim.id), kind=claim.kind)
            self._over(slot, claim, self._unusual(claim, None, asyncio.CancelledError(), seconds))

    def _begin_what_can(self) -> None:
        """Begin jobs in all free slots. If a job ends at once, begin the next one in its slot. Jobs begin only here."""
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
        """Begin a job in a free slot. Returns False when there is no job, or when it could not be begun."""
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
                claim.stop_with, claim.where_apart = killer.stop, killer.where
                claim.task = self._threads.submit(context, self._attempt_apart, slot, claim, handler, killer)
            else:
                claim.task = self._threads.submit(context, self._attempt_apart, slot, claim, handler, None)
        except Exception as error:
            self._not_begun(slot, claim, error)
            return False
        return True

    def _not_begun(self, slot: Slot, claim: Claim, error: Exception) -> None:
        """Leave a job to other workers, because this worker could not begin it: the operating system has no more threads or
        memory for it. The job keeps all its attempts. Until the next heartbeat no job starts here, so that this worker does
        not do the same with the whole queue."""
        log.error(
            "a job could not be begun; it is left to other workers",
            job_id=str(claim.id),
            kind=claim.kind,
            error=in_words(error, 500),
        )
        self._trusted_until = 0.0
        claim.over = True
        slot.claim = claim.task = claim.stop_with = None
        self._ended(Released(claim, 0.0, started=False, defer=NOT_BEGUN_PAUSE))

    def _next(self, now: float) -> Claim | None:
        """Returns the next claim to begin. Returns None if no claim waits, or if this worker may not begin jobs now."""
        if now >= self._trusted_until:
            return None
        return self.ready.popleft() if self.ready else None

    async def _attempt(self, slot: Slot, claim: Claim, handler: Handler) -> None:
        """Run one attempt of an ``async def`` handler and make its end. The attempt's task does this and nothing else."""
        monotonic = time.monotonic
        row = claim.row
        context: AttemptContext | None = None
        end: End
        try:
            self._begins(claim)
            context = AttemptContext(row, claim, self._database, self._result_limit, self._shared)
            value = await handler.function(loaded(handler.job, row, claim), context)
            seconds = monotonic() - claim.started
            if claim.stop is not None or context.completed or issubclass(type(value), Outcome):
                end = self._unusual(claim, context, value, seconds)
            else:
                result = context.result if value is None else value
                end = Succeeded(claim, seconds, encode_result(result, self._result_limit))
        except BaseException as error:
            end = self._unusual(claim, context, error, monotonic() - claim.started)
        self._over(slot, claim, end)

    def _begins(self, claim: Claim) -> None:
        """Make `claim` the running claim of the attempt's context, begin the attempt's span, and log that the attempt
        starts. Must be called in that context."""
        captured_logs.running.set(claim)
        if self._tracing is None:
            self._log.started(claim.id, claim.kind, claim.attempt)
        else:
            traced = claim.traced = self._tracing.begin(claim)
            self._log.started(claim.id, claim.kind, claim.attempt, None if traced is None else traced.trace_id)

    def _over(self, slot: Slot, claim: Claim, end: End) -> None:
        """Free the slot of an attempt that has ended, report the end, and begin the next job."""
        if claim.over:
            return  # given back by a drain that could not wait
        if sys.getrecursionlimit() < self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)  # a handler's; ours needs its own
        claim.over = True
        # Break the reference cycle: otherwise thousands of jobs a second would wait for the garbage collector.
        slot.claim = claim.task = claim.stop_with = None
        if claim.hiding is not None:
            end = _without_secrets(end, claim.hiding)
        try:
            self._pace.observe(claim.kind, end.seconds)
            if claim.traced is not None:
                _end_span(claim, end)
            if claim.connections is not None:
                close_what_is_left_open(claim)
            if claim.left is not None:
                name_what_is_left(claim)
        finally:
            # Even if describing the end failed: the claim is over, and nothing else would report it.
            self._ended(end)
            if not self._begins_some:
                self._go_on()

    def _unusual(self, claim: Claim, context: AttemptContext | None, what: Any, seconds: float) -> End:
        """Returns the end of an attempt in all cases but the usual one, in which the handler returned a value. `what` is the
        exception that the handler raised, or the object that it returned. Never raises, since every attempt must get an
        end."""
        try:
            if sys.getrecursionlimit() < self._recursion_limit:
                sys.setrecursionlimit(self._recursion_limit)
            end = self._told(claim, context, what, seconds)
            return self._filled(end) if isinstance(end, Failed) else end
        except BaseException as failure:
            with contextlib.suppress(BaseException):
                log.exception("the outcome of an attempt could not be read; it counts as failed", job_id=str(claim.id))
            name = class_name(what)
            text = f"the attempt ended with {name}, but its outcome could not be read: {in_words(failure, 500)}"
            if claim.hiding is not None:
                try:
                    name, text = claim.hiding.text(name), claim.hiding.text(text)
                except BaseException:
                    name, text = "an unknown class", "the attempt's outcome could not be read"
            return Failed(claim, seconds, "error", name, text, None, self._retry_base)

    def _told(self, claim: Claim, context: AttemptContext | None, what: Any, seconds: float) -> End:
        row, stop = claim.row, claim.stop
        kind = type(what)  # never by `isinstance`, which asks the object
        if context is not None and context.completed:
            # The job ended in the handler's own transaction; whatever came after it cannot change that.
            if (words := context.too_late(what)) is not None:
                _say_too_late(claim, words)
            return Completed(claim, seconds)
        if stop == "timeout":
            text = f"the attempt took longer than its timeout of {row['timeout']:g} s"
            return Failed(claim, seconds, "timeout", "TimeoutError", text, None)
        if stop == "cancelled":
            return Cancelled(claim, seconds, BY_AN_OPERATOR)
        if not issubclass(kind, BaseException):
            return self._succeeded(claim, seconds, context.result if what is None and context is not None else what)
        if stop is not None:
            return Released(claim, seconds)
        if issubclass(kind, Outcome) and (said := read_outcome(what)) is not None:
            return ASKED[said.word].end(claim, seconds, said)
        return self._raised(claim, kind, what, seconds)

    def _raised(self, claim: Claim, kind: type, what: Any, seconds: float) -> End:
        """Returns the end of an attempt whose handler raised the exception `what`, or could not be started because of it."""
        if issubclass(kind, NotStarted):
            log.error(
                "a job's process could not be started; the job is left to other workers",
                job_id=str(claim.id),
                kind=claim.kind,
                error=in_words(what.__cause__ or what, 500),
            )
            return Released(claim, seconds, started=False, defer=NOT_BEGUN_PAUSE)
        if issubclass(kind, NotBegun):
            words = text_of(what)
            if claim.row["releases"] >= FREE_RELEASES:
                return Failed(claim, seconds, "error", "NotBegun", words, None)
            log.error("a job's process could not begin it", job_id=str(claim.id), kind=claim.kind, reason=words)
            return Released(claim, seconds, defer=NOT_BEGUN_PAUSE)
        if issubclass(kind, ChildDied):
            return Failed(claim, seconds, "crash", "ChildDied", text_of(what), None)
        failure = what.failure if issubclass(kind, RemoteFailure) else failure_of(what)
        cause, name, message, trace = failure
        return Failed(claim, seconds, cause, name, message, trace, final=failure.final)

    def _succeeded(self, claim: Claim, seconds: float, value: Any) -> End:
        """Returns the end of an attempt whose handler returned a value although a drain had asked it to stop: a success,
        because the job is done."""
        try:
            result = encode_result(value, self._result_limit)
        except (ResultNotUsable, PayloadTooLarge) as error:
            return self._raised(claim, type(error), error, seconds)
        return Succeeded(claim, seconds, result)

    def _filled(self, end: Failed) -> Failed:
        """Returns the failure `end` with the job's secrets replaced. If it has no delay, the usual backoff becomes its
        delay."""
        claim, delay, traceback = end.claim, end.delay, end.traceback
        if delay is None:
            delay = backoff(claim.attempt, base=self._retry_base, cap=self._retry_cap)
        if claim.hiding is None:
            return replace(end, delay=delay)
        shown = claim.hiding.text
        # The class, too: its name may be made of anything.
        traceback = None if traceback is None else shown(traceback)
        return replace(end, delay=delay, error_class=shown(end.error_class), error=shown(end.error), traceback=traceback)

    # -- threads and processes: in a thread of `Threads`, which does nothing else meanwhile

    def _attempt_apart(self, slot: Slot, claim: Claim, handler: Handler, killer: "_Killer | None") -> None:
        """Run one attempt in this thread, or in a child process that this thread watches, and make its end."""
        assert self._loop is not None
        context = AttemptContext(claim.row, claim, self._database, self._result_limit, self._shared)
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
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and so has the worker
            self._loop.call_soon_threadsafe(self._over, slot, claim, end, context=Context())

    def _in_thread(self, handler: Handler, claim: Claim, context: AttemptContext) -> Any:
        arguments = loaded(handler.job, claim.row, claim)
        assert self._loop is not None
        value = handler.function(arguments, ThreadContext(context, self._reporting(context), self._loop))
        return context.result if value is None else value

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
        if answer.get("too_late") is not None:
            _say_too_late(claim, text_of(answer["too_late"]))
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
            "memory_limit": handler.memory_limit or claim.memory,
            "result_limit": self._result_limit,
            "database_url": self._database.url,
            "trace": None if claim.traced is None else claim.traced.here.text,
        }


def _say_too_late(claim: Claim, words: str) -> None:
    if claim.hiding is not None:
        words = claim.hiding.text(words)
    log.warning("too late: ctx.transaction() has already ended the job", job_id=str(claim.id), kind=claim.kind, what=words)


def _has_died(claim: Claim) -> bool:
    return claim.task is not None and claim.task.done() and not claim.over


class RemoteFailure(Exception):
    """A failure inside a child process. `error` is (class, message, traceback)."""

    def __init__(self, cause: str, error: Sequence[Any]) -> None:
        name, message, trace = error
        traceback = None if trace is None else clean(trace, MAX_TRACEBACK)
        self.failure = Failure(reason_of(cause), clean(name, 500), clean(message, MAX_ERROR), traceback)
        super().__init__(self.failure.error)


class _Killer:
    """Kills an attempt's child process, and asks it where it is. If `stop` is called before the child has started, the child
    is killed as soon as it starts."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._stopped = False

    def started(self, child: Child) -> None:
        self._child = child
        if self._stopped:
            child.kill()

    def where(self) -> list[str] | None:
        return None if self._child is None else self._child.where()

    def stop(self, why: Stop) -> None:
        self._stopped = True
        if self._child is not None:
            with contextlib.suppress(OSError):
                self._child.kill()


def _without_secrets(end: End, hiding: Hiding) -> End:
    """Returns the end with the job's secrets replaced. Failures are returned unchanged, since `_filled` and `_unusual` have
    replaced the secrets in them."""
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
    told = end.settlement()
    error = None if told.cause is None else (told.error_class or "", told.error or "", told.traceback)
    traced.end(end.outcome.name, told.cause, error)


def _unpacked(answer: Mapping[str, Any]) -> Any:
    """Returns the value that the handler in a child process returned, or the outcome that it requested, from the child's
    answer. Raises `RemoteFailure` if the handler failed."""
    import orjson

    match answer:
        case {"completed": True}:
            return None
        case {"result": result}:
            return None if result is None else orjson.Fragment(result)
        case {"outcome": word, "reason": reason, "delay": delay} if word in ASKED:
            return Said(word, reason_of(reason), None if delay is None else delay_of("delay", delay))
    raise RemoteFailure(answer["cause"], answer["error"])
