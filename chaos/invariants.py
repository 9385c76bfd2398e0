"""What must hold after the chaos, whatever was broken meanwhile. Each invariant yields what contradicts it, by job.

The name of a function is the promise; its docstring says how it would be seen to be broken.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import orjson

from carafe import State
from carafe.jobs.states import legal
from chaos.evidence import Evidence, Row
from chaos.jobs import HOOKED_KINDS, INNOCENT

Found = Iterator[tuple[str, str]]
Invariant = Callable[[Evidence], Found]

INVARIANTS: list[Invariant] = []
ENDS = ("succeeded", "dead", "cancelled")


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant that does not hold: the jobs (or requests) that show it, with a word each."""

    name: str
    shown_by: list[tuple[str, str]]


def check(evidence: Evidence) -> list[Broken]:
    """Every invariant that is broken."""
    broken = [Broken(invariant.__name__.replace("_", " "), list(invariant(evidence))) for invariant in INVARIANTS]
    return [one for one in broken if one.shown_by]


def _invariant(function: Invariant) -> Invariant:
    INVARIANTS.append(function)
    return function


# -- what was said to the clients


@_invariant
def nothing_accepted_is_missing(evidence: Evidence) -> Found:
    """An accepted id is in neither table."""
    for request in evidence.ledger.requests:
        if request.outcome == "accepted":
            for job_id in request.ids:
                if job_id not in evidence.live and job_id not in evidence.ended:
                    yield job_id, f"accepted by {request.way}, key {request.key}"


@_invariant
def an_accepted_request_exists_once(evidence: Evidence) -> Found:
    """Its tag stands in another number of jobs than it asked for."""
    for request in evidence.ledger.requests:
        if request.outcome == "accepted":
            for tag, job_id, existing in zip(request.tags, request.ids, request.existing, strict=True):
                found = evidence.tags.get(tag, [])
                if found != ([] if existing else [job_id]):
                    yield job_id, f"tag {tag} (existing: {existing}) is held by {found}"


@_invariant
def nothing_refused_exists(evidence: Evidence) -> Found:
    """A request whose answer said that nothing was stored has a job."""
    for request in evidence.ledger.requests:
        if request.outcome == "refused":
            for tag in request.tags:
                for job_id in evidence.tags.get(tag, ()):
                    yield job_id, f"tag {tag} was refused ({request.word}) by {request.way}, key {request.key}"


@_invariant
def what_is_unknown_exists_once_at_most(evidence: Evidence) -> Found:
    """A tag stands in two jobs, or a part of a bulk exists."""
    for request in evidence.ledger.requests:
        if request.outcome == "unknown":
            counts = Counter(len(evidence.tags.get(tag, ())) for tag in request.tags)
            if any(count > 1 for count in counts):
                yield request.tags[0], f"{request.way}: stored more than once: {dict(counts)}"
            if len(counts) > 1 and "chaos.unique" not in request.kinds:
                yield request.tags[0], f"{request.way}: a part is stored: {dict(counts)}"


@_invariant
def no_request_is_answered_with_an_error_of_the_server(evidence: Evidence) -> Found:
    """An answer of 500 or above other than 503, or one that makes no sense."""
    for text in evidence.ledger.server_errors:
        yield "-", text


@_invariant
def an_order_and_its_job_are_one_commit(evidence: Evidence) -> Found:
    """The application's own row stands without its job, or the other way round."""
    jobs = {job_id for job_id, moves in evidence.moves.items() if moves[0]["kind"] == "chaos.ordered"}
    ordered = set(evidence.orders.values())
    yield from ((job_id, "a job without its order") for job_id in jobs - ordered)
    yield from ((job_id, "an order without its job") for job_id in ordered - jobs)


# -- the one end


@_invariant
def every_job_reaches_an_end_in_time(evidence: Evidence) -> Found:
    """A live row is left after everything was mended and time has passed."""
    for job_id, row in evidence.live.items():
        yield job_id, f"{row['kind']} still {row['state']}, hinted_at {row['hinted_at']}, due_at {row['due_at']}"


@_invariant
def every_job_has_one_end(evidence: Evidence) -> Found:
    """Two rows ended, an end beside a live row, or the witness saw more than one."""
    for job_id, rows in evidence.ended.items():
        if len(rows) > 1 or job_id in evidence.live:
            yield job_id, f"{[row['state'] for row in rows]}, live: {job_id in evidence.live}"
    for job_id, rows in evidence.ends.items():
        if len(rows) > 1:
            yield job_id, f"ended {len(rows)} times: {[row['state'] for row in rows]}"


