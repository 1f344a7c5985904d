"""Journal of the kernel's messages, plugins' logs and dead letters. Everything kept here is bounded and counted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import field
from functools import partial
from math import isfinite
from typing import Any
from weakref import WeakKeyDictionary, ref

from microkernel.errors import KernelError, NotPlainData, RequirementError
from microkernel.kernel.messaging.dead_letters import MAX_TRACEBACK, Arrival, DeadLetter, DeadLetters
from microkernel.kernel.messaging.event_bus import BY_KERNEL, EventBus
from microkernel.kernel.ports import Clock, Reactor
from microkernel.kernel.registry.record import LogRecord, PluginRecord, Registry
from microkernel.kernel.registry.states import DOWN
from microkernel.kernel.reporting.rate_limit import RateLimit
from microkernel.kernel.requirements import requires, split
from microkernel.wire import codec, messages
from microkernel.wire.failures import suffix_fields
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.messages import Failure
from microkernel.wire.texts import valid_texts

_KINDS = {"explain": 20, "direct": 20, "success": 20, "notice": 20, "warn": 30, "error": 40}
# Most characters of a text with its fields filled in.
_LONGEST = 16_000
_PHASES = {"load": "import", "init": "__init__()", **{name: f"{name}()" for name in ("start", "stop", "export_state")}}
# Loggers remember each level that they were asked about, so the number of levels that a worker can use is bounded.
_HIGHEST_LEVEL = 100
# Seconds by which a line may be ahead of the kernel's clock. `mk logs` shows the latest lines of all plugins, so a line
# from the future would stay at the end.
_AHEAD = 1.0
# Refusals of one plugin that are reported one by one, per second.
_REFUSALS = 5.0
# Different tracebacks of one plugin's handlers that are logged, per second.
_MOST_TRACED = 20
_PLACE = re.compile(r"\{(\w+)\}")
_log = logging.getLogger("microkernel")


@dataclass(slots=True)
class _Notes:
    """Notes on one plugin, kept to report a flood as a number.

    ``suppressed``: dead letters of this second that were not reported one by one, None if there was no dead letter;
    ``suppressed_reason`` is the reason of the last. ``traced``: (handler, place, exception type) of the tracebacks
    logged within this second. ``lines`` and ``refusals`` are created at first use. ``is_down``: it has been reported
    for its dependents that the plugin is not active, and will not become active by itself.
    """

    suppressed: int | None = None
    suppressed_reason: str = ""
    traced: set[tuple[str, str, str]] = field(default_factory=set)
    lines: RateLimit | None = None
    refusals: RateLimit | None = None
    last_refusal: KernelError | None = None
    is_down: bool = False


class Journal:
    """Publishes messages of the kernel, and keeps the logs and dead letters of plugins.

    Methods that make several changes run on the reactor's thread. ``answer_ask`` answers an ask whose event became a
    dead letter.
    """

    def __init__(
        self,
        registry: Registry,
        reactor: Reactor,
        clock: Clock,
        bus: EventBus,
        dead_letters: DeadLetters,
        answer_ask: Callable[[int, KernelError], object],
    ) -> None:
        self._registry = registry
        self._reactor = reactor
        self._clock = clock
        self._bus = bus
        self._answer_ask = answer_ask
        self._notes: WeakKeyDictionary[PluginRecord, _Notes] = WeakKeyDictionary()
        # Events, except the kernel's own, that became dead letters before a handler got them. On the reactor's thread.
        self.unhandled = 0
        dead_letters.consume(self._keep)

    def _notes_of(self, record: PluginRecord) -> _Notes:
        """Return the notes of a plugin. On any thread: if two threads create them, both get those of the first."""
        notes = self._notes.get(record)
        return notes if notes is not None else self._notes.setdefault(record, _Notes())

    def announce(self, id: str, kind: str, plugin: str, /, **fields: Any) -> None:
        """Log a message of the kernel, and emit it as ``kernel.message``. Not on a plugin's thread."""
        error = KernelError(id, **fields)
        prefix = f"{plugin}  " if plugin else ""
        _log.log(_KINDS[kind], "%s%s", prefix, error, extra={"mk_id": id, "mk_plugin": plugin, "mk_fields": fields})
        self.publish("kernel.message", id=id, level=kind, plugin=plugin, fields=_plain(fields), text=error.text)

    def report(self, level: str, plugin: str, error: KernelError) -> None:
        self.announce(error.id, level, plugin, **error.fields)

    def publish(self, topic: str, **data: Any) -> None:
        """Emit an event of the kernel. Never waits."""
        if self._bus.topics.matches[topic]:
            self._bus.emit("kernel", topic, codec.Raw(_encoded(data)), mode=BY_KERNEL)

    def changed(self, record: PluginRecord) -> None:
        """Report that the state of a plugin has changed. With the record's lock held, or on the reactor's thread."""
        record.since = self._clock.wall()
        record.state_changed.set()
        self._publish_state(record, record.error)
        notes = self._notes_of(record)
        if notes.is_down != (record.state in DOWN) and record.state in (*DOWN, "active"):
            notes.is_down = not notes.is_down
            self._report_dependents(record, is_down=notes.is_down)

    def _publish_state(self, record: PluginRecord, error: KernelError | None) -> None:
        text = str(error) if error else None
        self.publish("kernel.state", plugin=record.name, state=record.state, generation=record.generation, error=text)

    def _report_dependents(self, record: PluginRecord, *, is_down: bool) -> None:
        """Report the plugins that run without a required plugin, or that have it back."""
        for other in self._registry:
            if other.state not in ("starting", "active") or not requires(other.manifest, record.name):
                continue
            error = self.lacks(other)
            if is_down and error is not None:
                self.report("warn", other.name, error)
            self._publish_state(other, error or other.error)

    def lacks(self, record: PluginRecord) -> KernelError | None:
        """Return an error for the first required plugin that is down and will stay so by itself; None without one."""
        for requirement in record.manifest.requires:
            required = self._registry.find(split(requirement)[0])
            if required is not None and required.state in DOWN:
                return RequirementError("MK0225", requirement=requirement, state=required.state)
        return None

    # Dead letters

    def _keep(self, arrival: Arrival) -> None:
        dead, reply_to, failure = arrival.letter, arrival.reply_to, arrival.failure
        if reply_to:
            error = KernelError("MK0613", handler=dead.handler, topic=dead.topic, reason=dead.reason, letter=dead.id)
            self._answer_ask(reply_to, error)
        if failure is None and not dead.topic.startswith("kernel."):
            self.unhandled += 1
        if dead.plugin not in self._registry:
            return
        record = self._registry.get(dead.plugin)
        record.counts.dead += 1
        record.dead_letters.append(dead)
        if failure is not None and failure.traceback:
            self._trace(record, dead, failure)
        if not dead.topic.startswith("kernel."):  # else reports of undelivered reports would never end
            self._tell_of_letter(record, dead, failure)

    def _trace(self, record: PluginRecord, dead: DeadLetter, failure: Failure) -> None:
        """Log the traceback in the plugin's log too; at most once a second for the same exception of a handler."""
        raised = (dead.handler, failure.where, failure.type)
        traced = self._notes_of(record).traced
        if raised in traced or len(traced) >= _MOST_TRACED or not self.admits_line(record):
            return
        if not traced:
            self._reactor.later(1.0, traced.clear)
        traced.add(raised)
        is_news = not dead.topic.startswith("kernel.")  # else a handler of log events that raises would never stop
        self._log_failure(record, f"{dead.handler}({dead.topic})", failure, is_news)

    # Reports of instances

    def failed(self, record: PluginRecord, message: messages.Failed) -> None:
        """Log the traceback of a lifecycle phase that failed. The thread that waits for the phase reports the error."""
        if message.failure.traceback and self.admits_line(record):
            self._log_failure(record, _PHASES.get(message.phase, message.phase), message.failure, False)

    def _log_failure(self, record: PluginRecord, who: str, failure: Failure, is_news: bool) -> None:
        """Log the code that raised, and the traceback, which ends with the exception. Not translated."""
        text = f"{who}\n{failure.traceback.rstrip()}"
        line = LogRecord(record.name, self._clock.wall(), logging.ERROR, "log", codec.plain_text(text, MAX_TRACEBACK))
        self._log_line(record, line, is_news)

    def _tell_of_letter(self, record: PluginRecord, dead: DeadLetter, failure: Failure | None) -> None:
        """Report the first dead letter within a second by itself, the others as a number."""
        notes = self._notes_of(record)
        if notes.suppressed is not None:
            notes.suppressed += 1
            notes.suppressed_reason = dead.reason
            return
        notes.suppressed = 0
        self._reactor.later(1.0, partial(self._tell_of_more, record))
        names: dict[str, Any] = {"handler": dead.handler, "topic": dead.topic, "letter": dead.id}
        if failure is not None and failure.type:
            names |= {"kind": failure.type, "reason": failure.message, **suffix_fields(failure)}
            self.announce("MK0611", "warn", dead.plugin, **names)
        else:
            self.announce("MK0613", "warn", dead.plugin, **names, reason=dead.reason)

    def _tell_of_more(self, record: PluginRecord) -> None:
        notes = self._notes_of(record)
        suppressed, notes.suppressed = notes.suppressed, None
        if suppressed:
            self.announce("MK0618", "warn", record.name, count=suppressed, reason=notes.suppressed_reason)

    def on_log(self, record: PluginRecord, message: messages.Log) -> None:
        if not self.admits_line(record):
            return
        stream = message.kind if message.kind in _KINDS else "log"
        text = codec.plain_text(message.text)
        if message.kind and message.fields:
            text = _filled(text, message.fields)
        level = _KINDS.get(message.kind, min(max(message.level, 0), _HIGHEST_LEVEL))
        now = self._clock.wall()
        time = min(max(message.time, 0.0), now + _AHEAD) if isfinite(message.time) else now
        self._log_line(record, LogRecord(record.name, time, level, stream, text))

    def output(self, record: PluginRecord, stream: str, line: str) -> None:
        if not self.admits_line(record):
            return
        level = logging.WARNING if stream == "stderr" else logging.INFO
        self._log_line(record, LogRecord(record.name, self._clock.wall(), level, stream, line))

    def on_refused(self, record: PluginRecord, error: KernelError) -> None:
        """Count and report a message that was refused. In a flood, only the first ones are reported one by one."""
        record.counts.refused += 1
        notes = self._notes_of(record)
        notes.last_refusal = error
        if notes.refusals is None:
            report = partial(self._report_refusals, ref(record))
            notes.refusals = RateLimit(_REFUSALS, self._clock, self._reactor.later, report)
        if notes.refusals.take():
            self.report("warn", record.name, error)

    # The notes of a record refer to the callers of these methods, so these must not refer to the record.

    def _report_refusals(self, reference: ref[PluginRecord], count: int) -> None:
        if record := reference():
            reason = str(self._notes_of(record).last_refusal)
            self.announce("MK0632", "warn", record.name, count=count, reason=reason)

    def _report_lines(self, reference: ref[PluginRecord], count: int) -> None:
        if record := reference():
            self.announce("MK0631", "warn", record.name, count=count, limit=record.manifest.limits.lines)

    def admits_line(self, record: PluginRecord) -> bool:
        """Return whether one more line of a plugin's log or output is kept. On the reactor's thread."""
        limit = record.manifest.limits.lines
        if not limit:
            return True
        notes = self._notes_of(record)
        if notes.lines is None or notes.lines.per_second != limit:
            report = partial(self._report_lines, ref(record))
            notes.lines = RateLimit(limit, self._clock, self._reactor.later, report)
        return notes.lines.take()

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
    """Fill in ``{name}``, and nothing else, because the text is a plugin's and ``str.format`` can do much more.

    The length is bounded, because a short text can name a long field very often.
    """
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
    except NotPlainData:  # for example a file name that is not UTF-8
        return codec.encode(valid_texts(data))


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, str | int | float | None) else str(value) for key, value in fields.items()}
