"""What a run says at its end: counts, faults, the slowest recoveries, and what is broken."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

from chaos.agreement import AGREEMENTS
from chaos.evidence import Evidence
from chaos.invariants import INVARIANTS, Broken
from chaos.load import Load
from chaos.schedule import Done, Schedule
from chaos.world import World

QUICK = ("chaos.plain", "chaos.unique", "chaos.effect", "chaos.failing")

SHOWN = 8
"""Jobs shown of one broken invariant; the file has them all."""


def text(world: World, load: Load, schedule: Schedule, evidence: Evidence, broken: list[Broken], settled: float) -> str:
    """The report."""
    ledger = evidence.ledger
    outcomes = Counter(str(request.outcome) for request in ledger.requests)
    states = Counter((rows[0]["kind"], rows[0]["state"]) for rows in evidence.ended.values())
    kinds = sorted({kind for kind, _ in states})
    lines = ["", f"{'kind':<20}{'succeeded':>10}{'dead':>8}{'cancelled':>11}"]
    for kind in kinds:
        succeeded, dead, cancelled = (states[kind, state] for state in ("succeeded", "dead", "cancelled"))
        lines.append(f"{kind:<20}{succeeded:>10}{dead:>8}{cancelled:>11}")
    claims = sum(move["new_state"] == "running" for moves in evidence.moves.values() for move in moves)
    causes = Counter(attempt["cause"] for attempts in evidence.attempts.values() for attempt in attempts)
    lines += [
        "",
        f"jobs accepted {ledger.jobs}, ended {sum(states.values())}, live {len(evidence.live)}",
        f"claims {claims}, begins {sum(map(len, evidence.begins.values()))}",
        f"requests: {_counted(outcomes)}; repeated {sum(request.tries > 1 for request in ledger.requests)}",
        f"slowest answer {load.slowest:.1f} s; cancellations answered {len(ledger.cancelled)}",
        f"failed attempts: {_counted(causes)}",
        f"effects {sum(map(len, evidence.effects.values()))}, hooks run {sum(map(len, evidence.hooked.values()))}",
        f"processes that ended by themselves: {_counted(Counter(f'{name} with {code}' for _, name, code in world.exits))}",
        f"drains: {_counted(Counter(f'code {code}' for _, code, _ in world.drains))}",
        f"slowest drain {max((seconds for _, _, seconds in world.drains), default=0.0):.1f} s",
        f"replies lost: {sum(link.lost for link in world.network.links.values())}",
        "",
        f"faults: {len(schedule.done)} ({schedule.skipped} left out, their targets were held): "
        + _counted(Counter(type(done.fault).__name__ for done in schedule.done)),
    ]
    lines += [f"  note: {note}" for note in schedule.notes[:10]]
    lines += [f"long claim: {word}" for word in _long_claims(evidence)]
    recoveries = sorted(_recoveries(evidence, schedule.done), key=lambda found: -found[0])[:3]
    lines += [
        f"slow recovery: {seconds:.1f} s from the end of {fault} to the next job's end" for seconds, fault in recoveries
    ]
    lines += [
        f"after the chaos everything live had ended within {settled:.1f} s" if not evidence.live else "not settled",
        "",
    ]
    for one in broken:
        lines.append(f"BROKEN: {one.name} ({len(one.shown_by)})")
        lines += [f"    {job_id}  {word}" for job_id, word in one.shown_by[:SHOWN]]
    promises = len(INVARIANTS) + len(AGREEMENTS)
    lines.append(f"{promises - len(broken)} of {promises} invariants hold")
    return "\n".join(lines)


def _counted(counts: "Counter[str]") -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def _long_claims(evidence: Evidence) -> list[str]:
    """The claims of jobs of milliseconds that lasted longest: lost replies, lost ends, lost workers."""
    found: list[tuple[float, str]] = []
    for job_id, moves in evidence.moves.items():
        if moves[0]["kind"] in QUICK:
            for claim, after in pairwise(moves):
                if claim["new_state"] == "running":
                    seconds = (after["at"] - claim["at"]).total_seconds()
                    found.append((seconds, f"{seconds:.1f} s, {job_id}, then {after['new_state'] or 'ended'}"))
    return [word for _, word in sorted(found, reverse=True)[:3]]


def _recoveries(evidence: Evidence, done: list[Done]) -> list[tuple[float, str]]:
    """Seconds from a fault's end to the first end of a job that was accepted after it (other faults may last)."""
    lives = sorted(
        (evidence.moves[job_id][0]["at"].timestamp(), rows[0]["at"].timestamp())
        for job_id, rows in evidence.ends.items()
        if job_id in evidence.moves
    )
    found = []
    for fault in done:
        first = min((ended for began, ended in lives if began >= fault.ended), default=None)
        if first is not None and fault.ended:
            found.append((first - fault.ended, str(fault.fault)))
    return found


def write_all(broken: list[Broken], evidence: Evidence, path: Path) -> None:
    """Every broken invariant with everything that is known of its jobs, for reading afterwards."""
    with open(path, "w") as file:
        for one in broken:
            file.write(f"{one.name} ({len(one.shown_by)})\n")
            for job_id, word in one.shown_by:
                file.write(f"  {job_id}  {word}\n")
                for name in ("moves", "ends", "hooked", "attempts", "effects", "begins", "ended"):
                    for row in getattr(evidence, name).get(job_id, ()):
                        kept = {key: str(value) for key, value in row.items() if value is not None and key != "traceback"}
                        file.write(f"      {name}: {kept}\n")