@_invariant
def a_job_leaves_the_live_table_and_ends_in_one_commit(evidence: Evidence) -> Found:
    """A deletion and an end with different transaction ids."""
    for job_id, moves in evidence.moves.items():
        left = [move["xid"] for move in moves if move["new_state"] is None]
        came = [end["xid"] for end in evidence.ends.get(job_id, ())]
        if left != came:
            yield job_id, f"left in {left}, ended in {came}"


@_invariant
def ends_are_what_the_jobs_ask_for(evidence: Evidence) -> Found:
    """A kind that never fails is dead, or one that always fails has succeeded."""
    for job_id, rows in evidence.ended.items():
        for row in rows:
            causes = [attempt["cause"] for attempt in evidence.attempts.get(job_id, ())]
            if row["state"] == "dead" and row["kind"] in INNOCENT:
                yield job_id, f"{row['kind']} is dead: {causes}: {row['error']}"
            if row["state"] == "succeeded" and row["kind"] in ("chaos.failing", "chaos.discarding", "chaos.poisoned"):
                yield job_id, f"{row['kind']} has succeeded"


# -- claims


@_invariant
def every_move_is_legal(evidence: Evidence) -> Found:
    """A change of state that the transition table does not have: a claim over a running job is one."""
    for job_id, moves in evidence.moves.items():
        for move, end in _with_ends(moves, evidence.ends.get(job_id, [])):
            source = None if move["old_state"] is None else State(move["old_state"])
            if end is not None and not legal(source, State(end)):
                yield (
                    job_id,
                    f"{source} → {end} at {move['at']:%H:%M:%S.%f}, worker {move['old_worker']} → {move['new_worker']}",
                )


def _with_ends(moves: list[Row], ends: list[Row]) -> Iterator[tuple[Row, str | None]]:
    ended = iter(ends)
    for move in moves:
        if move["new_state"] is not None:
            yield move, str(move["new_state"])
        else:
            end = next(ended, None)
            yield move, None if end is None else str(end["state"])


@_invariant
def a_claim_raises_the_fence_and_nothing_else_does(evidence: Evidence) -> Found:
    """A fence that fell, or rose by other than a claim."""
    for job_id, moves in evidence.moves.items():
        for move in moves:
            if move["old_state"] is None or move["new_state"] is None:
                continue
            rise = move["new_fence"] - move["old_fence"]
            if rise != (1 if move["new_state"] == "running" else 0):
                yield job_id, f"{move['old_state']} → {move['new_state']}: fence {move['old_fence']} → {move['new_fence']}"


@_invariant
def nothing_runs_without_a_claim(evidence: Evidence) -> Found:
    """A begin under a fence that was never claimed, before its claim, or twice under one claim."""
    for job_id, begins in evidence.begins.items():
        claims = {move["new_fence"]: move["at"].timestamp() for move in evidence.moves.get(job_id, ()) if _is_claim(move)}
        if len(begins) > len(claims):
            yield job_id, f"began {len(begins)} times under {len(claims)} claims"
        fences = [begin["fence"] for begin in begins if begin["fence"] is not None]
        for fence, count in Counter(fences).items():
            if count > 1 or fence not in claims:
                yield job_id, f"began {count} times under fence {fence}; claimed: {sorted(claims)}"
        for begin in begins:
            if begin["fence"] in claims and begin["begin"] < claims[begin["fence"]]:
                yield job_id, f"began before its claim of fence {begin['fence']}"


@_invariant
def nothing_begins_under_a_claim_that_is_lost(evidence: Evidence) -> Found:
    """A begin more than half a second after the job was taken from its worker (children, slow to start, are left out)."""
    for job_id, begins in evidence.begins.items():
        lost: dict[int, float] = {}
        for move in evidence.moves.get(job_id, ()):
            if move["old_state"] == "running":
                lost.setdefault(move["old_fence"], move["at"].timestamp())
        for begin in begins:
            taken = lost.get(begin["fence"]) if begin["fence"] is not None else None
            if taken is not None and begin["begin"] > taken + 0.5:
                yield (
                    job_id,
                    f"began {begin['begin'] - taken:.1f} s after fence {begin['fence']} was lost, pid {begin['pid']}",
                )


