"""The ledger: what was sent, handled, dead and dropped, and how each call ended; and from that, what is wrong.

Pure: facts in, a verdict out. It knows nothing of the kernel, and believes nothing that the kernel says of itself but
its dead letters, its counts of drops, and when it decided to end somebody.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.evidence import Fact

SLACK = 1.0
"""Seconds that a call may take beyond its deadline: two busy cores, and plugins that spin in the kernel's process."""
ANSWERS = frozenset(
    {"value", "CallTimeout", "CallFailed", "PluginDied", "PluginNotActive", "CallDeadlock", "MailboxFull"}
)
"""How a call to a method that exists may end."""
DROPPING = ("drop_oldest", "drop_newest")


@dataclass(slots=True)
class Sent:
    """An event: when its emit ``began`` and ``returned``, and when all its listeners were known (``arrived``)."""

    emitter: str
    generation: int
    topic: str
    began: float
    returned: float | None = None
    arrived: float | None = None


@dataclass(slots=True)
class Call:
    caller: str
    generation: int
    timeout: float
    began: float
    ended: float | None = None
    outcome: str = ""


@dataclass(slots=True)
class Verdict:
    """Counts, and a line for each thing that is wrong, by what is wrong with it."""

    sent: int = 0
    unreturned: int = 0
    deliveries: int = 0
    handled: int = 0
    redelivered: int = 0
    dead: int = 0
    dropped: int = 0
    absent: int = 0
    lost: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    drops_wrong: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    late: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        kinds = ("lost", "strays", "drops_wrong", "late", "unanswered", "wrong", "troubles")
        return [f"{kind}: {line}" for kind in kinds for line in getattr(self, kind)]


