"""Add the handlers and methods of instances to the kernel's tables, and remove them. On the reactor's thread."""

from __future__ import annotations

from collections.abc import Hashable

from microkernel.errors import PayloadTooLarge
from microkernel.kernel.admission.gate import observes
from microkernel.kernel.manifest import Limits
from microkernel.kernel.messaging.quota import ITEM_OVERHEAD, memory_size
from microkernel.kernel.messaging.topic_index import TopicIndex, TopicSubscription
from microkernel.kernel.registry.instance import Instance, kind_of
from microkernel.kernel.registry.record import PluginRecord
from microkernel.kernel.routing.data_store import DataStore
from microkernel.wire.messages import MAX_SCHEMA, Handler, Loaded, Method


class Registrar:
    """Keeps the subscriptions and methods of plugins.

    A subscription is identified by its pattern and its handler's name. It survives a crash or a reload; only its number
    changes.
    """

    def __init__(self, topics: TopicIndex, watchers: TopicIndex, data: DataStore) -> None:
        self._topics = topics
        self._watchers = watchers
        self._data = data

    def commit(self, record: PluginRecord, instance: Instance) -> None:
        """Put the registrations of an instance into effect, in place of those of its predecessor."""
        loaded = instance.staged
        record.instance = instance
        gone = set(record.subscriptions) - {_key(handler) for handler in loaded.handlers}
        for key in gone:
            self._remove(record, key)
        record.numbers.clear()
        for subscription in record.subscriptions.values():
            subscription.number = 0
        for handler in loaded.handlers:
            self._subscribe(record, instance, handler)
        record.methods = {method.name: method for method in loaded.methods}
        record.doc = loaded.doc

    def expose(self, record: PluginRecord, instance: Instance, method: Method) -> None:
        """Add a method. Raises PayloadTooLarge if the instance would exceed its quota."""
        charge(instance, method)
        schema = method.schema.copy()  # a copy, because the frame it came in may be far larger
        method = Method(method.name, method.signature, method.doc, schema, method.returns)
        if _is_staged(record, instance):
            instance.staged.methods.append(method)
        else:
            record.methods[method.name] = method  # one C call, because other threads may read the dict meanwhile

    def subscribe(self, record: PluginRecord, instance: Instance, handler: Handler) -> None:
        """Add a handler. Raises PayloadTooLarge if the instance would exceed its quota."""
        charge(instance, handler)
        if _is_staged(record, instance):
            instance.staged.handlers.append(handler)
        else:
            self._subscribe(record, instance, handler)

    def _subscribe(self, record: PluginRecord, instance: Instance, handler: Handler) -> None:
        key = _key(handler)
        old = record.subscriptions.get(key)
        if old is not None and old.number == 0 and not old.once:
            old.number, old.overflow = handler.number, handler.overflow
            record.numbers[handler.number] = key
            self._greet(old)
            return
        if old is not None:
            self._remove(record, key)
        subscription = TopicSubscription(
            record.name,
            handler.pattern,
            handler.name,
            record,
            number=handler.number,
            once=handler.once,
            overflow=handler.overflow,
            watches_data=handler.board,
            observes=observes(instance.permissions),
        )
        record.subscriptions[key] = subscription
        record.numbers[handler.number] = key
        self._table(subscription).add(subscription)
        self._greet(subscription)

    def unsubscribe(self, record: PluginRecord, instance: Instance, number: int) -> None:
        if _is_staged(record, instance):
            instance.staged.handlers[:] = [h for h in instance.staged.handlers if h.number != number]
            return  # it stays charged, because a plugin that has just been loaded has taken little back
        key = record.numbers.get(number)
        if key is not None:
            self._remove(record, key)
            instance.registered.release(key)

    def clear(self, record: PluginRecord) -> None:
        """Remove all registrations of a plugin."""
        for key in list(record.subscriptions):
            self._remove(record, key)
        record.methods = {}

    def _greet(self, subscription: TopicSubscription) -> None:
        if subscription.watches_data:
            self._data.send_current(subscription)

    def _remove(self, record: PluginRecord, key: tuple[bool, str, str]) -> None:
        subscription = record.subscriptions.pop(key)
        if record.numbers.get(subscription.number) == key:
            del record.numbers[subscription.number]
        subscription.number = 0
        self._table(subscription).remove(subscription)

    def _table(self, subscription: TopicSubscription) -> TopicIndex:
        return self._watchers if subscription.watches_data else self._topics


def _is_staged(record: PluginRecord, instance: Instance) -> bool:
    """Return whether this is a new generation, whose registrations take effect only when it takes over."""
    return record.instance is not instance


def charge_quota(instance: Instance, loaded: Loaded) -> None:
    """Charge the registrations made while an instance was loaded. Raises PayloadTooLarge over the quota."""
    registrations: list[Handler | Method] = [*loaded.handlers, *loaded.methods]
    for each in registrations:
        charge(instance, each)
    _charge(instance, "", memory_size(loaded.doc))


def charge(instance: Instance, registration: Handler | Method) -> None:
    """Charge one registration to its instance. Raises PayloadTooLarge if the instance would exceed its quota."""
    if isinstance(registration, Handler):
        nodes = registration.pattern.count(".")
        text = memory_size(registration.pattern, registration.name, registration.overflow)
        _charge(instance, _key(registration), _SUBSCRIPTION + nodes * ITEM_OVERHEAD + text)
    else:
        schema = len(registration.schema)
        if schema > MAX_SCHEMA:
            raise PayloadTooLarge("MK0603", size=schema, limit=MAX_SCHEMA)
        text = memory_size(registration.name, registration.signature, registration.doc, registration.returns)
        _charge(instance, registration.name, ITEM_OVERHEAD + text + schema * _SCHEMA)


def _charge(instance: Instance, key: Hashable, size: int) -> None:
    limits, registered, kind = instance.manifest.limits, instance.registered, kind_of(key)
    most = _most(limits, kind)
    if most and registered.counts[kind] >= most and key not in registered:
        raise PayloadTooLarge("MK0630", name=instance.name, what=_NAMES[kind], limit=most)
    if not registered.take(key, size, limits.kernel_memory):
        raise PayloadTooLarge("MK0621", name=instance.name, used=registered.used, limit=int(limits.kernel_memory))


def _most(limits: Limits, kind: str) -> int:
    """Return the highest number of registrations of a kind; 0 for no limit.

    Fewer handlers may be watchers of data, because each write of a key notifies all its watchers.
    """
    if kind == "watchers":
        return limits.handlers and max(1, limits.handlers // _WATCHERS)
    return {"handlers": limits.handlers, "methods": limits.methods}.get(kind, 0)


# One in this number of handlers may be a watcher.
_WATCHERS = 4
_NAMES = {"handlers": "handlers", "watchers": "watchers of shared data", "methods": "methods"}
# Bytes of a subscription without its texts, including its entries in the tables.
_SUBSCRIPTION = 2048
# Factor by which a schema may take more memory decoded than encoded.
_SCHEMA = 64


def _key(handler: Handler) -> tuple[bool, str, str]:
    return handler.board, handler.pattern, handler.name