@_invariant
def what_has_returned_is_not_given_back(evidence: Evidence) -> Found:
    """A living worker's attempt was about to return more than half a second before its job was queued again at no cost: its
    end was thrown away. (A drain gives back what has not returned; a lost worker's jobs are the rescuer's.)"""
    for job_id, begins in evidence.begins.items():
        returned = {
            begin["fence"]: evidence.returns[begin["token"]]
            for begin in begins
            if begin["fence"] is not None and begin["token"] in evidence.returns
        }
        for move in evidence.moves.get(job_id, ()):
            if (move["old_state"], move["new_state"]) != ("running", "queued") or move["old_fence"] not in returned:
                continue
            late = move["at"].timestamp() - returned[move["old_fence"]]
            lost = any(at <= move["at"] + timedelta(seconds=1) for at in evidence.lost.get(str(move["old_worker"]), ()))
            if late > 0.5 and not lost:
                yield job_id, f"returned under fence {move['old_fence']}, and was given back {late:.1f} s later"


def _is_claim(move: Row) -> bool:
    return bool(move["new_state"] == "running" and move["new_fence"] != move["old_fence"])


@_invariant
def a_result_is_that_of_the_last_claim(evidence: Evidence) -> Found:
    """A stale owner wrote its result over the new owner's claim."""
    for job_id, rows in evidence.ended.items():
        claims = [move for move in evidence.moves.get(job_id, ()) if _is_claim(move)]
        for row in rows:
            if row["state"] != "succeeded" or not claims:
                continue
            mark = orjson.loads(row["result"]) if row["result"] else None
            if mark is None:
                yield job_id, f"{row['kind']} succeeded without its result"
            elif mark["fence"] not in (None, row["fence"]) or mark["begin"] < claims[-1]["at"].timestamp():
                yield job_id, f"result of fence {mark['fence']} (began {mark['begin']}) stands under fence {row['fence']}"


@_invariant
def a_cancelled_job_never_runs_again(evidence: Evidence) -> Found:
    """A claim of a job that somebody had asked to cancel, or an end as cancelled was answered and is another now."""
    for job_id, moves in evidence.moves.items():
        for move in moves:
            if _is_claim(move) and move["cancel_requested"]:
                yield job_id, f"claimed at {move['at']:%H:%M:%S.%f} after its cancellation was asked for"
    for cancelled in evidence.ledger.cancelled:
        states = [row["state"] for row in evidence.ended.get(cancelled.id, ())]
        if cancelled.state == "cancelled" and states != ["cancelled"]:
            yield cancelled.id, f"was answered as cancelled and is {states}"


@_invariant
def nothing_is_claimed_in_a_paused_queue(evidence: Evidence) -> Found:
    """A claim more than a second after the pause (one may be under way) and before the resumption."""
    claims = [(move["at"], job_id) for job_id, moves in evidence.moves.items() for move in moves if _is_claim(move)]
    for paused, resumed in pairwise(evidence.pauses):
        if paused["paused"]:
            for at, job_id in claims:
                if paused["at"] + timedelta(seconds=1) < at < resumed["at"]:
                    yield job_id, f"claimed {(at - paused['at']).total_seconds():.1f} s after the pause"


# -- attempts


@_invariant
def attempts_never_exceed_the_limit(evidence: Evidence) -> Found:
    """More attempts spent, or recorded as failed, than the job has."""
    for job_id, rows in evidence.ended.items():
        for row in rows:
            failed = len(evidence.attempts.get(job_id, ()))
            if row["attempt"] > row["max_attempts"] or failed > row["max_attempts"]:
                yield job_id, f"{row['attempt']} spent, {failed} recorded, of {row['max_attempts']}"


@_invariant
def every_spent_attempt_is_recorded(evidence: Evidence) -> Found:
    """Spent attempts and records of failed ones differ; a success, or a cancellation while running, has none."""
    for job_id, rows in evidence.ended.items():
        for row in rows:
            failed = len(evidence.attempts.get(job_id, ()))
            expected = {
                "dead": {row["attempt"]},
                "succeeded": {row["attempt"] - 1},
                "cancelled": {row["attempt"], row["attempt"] - 1},
            }[row["state"]]
            if failed not in expected:
                yield job_id, f"{row['kind']} is {row['state']}: {row['attempt']} spent, {failed} recorded"