class Ledger:
    """``audience``: who listens to a topic. ``overflow``: the policy of each plugin's subscriptions."""

    def __init__(self, audience: Mapping[str, Sequence[str]], overflow: Mapping[str, str]) -> None:
        self._audience = audience
        self._overflow = overflow
        self._sent: dict[str, Sent] = {}
        self._calls: dict[str, Call] = {}
        self._begun: Counter[tuple[str, str]] = Counter()
        self._done: Counter[tuple[str, str]] = Counter()
        self._dead: Counter[tuple[str, str]] = Counter()
        self._dropped: Counter[str] = Counter()
        self._absences: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self._stops: defaultdict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
        self._cuts: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        self._last: dict[str, int] = {}
        self._verdict = Verdict()
        self._readers = {
            "emitting": self._emitting,
            "emitted": self._emitted,
            "arrived": self._arrived,
            "began": lambda fact: self._count(self._begun, fact),
            "done": lambda fact: self._count(self._done, fact),
            "dead": lambda fact: self._count(self._dead, fact),
            "dropped": self._drop,
            "absent": lambda fact: self._absences[fact.who].append((float(fact.words[0]), fact.time)),
            "stopped": lambda fact: self._stops[fact.who, fact.generation].append((float(fact.words[0]), fact.time)),
            "cut": lambda fact: self._cuts[fact.who].append((float(fact.words[0]), fact.generation)),
            "calling": self._calling,
            "called": self._called,
            "last": lambda fact: self._last.update({fact.who: fact.generation}),
            "fault": lambda fact: self._verdict.faults.update([fact.words[0]]),
            "trouble": lambda fact: self._verdict.troubles.append(f"{fact.who} {' '.join(fact.words)}"),
        }

    # Facts

    def read(self, fact: Fact) -> None:
        self._readers[fact.kind](fact)

    def _emitting(self, fact: Fact) -> None:
        id, topic = fact.words
        self._sent[id] = Sent(fact.who, fact.generation, topic, fact.time)

    def _emitted(self, fact: Fact) -> None:
        self._sent[fact.words[0]].returned = fact.time

    def _arrived(self, fact: Fact) -> None:
        self._sent[fact.words[0]].arrived = fact.time

    def _count(self, counter: Counter[tuple[str, str]], fact: Fact) -> None:
        counter[fact.words[0], fact.who] += 1

    def _drop(self, fact: Fact) -> None:
        self._dropped[fact.who] += int(fact.words[0])

    def _calling(self, fact: Fact) -> None:
        id, timeout = fact.words
        self._calls[id] = Call(fact.who, fact.generation, float(timeout), fact.time)

    def _called(self, fact: Fact) -> None:
        call = self._calls[fact.words[0]]
        call.ended, call.outcome = fact.time, fact.words[1]

    # The verdict

    def verdict(self) -> Verdict:
        """After the last fact, once."""
        missing: Counter[str] = Counter()
        unseen: Counter[str] = Counter()
        for id, sent in self._sent.items():
            self._judge_event(id, sent, missing, unseen)
        self._judge_drops(missing, unseen)
        self._judge_strays()
        for id, call in self._calls.items():
            self._judge_call(id, call)
        self._verdict.redelivered = sum(n - 1 for n in self._begun.values() if n > 1)
        self._verdict.handled = len(self._done)
        self._verdict.dead = self._dead.total()
        return self._verdict

    def _judge_event(self, id: str, sent: Sent, missing: Counter[str], unseen: Counter[str]) -> None:
        verdict = self._verdict
        counts = self._counts(sent)
        verdict.sent += counts
        verdict.unreturned += not counts
        if counts and sent.arrived is None:
            verdict.lost.append(f"{id} on {sent.topic} of {sent.emitter} never arrived")
        for plugin in self._audience[sent.topic]:
            verdict.deliveries += counts
            if (id, plugin) in self._done or (id, plugin) in self._dead:
                continue
            unseen[plugin] += 1
            if not counts or sent.arrived is None:
                continue
            if self._was_absent(plugin, sent):
                verdict.absent += 1
            elif self._overflow[plugin] in DROPPING:
                missing[plugin] += 1
            else:
                verdict.lost.append(f"{id} on {sent.topic} of {sent.emitter} at {sent.began:.3f}, for {plugin}")

    def _counts(self, sent: Sent) -> bool:
        """Whether it is sent: its emit returned, and before the kernel had decided to end its emitter."""
        if sent.returned is None:
            return False
        cuts = self._cuts[sent.emitter]
        return not any(generation == sent.generation and sent.returned >= time for time, generation in cuts)

    def _was_absent(self, plugin: str, sent: Sent) -> bool:
        """Return whether the plugin was stopped during a part of the time in which the listeners were looked up."""
        assert sent.arrived is not None
        return any(sent.began <= until and since <= sent.arrived for since, until in self._absences[plugin])

    def _judge_drops(self, missing: Counter[str], unseen: Counter[str]) -> None:
        """What a policy dropped is counted: all that is missing, and no more than was not seen. (After a death more may
        be: what was handled, and was given back because nobody had heard of that, can be dropped too.)"""
        for plugin, policy in self._overflow.items():
            counted = self._dropped[plugin]
            self._verdict.dropped += counted
            most = 0 if policy not in DROPPING else unseen[plugin] if self._last.get(plugin, 1) == 1 else counted
            if not missing[plugin] <= counted <= most:
                said = f"{plugin}: {missing[plugin]} are missing, {counted} counted as dropped"
                self._verdict.drops_wrong.append(said)

    def _judge_strays(self) -> None:
        """Every handled event was sent to the plugin that handled it, and every finished handler had started."""
        for id, plugin in {*self._begun, *self._done, *self._dead}:
            sent = self._sent.get(id)
            if sent is None or plugin not in self._audience[sent.topic]:
                self._verdict.strays.append(f"{id} at {plugin}")
        for key, times in self._done.items():
            if times > self._begun[key]:
                self._verdict.strays.append(f"{key[0]} at {key[1]}: done more often than begun")

    def _judge_call(self, id: str, call: Call) -> None:
        said = f"{id} of {call.caller}"
        if call.ended is None:
            if call.generation >= self._last.get(call.caller, 0):  # else its caller died waiting
                self._verdict.unanswered.append(said)
            return
        self._verdict.outcomes[call.outcome] += 1
        if call.outcome not in ANSWERS:
            self._verdict.wrong.append(f"{said}: {call.outcome}")
        stops = self._stops[call.caller, call.generation]
        held = sum(max(0.0, min(call.ended, until) - max(call.began, since)) for since, until in stops)
        took = call.ended - call.began - held
        if took > call.timeout + SLACK:
            self._verdict.late.append(f"{said}: {took:.3f} s of {call.timeout} s, {call.outcome}")
