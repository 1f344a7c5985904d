"""Direct channels: after some calls, a plugin calls another without the kernel in between.

Each channel carries the calls of one instance to another, one at a time. Both are at the level `process`. The callee
answers on the channel, unless the kernel must know of the answer. A call that takes longer than a moment is *adopted*:
the kernel enters it in the table of calls and in the callee's mailbox, as if it had sent it, so that the wait graph,
the deadlines of handlers, a reload and a crash treat it like any other. A channel is closed when the callee is about to
stop, when either instance has ended, and when either gives it up. Calls that the callee has not received then come back
to the kernel. After that the caller uses the kernel again, until another channel is opened.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import field
from functools import partial
from itertools import count
from weakref import WeakKeyDictionary

from microkernel.errors import CallDeadlock, KernelError, PluginDied
from microkernel.kernel.admission import gate
from microkernel.kernel.admission.config_source import ConfigSource
from microkernel.kernel.ports import DirectLink, Reactor
from microkernel.kernel.registry.instance import Instance
from microkernel.kernel.registry.record import PluginRecord, Registry
from microkernel.kernel.routing.call_router import CallRouter
from microkernel.kernel.routing.call_table import CallTable, PendingCall
from microkernel.wire import messages
from microkernel.wire.failures import OF_REPLIES, as_reported, from_error
from microkernel.wire.light_dataclasses import dataclass
from microkernel.wire.messages import Call, Response

# Most channels of one instance, as caller and as callee together. Each takes the kernel a descriptor, and the callee's
# wait for messages a little time.
_MAX_CHANNELS = 64
# Number of calls of a pair whose callee has refused a channel: it does not become what it is not.
_NEVER = -(1 << 62)


@dataclass(slots=True, eq=False)
class DirectChannel:
    """One channel, until both instances have reported that they no longer use it, or have ended.

    ``caller`` and ``callee`` are None when they no longer use it. ``last``: highest number of a call that the kernel
    has adopted, got back or seen answered; a report of an earlier call has been overtaken. ``pending``: the call that
    is adopted. ``death``: how the callee ended.
    """

    number: int
    source: PluginRecord
    caller: Instance | None
    target: PluginRecord
    callee: Instance | None
    link: DirectLink
    is_closed: bool = False
    last: int = 0
    pending: PendingCall | None = None
    death: str = ""
    users: set[Instance] = field(default_factory=set)

    def is_target(self, target: str) -> bool:
        return target.startswith(f"{self.target.name}.")


class DirectChannels:
    """All direct channels. On the reactor's thread, except where noted."""

    def __init__(
        self, registry: Registry, router: CallRouter, calls: CallTable, reactor: Reactor, config: ConfigSource
    ) -> None:
        self._registry = registry
        self._router = router
        self._calls = calls
        self._reactor = reactor
        self._config = config
        self._numbers = count(1)
        self._channels: dict[int, DirectChannel] = {}
        # By instance, so that an instance without channels costs one lookup.
        self._used_by: dict[Instance, dict[int, DirectChannel]] = {}
        # Calls by caller and callee. They do not keep an instance alive: a call can arrive when one has ended already.
        self._counts: WeakKeyDictionary[Instance, WeakKeyDictionary[Instance, int]] = WeakKeyDictionary()

    # Opening

    def count(self, source: PluginRecord, caller: Instance, call: Call) -> None:
        """Count a call that was relayed. Offers its callee a channel when there were enough."""
        after = self._config.current().direct_after
        target = self._registry.find(call.target.partition(".")[0]) if after else None
        callee = target.instance if target is not None else None
        if target is None or callee is None or callee.exit is not None:
            return
        counts = self._counts.setdefault(caller, WeakKeyDictionary())
        counts[callee] = calls = counts.get(callee, 0) + 1
        if calls != after:
            return
        if not (
            self._has_room(caller)
            and self._has_room(callee)
            and qualifies(source, caller, target, callee)
            and self._offer(source, caller, target, callee)
        ):
            counts[callee] = 0  # try again after as many calls

    def _has_room(self, instance: Instance) -> bool:
        return len(self._used_by.get(instance, ())) < _MAX_CHANNELS

    def _offer(self, source: PluginRecord, caller: Instance, target: PluginRecord, callee: Instance) -> bool:
        """Offer a channel to the callee. The caller gets its end when the callee has accepted. Return False if the
        callee cannot be passed an end."""
        number = next(self._numbers)
        link = callee.runner.direct_link(number)
        if link is None:
            return False
        target.mailbox.set_flag(link.waiting)
        link.waiting[0] = 1
        callee.runner.pump()  # clears it if nothing waits
        channel = DirectChannel(number, source, caller, target, callee, link)
        self._channels[number] = channel
        self._add_user(channel, callee)
        may = caller.permissions.call
        callee.runner.send(messages.DirectOffer(number, source.name, None if may is None else list(may)))
        return True

    def _add_user(self, channel: DirectChannel, user: Instance) -> None:
        channel.users.add(user)
        self._used_by.setdefault(user, {})[channel.number] = channel

    def _join(self, channel: DirectChannel) -> None:
        caller = channel.caller
        if caller is not None and not caller.disconnected and caller.runner.join_direct(channel.number, channel.link):
            self._add_user(channel, caller)
            caller.routes[channel.number] = channel.target.name
            caller.runner.send(messages.DirectRoute(channel.number, channel.target.name))
        else:
            self._close(channel, cancel=True)
            channel.caller = None

    # Messages of the instances

    def on_status(self, instance: Instance, message: messages.DirectStatus) -> None:
        """An instance has accepted, refused or given up its end, or has answered calls."""
        channel = self._channel_of(instance, message.channel)
        if channel is None:
            return
        if instance is channel.callee:
            channel.target.counts.calls += max(0, message.served)
            if message.open and channel.caller not in channel.users and not channel.is_closed:
                self._join(channel)
        if not message.open:
            is_refused = channel.caller not in channel.users and not channel.is_closed
            self._close(channel, cancel=instance is channel.caller)
            if is_refused and channel.caller is not None:
                self._counts.setdefault(channel.caller, WeakKeyDictionary())[instance] = _NEVER
            self._remove_user(channel, instance)

    def on_adopt(self, instance: Instance, message: messages.DirectAdopt) -> None:
        """Adopt a call on a channel, unless something has happened to it meanwhile."""
        channel = self._channel_of(instance, message.channel)
        if channel is None or message.id <= channel.last or not channel.is_target(message.target):
            return
        if channel.pending is not None and not channel.pending.is_answered:
            return  # there is one call at a time, so this is not our code
        channel.last = message.id
        call = Call(
            message.id, message.target, deadline=message.deadline, slot=message.slot, chain=message.chain
        )  # the arguments come back with the call, if it does
        callee = channel.callee
        if callee is None:
            name = channel.target.name
            died = PluginDied("MK0214", target=message.target, name=name, reason=channel.death or f"{name} ended")
            self._answer(channel, message.id, Response(0, failure=from_error(died)))
            return
        try:
            self._enter(channel, callee, call, refuse_cycle=instance is channel.caller)
        except CallDeadlock as error:
            if call.id in self._close(channel, cancel=False):
                self._answer(channel, call.id, Response(0, failure=from_error(error)))
            else:  # the callee has started with it after all, so it waits for no one
                self._enter(channel, callee, call, refuse_cycle=False)

    def _enter(self, channel: DirectChannel, callee: Instance, call: Call, *, refuse_cycle: bool) -> None:
        mailbox = channel.target.mailbox
        if not mailbox.in_flight:
            mailbox.progress = time.monotonic()
        answer = partial(self._answer, channel, call.id)
        channel.pending = self._router.adopt(channel.source, channel.target, call, answer, refuse_cycle=refuse_cycle)
        if not callee.watched:
            callee.owner.on_activity(callee)

    def on_reply(self, instance: Instance, message: messages.DirectReply) -> None:
        """Pass an answer on to the caller, or note that the caller has it."""
        channel = self._channel_of(instance, message.channel)
        if channel is None or instance is not channel.callee:
            return
        shares = instance.account.take(message.shares) if message.shares else ()
        failure = as_reported(message.failure, OF_REPLIES) if message.failure is not None else None
        reply = Response(0, message.value, failure, shares=shares, elsewhere=message.elsewhere)
        pending = channel.pending
        if pending is not None and pending.call.id == message.id:
            channel.pending = None
            reply.id = pending.id
            self._calls.reply(channel.target, reply)
        elif message.id > channel.last:
            self._answer(channel, message.id, reply)
        channel.last = max(channel.last, message.id)

    def on_return(self, instance: Instance, message: messages.DirectReturn) -> None:
        """The callee hands back a call that it does not start."""
        channel = self._channel_of(instance, message.channel)
        if channel is not None and instance is channel.callee:
            self._take_back(channel, message)

    def _channel_of(self, instance: Instance, number: int) -> DirectChannel | None:
        channel = self._channels.get(number)
        return channel if channel is not None and instance in channel.users else None

    def _take_back(self, channel: DirectChannel, call: messages.DirectReturn | messages.DirectCall) -> None:
        """Handle a call that the callee has not started like any other call."""
        pending = channel.pending
        if pending is not None and pending.call.id == call.id:
            channel.pending = None
            pending.call.args, pending.call.kwargs = call.args, call.kwargs
            self._router.requeue(pending)
        elif call.id > channel.last and channel.is_target(call.target):
            channel.last = call.id
            self._relay(
                channel, Call(call.id, call.target, call.args, call.kwargs, call.deadline, call.slot, call.chain)
            )

    def _relay(self, channel: DirectChannel, call: Call) -> None:
        id, caller = call.id, channel.caller
        if caller is None:
            return  # no one waits for it
        try:
            gate.admit(channel.source.name, caller.permissions, call)
            self._router.call(channel.source, call, partial(self._answer, channel, id), direct=True)
        except KernelError as error:
            self._answer(channel, id, Response(0, failure=from_error(error)))

    def _answer(self, channel: DirectChannel, id: int, reply: Response) -> None:
        caller = channel.caller
        if caller is None or caller.disconnected:
            return
        try:
            shares = caller.account.give(reply.shares) if reply.shares else ()
            answer = Response(id, reply.value, reply.failure, shares=shares, elsewhere=reply.elsewhere)
        except KernelError as error:
            answer = Response(id, failure=from_error(error))
        caller.runner.send(answer)

    # Closing

    def withdraw(self, instance: Instance) -> None:
        """Close the channels to an instance that is about to stop: what it has not received is handled by the next one,
        or in its place in the mailbox. From any thread that may wait."""
        if instance in self._used_by:
            self._reactor.run(partial(self._withdraw, instance))

    def _withdraw(self, instance: Instance) -> None:
        for channel in self._channels_of(instance):
            if channel.callee is instance:
                self._close(channel, cancel=False)

    def end(self, instance: Instance, reason: str) -> None:
        """Close all channels of an instance that has ended, or is about to be killed. From any thread that may wait."""
        if instance.may_call_directly:
            self._reactor.run(partial(self._end, instance, reason))

    def _end(self, instance: Instance, reason: str) -> None:
        for channel in self._channels_of(instance):
            if channel.callee is instance:
                channel.death = reason
                if instance.is_current:
                    mailbox = channel.target.mailbox
                    mailbox.paused = True  # what comes back is for the next instance
            self._close(channel, cancel=True)
            self._remove_user(channel, instance)

    def _channels_of(self, instance: Instance) -> Sequence[DirectChannel]:
        return [*self._used_by.get(instance, {}).values()]

    def _close(self, channel: DirectChannel, *, cancel: bool) -> Sequence[int]:
        """Close a channel, and take back what the callee has not received: return the numbers of these calls.

        ``cancel``: no one waits for the call that the callee has received, if there is one, or it will not answer it.
        """
        if channel.is_closed:
            return ()
        channel.is_closed = True
        if channel.caller is not None and channel.callee is not None:
            channel.caller.routes.pop(channel.number, None)
            if counts := self._counts.get(channel.caller):
                counts.pop(channel.callee, None)
        calls = channel.link.close(cancel=cancel)
        for call in calls:
            self._take_back(channel, call)
        return [call.id for call in calls]

    def _remove_user(self, channel: DirectChannel, user: Instance) -> None:
        """Forget that an instance uses a channel. The other one may keep the channel for long, but not the instance."""
        channel.users.discard(user)
        if channel.callee is user:
            channel.callee = None
        else:
            channel.caller = None
        used = self._used_by.get(user, {})
        used.pop(channel.number, None)
        if not used:
            self._used_by.pop(user, None)
        if not channel.users:
            self._channels.pop(channel.number, None)


def qualifies(source: PluginRecord, caller: Instance, target: PluginRecord, callee: Instance) -> bool:
    """Return whether calls between two instances may take a direct channel. Pure."""
    may = caller.permissions.call
    return (
        caller.level == callee.level == "process"
        and caller is not callee
        and source.instance is caller
        and target.state == "active"
        and callee.is_current
        and not callee.exit_expected
        and callee.manifest.concurrency == 1
        and (may is None or len(may) <= messages.MAX_PATTERNS)
    )
