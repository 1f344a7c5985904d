"""End an instance: drain, ask, request again, kill, each with its deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from microkernel.errors import KernelError, PluginLoadError
from microkernel.kernel.lifecycle.launcher import load_error
from microkernel.kernel.ports import Exit, Reactor
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import PluginRecord
from microkernel.kernel.reporting.journal import Journal
from microkernel.kernel.routing.direct_channels import DirectChannels
from microkernel.wire import codec, messages

_FIRST_PAUSE = 0.01
# Seconds between two checks of a mailbox that is being drained: the first pause, and the longest.
_DRAIN_PAUSES = (0.001, 0.02)
_LONGEST_PAUSE = 0.2
# Seconds that an instance which could not start gets to exit by itself: an exception in the middle of that would only
# be noise.
_FAREWELL = 1.0
_TOO_LATE = "its handlers and export_state did not return within {} s"
# Seconds after which a killed instance is given up. A process always ends; a thread may not.
_KILL_PATIENCE = 5.0


class NotExported(Exception):
    """The instance did not export its state; ``error`` says why. ``continues``: it was not stopped."""

    def __init__(self, error: KernelError, *, continues: bool) -> None:
        super().__init__(error.text)
        self.error = error
        self.continues = continues


class Terminator:
    """Ends instances, and waits until they have exited. Not on a plugin's thread, nor on the reactor's."""

    def __init__(self, reactor: Reactor, direct: DirectChannels, journal: Journal) -> None:
        self._reactor = reactor
        self._direct = direct
        self._journal = journal

    def take_down(self, record: PluginRecord) -> Instance | None:
        """Stop a plugin: it ends as ``stopped`` or ``zombie``. With the record's lock held.

        An instance first handles its waiting deliveries. Return the instance if it died while doing so.
        """
        instance, died = record.instance, None
        if instance is not None:
            self._direct.withdraw(instance)  # before its state refuses the calls that come back
        if record.state != "stopping":  # it is if an interrupt ended another stop half way
            record.transition("stop")
        if instance is not None:
            record.mailbox.close()
            instance.exit_expected = True
        self._journal.changed(record)
        ended = True
        if instance is not None:
            died = None if self._drain(record, instance) else instance
            ended = self.stop_gracefully(record, instance)[1]
        record.instance = None
        if record.state == "stopping":
            record.transition("ended" if ended else "unkillable")
        return died

    def _drain(self, record: PluginRecord, instance: Instance) -> bool:
        """Wait until the mailbox is empty, for at most ``limits.drain``. Return whether the instance has survived that.

        The exit of the instance, a kill, and a stop that does not wait (``hurried``) end it. The mailbox is polled, so
        that the thread which empties it does not pay for being watched.
        """
        pause, longest = _DRAIN_PAUSES
        until = time.monotonic() + instance.manifest.limits.drain
        while not (record.mailbox.is_idle or instance.hurried or record.is_being_killed) and time.monotonic() < until:
            if instance.exited.wait(min(pause, max(0.0, until - time.monotonic()))):
                break
            pause = min(2 * pause, longest)
        if instance.exit is None or record.is_being_killed:
            return True
        self._journal.report("warn", instance.name, KernelError("MK0203", reason=instance.exit.reason))
        return False

    def stop_gracefully(self, record: PluginRecord, instance: Instance) -> tuple[messages.Stopped | None, bool]:
        """Ask an instance to stop. Return its Stopped report, None without one, and whether it has ended."""
        self._ask(record, instance, messages.Stop(within=instance.manifest.limits.stop))
        return self.see_out(record, instance)

    def export(self, record: PluginRecord, instance: Instance) -> codec.Raw | None:
        """Ask an instance to export its state and then to stop. Return the state, None if it exports none.

        ``see_out`` follows. Raises NotExported, after which the instance continues or has ended.
        """
        limits = instance.manifest.limits
        self._ask(record, instance, messages.Stop(export=True, within=limits.stop))
        if not instance.staged.exports:
            return None
        event = instance.wait_for(messages.Exported, limits.stop and limits.stop + limits.kill_grace)
        if isinstance(event, messages.Exported):
            return event.state
        record.retiring = None
        if isinstance(event, messages.Failed):
            instance.exit_expected = False
            raise NotExported(load_error(event), continues=instance.exit is None)
        if not isinstance(event, Exit):
            self.terminate(instance)
        reason = f"export_state ended it: {event.reason}" if isinstance(event, Exit) else _TOO_LATE.format(limits.stop)
        raise NotExported(PluginLoadError("MK0313", reason=reason), continues=False)

    def _ask(self, record: PluginRecord, instance: Instance, stop: messages.Stop) -> None:
        instance.exit_expected = True
        record.mailbox.paused = True
        record.retiring = instance
        self._direct.withdraw(instance)
        instance.runner.send(stop)

    def see_out(self, record: PluginRecord, instance: Instance) -> tuple[messages.Stopped | None, bool]:
        """Wait for the exit of an instance that was asked to stop, as ``stop_gracefully`` does."""
        limits = instance.manifest.limits
        stopped = instance.wait_for(messages.Stopped, limits.stop, self._on_stop_trouble(instance))
        record.retiring = None
        if stopped is None:
            self._journal.announce("MK0209", "warn", instance.name, seconds=limits.stop)
        patience = 0.0 if stopped is None else min(2.0, limits.stop)
        ended = instance.exit is not None or self._wait_exit(instance, patience) or self.terminate(instance) is not None
        return (stopped if isinstance(stopped, messages.Stopped) else None), ended

    def _on_stop_trouble(self, instance: Instance) -> Callable[[object], None]:
        def tell(event: object) -> None:
            if isinstance(event, messages.Failed):
                self._journal.report("warn", instance.name, load_error(event))

        return tell

    def terminate(self, instance: Instance, *, grace: bool = True) -> Exit | None:
        """Request the exit, then kill. Return None if the instance cannot be ended. Its callers were failed before."""
        instance.disconnect(self._reactor)
        if instance.start_failed:
            self._wait_exit(instance, _FAREWELL)
        if grace and instance.exit is None:
            self._retry_until_exit(instance, instance.runner.request_exit, instance.manifest.limits.kill_grace)
        if instance.exit is None:
            self._retry_until_exit(instance, instance.runner.kill, _KILL_PATIENCE)
        return instance.exit

    def _retry_until_exit(self, instance: Instance, request: Callable[[], None], seconds: float) -> None:
        """Repeat a request, each time after a longer pause, because an exit takes time."""
        until, pause = time.monotonic() + seconds, _FIRST_PAUSE
        while instance.exit is None and time.monotonic() < until:
            request()
            self._wait_exit(instance, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _wait_exit(self, instance: Instance, seconds: float) -> bool:
        instance.exited.wait(seconds)
        return instance.exit is not None
