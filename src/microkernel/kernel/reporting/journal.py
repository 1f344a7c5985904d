"""What happened: messages of the kernel, logs of plugins, dead letters. Everything here is kept bounded and counted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from itertools import count
from math import isfinite
from typing import Any

from microkernel.errors import KernelError, NotPlainData, RequirementError
from microkernel.kernel.messaging.delivery import EventDelivery
from microkernel.kernel.messaging.event_bus import EventBus
from microkernel.kernel.messaging.rate_limit import RateLimit
from microkernel.kernel.operations.start_order import requires, split
from microkernel.kernel.ports import Clock, Exit
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import DeadLetter, LogRecord, PluginRecord, Registry
from microkernel.kernel.registry.states import DOWN
from microkernel.kernel.runtime.reactor import Reactor
from microkernel.wire import codec, messages
from microkernel.wire.failures import suffix_fields
from microkernel.wire.messages import Failure
from microkernel.wire.texts import valid_texts

_KINDS = {"explain": 20, "direct": 20, "success": 20, "notice": 20, "warn": 30, "error": 40}
_LONGEST = 16_000
"""Characters of a text that was filled in."""
_LONGEST_TRACE = 70_000
_PHASES = {"load": "import", "init": "__init__()", **{name: f"{name}()" for name in ("start", "stop", "export_state")}}
# Loggers remember each level that they were asked about: a worker must not make up ever new ones.
_HIGHEST_LEVEL = 100
# Seconds by which a line may be ahead of the kernel's clock: `mk logs` shows the latest, of all plugins.
_AHEAD = 1.0
# Refusals of one plugin that are reported one by one, a second.
_REFUSALS = 5.0
# Different tracebacks of its handlers that are logged, a second.
_MOST_TRACED = 20
_PLACE = re.compile(r"\{(\w+)\}")
_log = logging.getLogger("microkernel")


class Journal:
    """The kernel's Witness. Its methods that change more than one thing run on the reactor's thread."""

    def __init__(
        self,
        registry: Registry,
        reactor: Reactor,
        clock: Clock,
        on_end: Callable[[Instance, Exit], object],
    ) -> None:
        self.bus: EventBus
        self.answer_ask: Callable[[int, KernelError], object]
        self._registry = registry
        self._reactor = reactor
        self._clock = clock
        self._letters = count(1)
        self.arriving: dict[int, DeadLetter] = {}
        """Dead letters that are not in their plugins' records yet, by id; changed on any thread, each by one C call."""
        self.unhandled = 0
        """Events, but for the kernel's own, that became dead letters before a handler had them. On the reactor's
        thread."""
        self.began: Callable[[Instance], object]
        self.leaves: Callable[[Instance], object]
        self.alive: Callable[[Instance], object]
        self.ended = on_end

    def announce(self, id: str, kind: str, plugin: str, /, **fields: Any) -> None:
        """A message of the kernel: to its logger, and as the event ``kernel.message``. Not on a thread of a plugin."""
        error = KernelError(id, **fields)
        prefix = f"{plugin}  " if plugin else ""
        _log.log(_KINDS[kind], "%s%s", prefix, error, extra={"mk_id": id, "mk_plugin": plugin, "mk_fields": fields})
        self.publish("kernel.message", id=id, level=kind, plugin=plugin, fields=_plain(fields), text=error.text)

    def report(self, level: str, plugin: str, error: KernelError) -> None:
        self.announce(error.id, level, plugin, **error.fields)

    def publish(self, topic: str, **data: Any) -> None:
        """An event of the kernel's own. It waits for nobody."""
        if self.bus.topics.matches[topic]:
            self.bus.emit("kernel", topic, codec.Raw(_encoded(data)), patient=False)

    def changed(self, record: PluginRecord) -> None:
        """A plugin's state is another now."""
        record.since = self._clock.wall()
        record.turned.set()
        self._publish_state(record, record.error)
        if record.is_down != (record.state in DOWN) and record.state in (*DOWN, "active"):
            record.is_down = not record.is_down
            self._tell_dependents(record)

    def _publish_state(self, record: PluginRecord, error: KernelError | None) -> None:
        text = str(error) if error else None
        self.publish("kernel.state", plugin=record.name, state=record.state, generation=record.generation, error=text)

    def _tell_dependents(self, record: PluginRecord) -> None:
        """What a plugin requires has gone, or is back: those that run on without it are shown, and published."""
        for other in self._registry:
            if other.state not in ("starting", "active") or not requires(other.manifest, record.name):
                continue
            error = self.lacks(other)
            if record.is_down and error is not None:
                self.report("warn", other.name, error)
            self._publish_state(other, error or other.error)

    def lacks(self, record: PluginRecord) -> KernelError | None:
        """Return what a plugin requires that is not going to be active by itself, as an error; None if nothing is."""
        for requirement in record.manifest.requires:
            required = self._registry.find(split(requirement)[0])
            if required is not None and required.state in DOWN:
                return RequirementError("MK0225", requirement=requirement, state=required.state)
        return None

    # Witness

    def bury(self, letter: EventDelivery, reason: str, failure: Failure | None = None) -> None:
        """Make a dead letter; ``failure`` is what its handler raised. Also on a plugin's own thread."""
        subscription = letter.subscription
        id = next(self._letters)
        envelope = codec.decode(letter.envelope, messages.Envelope)
        dead = DeadLetter(
            id, subscription.owner, subscription.handler, envelope.topic, envelope.source, envelope.time,
            letter.delivery, codec.plain_text(reason), envelope.data,
            codec.plain_text(failure.traceback, _LONGEST_TRACE) if failure else "", letter.shares,
        )  # fmt: skip
        self.arriving[id] = dead
        self._reactor.post(partial(self._arrived, dead, letter.reply_to, failure))

    def _arrived(self, dead: DeadLetter, reply_to: int, failure: Failure | None) -> None:
        try:
            self._keep(dead, reply_to, failure)
        finally:
            self.arriving.pop(dead.id, None)

    def _keep(self, dead: DeadLetter, reply_to: int, failure: Failure | None) -> None:
        if reply_to:
            error = KernelError("MK0613", handler=dead.handler, topic=dead.topic, reason=dead.reason, letter=dead.id)
            self.answer_ask(reply_to, error)
        if failure is None and not dead.topic.startswith("kernel."):
            self.unhandled += 1
        if dead.plugin not in self._registry:
            return
        record = self._registry.get(dead.plugin)
        record.counts.dead += 1
        record.dead_letters.append(dead)
        if failure is not None and failure.traceback:
            self._trace(record, dead, failure)
        if not dead.topic.startswith("kernel."):  # news of news would have no end
            self._tell_of_letter(record, dead, failure)

    def _trace(self, record: PluginRecord, dead: DeadLetter, failure: Failure) -> None:
        """The traceback is in the plugin's log too; of a handler that raises over and over, once a second."""
        raised = (dead.handler, failure.where, failure.type)
        if raised in record.traced or len(record.traced) >= _MOST_TRACED or not self.admits_line(record):
            return
        if not record.traced:
            self._reactor.later(1.0, record.traced.clear)
        record.traced.add(raised)
        is_news = not dead.topic.startswith("kernel.")  # who hears of logs, and raises, would hear without end
        self._log_failure(record, f"{dead.handler}({dead.topic})", failure, is_news)

    def failed(self, instance: Instance, message: messages.Failed) -> None:
        """A phase of its life raised. What follows is told by whoever waits for it; the log has the traceback."""
        if message.failure.traceback and self.admits_line(instance.record):
            self._log_failure(instance.record, _PHASES.get(message.phase, message.phase), message.failure, False)

    def _log_failure(self, record: PluginRecord, who: str, failure: Failure, is_news: bool) -> None:
        """In no language: who raised, and the traceback, whose last line is the exception."""
        text = f"{who}\n{failure.traceback.rstrip()}"
        line = LogRecord(record.name, self._clock.wall(), logging.ERROR, "log", codec.plain_text(text, _LONGEST_TRACE))
        self._log_line(record, line, is_news)

    def _tell_of_letter(self, record: PluginRecord, dead: DeadLetter, failure: Failure | None) -> None:
        """The first within a second by itself, the others as a number."""
        if record.untold is not None:
            record.untold += 1
            record.untold_reason = dead.reason
            return
        record.untold = 0
        self._reactor.later(1.0, partial(self._tell_of_more, record))
        names: dict[str, Any] = {"handler": dead.handler, "topic": dead.topic, "letter": dead.id}
        if failure is not None and failure.type:
            names |= {"kind": failure.type, "reason": failure.message, **suffix_fields(failure)}
            self.announce("MK0611", "warn", dead.plugin, **names)
        else:
            self.announce("MK0613", "warn", dead.plugin, **names, reason=dead.reason)

    def _tell_of_more(self, record: PluginRecord) -> None:
        untold, record.untold = record.untold, None
        if untold:
            self.announce("MK0618", "warn", record.name, count=untold, reason=record.untold_reason)

    def logged(self, instance: Instance, message: messages.Log) -> None:
        if not self.admits_line(instance.record):
            return
        stream = message.kind if message.kind in _KINDS else "log"
        text = codec.plain_text(message.text)
        if message.kind and message.fields:
            text = _filled(text, message.fields)
        level = _KINDS.get(message.kind, min(max(message.level, 0), _HIGHEST_LEVEL))
        now = self._clock.wall()
        time = min(max(message.time, 0.0), now + _AHEAD) if isfinite(message.time) else now
        self._log_line(instance.record, LogRecord(instance.name, time, level, stream, text))

    def output(self, instance: Instance, stream: str, line: str) -> None:
        if not self.admits_line(instance.record):
            return
        level = logging.WARNING if stream == "stderr" else logging.INFO
        self._log_line(instance.record, LogRecord(instance.name, self._clock.wall(), level, stream, line))

    def refused(self, instance: Instance, error: KernelError) -> None:
        """A message of it had no effect. All are counted; in a flood only the first ones are reported one by one."""
        record = instance.record
        record.counts.refused += 1
        record.last_refusal = error
        if record.refusals is None:
            report = partial(self._report_refusals, record)
            record.refusals = RateLimit(_REFUSALS, self._clock, self._reactor.later, report)
        if record.refusals.take():
            self.report("warn", instance.name, error)

    def _report_refusals(self, record: PluginRecord, count: int) -> None:
        self.announce("MK0632", "warn", record.name, count=count, reason=str(record.last_refusal))

    def admits_line(self, record: PluginRecord) -> bool:
        """Whether one more line of its log or output is kept. On the reactor's thread."""
        limit = record.manifest.limits.lines
        if not limit:
            return True
        if record.lines is None or record.lines.per_second != limit:
            report = partial(self._report_lines, record)
            record.lines = RateLimit(limit, self._clock, self._reactor.later, report)
        return record.lines.take()

    def _report_lines(self, record: PluginRecord, count: int) -> None:
        self.announce("MK0631", "warn", record.name, count=count, limit=record.manifest.limits.lines)

    def _log_line(self, record: PluginRecord, line: LogRecord, is_news: bool = True) -> None:
        record.logs.append(line)
        logger = logging.getLogger(f"microkernel.plugin.{record.name}")
        if logger.isEnabledFor(line.level):
            logger.log(line.level, "%s", line.text, extra={"mk_stream": line.stream})
        if is_news:
            self.publish(
                f"kernel.log.{record.name}",
                plugin=line.plugin, time=line.time, level=line.level, stream=line.stream, text=line.text,
            )  # fmt: skip


def _filled(text: str, fields: dict[str, Any]) -> str:
    """``{name}`` is filled in and nothing else is: the text is a plugin's, and ``str.format`` can do much more. A short
    text can name a long field very often."""
    parts, length, end = [], 0, 0
    for found in _PLACE.finditer(text):
        parts += [text[end : found.start()], codec.plain_text(str(fields.get(found[1], found[0])))]
        length, end = length + len(parts[-2]) + len(parts[-1]), found.end()
        if length > _LONGEST:
            break
    return codec.plain_text("".join([*parts, text[end:]]))


def _encoded(data: dict[str, Any]) -> bytes:
    try:
        return codec.encode(data)
    except NotPlainData:  # a name of a file, for example, that is not UTF-8
        return codec.encode(valid_texts(data))


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, str | int | float | None) else str(value) for key, value in fields.items()}
