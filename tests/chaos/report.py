"""The result of a trial, for people."""

from __future__ import annotations

from array import array
from collections import Counter

from tests.chaos.harness import Result
from tests.chaos.ledger import SLACK
from tests.chaos.processes import Look

_SHOWN = 40
"""Lines of problems that are printed, the rarest kinds first."""


def report(result: Result) -> str:
    parts = (_faults, _events, _calls, _answers, _left, _end)
    return "\n".join(line for part in parts for line in part(result))


def _faults(result: Result) -> list[str]:
    faults = result.verdict.faults
    lines = [f"faults      {faults.total()} in {result.seconds:.0f} s"]
    lines += [f"  {number:6}  {kind.replace('_', ' ')}" for kind, number in faults.most_common()]
    return [*lines, f"            {_listed(result.counts)}", f"kernel said {_listed(result.said)}"]


def _events(result: Result) -> list[str]:
    v = result.verdict
    return [
        f"events      {v.sent} sent (and {v.unreturned} whose emitter ended over it), {v.deliveries} deliveries due",
        f"            {v.handled} handled, {v.redelivered} redelivered, {v.dead} dead letters,",
        f"            {v.dropped} dropped by policy, {v.absent} for plugins that were stopped",
        f"            lost = {len(v.lost)}",
    ]


def _calls(result: Result) -> list[str]:
    v = result.verdict
    return [
        f"calls       {v.outcomes.total()} ended: {_listed(v.outcomes)}",
        f"            late = {len(v.late)} (deadline and {SLACK} s), unanswered = {len(v.unanswered)}",
    ]


def _answers(result: Result) -> list[str]:
    return [f"answers     {what:16} {_percentiles(seconds)}" for what, seconds in result.answers.items()]


def _percentiles(seconds: array[float]) -> str:
    ordered = sorted(seconds)
    at = {f"p{p}": ordered[len(ordered) * p // 100] for p in (50, 99)} | {"max": ordered[-1]} if ordered else {}
    return ", ".join([f"{len(ordered)} times", *(f"{name} {value * 1000:.1f} ms" for name, value in at.items())])


def _left(result: Result) -> list[str]:
    looks = {"before": result.before, "start": result.start, "end": result.end, "after": result.after}
    return [f"{name:11} {_seen(each)}" for name, each in looks.items()]


def _seen(look: Look) -> str:
    return (
        f"{look.memory / 2**20:.1f} MiB, {look.descriptors} descriptors, {look.threads} threads,"
        f" {look.processes} processes, {look.instances} instances"
    )


def _end(result: Result) -> list[str]:
    problems = result.problems
    if not problems:
        return ["✓ nothing lost, nothing late, nothing left"]
    often = Counter(problem.partition(":")[0] for problem in problems)
    rarest = sorted(problems, key=lambda problem: often[problem.partition(":")[0]])
    shown = [f"✗ {problem[:2000]}" for problem in rarest[:_SHOWN]]
    return [*shown, f"✗ {len(problems)} problems; seed {result.seed}"]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items())) or "nothing"