@_invariant
def a_failure_is_recorded_under_one_claim_once(evidence: Evidence) -> Found:
    """Two failures under one fence, or one under a fence that was never claimed."""
    for job_id, attempts in evidence.attempts.items():
        fences = Counter(attempt["fence"] for attempt in attempts)
        claims = {move["new_fence"] for move in evidence.moves.get(job_id, ()) if _is_claim(move)}
        for fence, count in fences.items():
            if count > 1 or fence not in claims:
                yield job_id, f"{count} failures under fence {fence}; claimed: {sorted(claims)}"


@_invariant
def only_what_spends_raises_the_attempt(evidence: Evidence) -> Found:
    """A claim, a snooze, a promotion raised `attempt`; or anything raised it by more than one."""
    for job_id, moves in evidence.moves.items():
        for move in moves:
            if move["old_attempt"] is None or move["new_attempt"] is None:
                continue
            rise = move["new_attempt"] - move["old_attempt"]
            may = (0, 1) if (move["old_state"], move["new_state"]) == ("running", "queued") else (0,)
            if (move["old_state"], move["new_state"]) == ("running", "retrying"):
                may = (1,)
            if rise not in may:
                yield job_id, f"{move['old_state']} → {move['new_state']} raised the attempt by {rise}"


# -- what hangs on a job


@_invariant
def an_effect_exists_exactly_once(evidence: Evidence) -> Found:
    """A succeeded transactional job without its row or with two, a row of another end, or of a stale claim."""
    for job_id, rows in evidence.ended.items():
        if rows[0]["kind"] == "chaos.effect":
            found = evidence.effects.get(job_id, [])
            if len(found) != (1 if rows[0]["state"] == "succeeded" else 0):
                yield job_id, f"{rows[0]['state']} with {len(found)} effects"
            for effect in found:
                if effect["fence"] != rows[0]["fence"]:
                    yield job_id, f"the effect of fence {effect['fence']} stands under fence {rows[0]['fence']}"
    for job_id in evidence.effects:
        if job_id not in evidence.ended:
            yield job_id, "an effect of a job that has not ended"


@_invariant
def hooks_agree_with_states(evidence: Evidence) -> Found:
    """The status that hooks keep is not the job's state."""
    for job_id, rows in evidence.ended.items():
        row = rows[0]
        if row["kind"] in HOOKED_KINDS:
            status = evidence.status.get(job_id)
            if status is None or status["state"] != row["state"]:
                yield job_id, f"{row['kind']} is {row['state']}, its hooks say {status and status['state']}"


@_invariant
def a_state_and_its_hook_are_one_commit(evidence: Evidence) -> Found:
    """A hook in another transaction than its change, or a change of a hooked kind without its hook."""
    states = {*ENDS, "retrying", "scheduled"}
    for job_id, rows in evidence.ends.items():
        if rows[0]["kind"] not in HOOKED_KINDS:
            continue
        moves = evidence.moves.get(job_id, [])
        changed = [
            (state, move["xid"])
            for move, state in _with_ends(moves, rows)
            if state in states and move["old_state"] is not None
        ]
        hooked = [(hook["state"], hook["xid"]) for hook in evidence.hooked.get(job_id, ()) if hook["state"] in states]
        if sorted(changed) != sorted(hooked):
            yield job_id, f"changed {changed}, hooks ran {hooked}"


@_invariant
def a_unique_key_has_one_live_holder(evidence: Evidence) -> Found:
    """A job got a key before its holder had left."""
    by_key: dict[str, list[Row]] = defaultdict(list)
    for moves in evidence.moves.values():
        for move in moves:
            if move["unique_key"] is not None and None in (move["old_state"], move["new_state"]):
                by_key[move["unique_key"]].append(move)
    for key, changes in by_key.items():
        holder: str | None = None
        for change in sorted(changes, key=lambda move: int(move["seq"])):
            if change["old_state"] is None and holder is not None:
                yield change["job_id"], f"got the key {key} while {holder} held it"
            holder = change["job_id"] if change["old_state"] is None else None


@_invariant
def statistics_agree_with_ends(evidence: Evidence) -> Found:
    """The deltas of a kind and outcome do not add up to the ends that the witness saw."""
    ends = Counter((row["kind"], row["state"]) for rows in evidence.ends.values() for row in rows)
    for key in ends.keys() | {key for key in evidence.statistics if key[1] in ENDS}:
        if ends[key] != evidence.statistics.get(key, 0):
            yield "-", f"{key[0]} {key[1]}: {ends[key]} ended, {evidence.statistics.get(key, 0)} counted"
