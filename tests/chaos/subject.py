"""A plugin of the chaos: it does what its events and calls say, and leaves evidence of that outside of itself.

Copied for each of the thirty, below a separate manifest. It must not import anything from the harness.
"""

from __future__ import annotations

import itertools
import os
import signal
import time

from microkernel import IPlugin, errors, expose


class Plugin(IPlugin):
    """Begins with the word ``began`` and ends with ``done``: what is done has ended before the kernel hears of it."""

    def __init__(self, api):
        self.api = api
        self.numbers = itertools.count(1)
        self.hoard = []
        path, shared = api.config["evidence"], api.config["descriptor"]
        self.evidence = shared if api.isolation == "thread" else os.open(path, os.O_WRONLY | os.O_APPEND)
        for topic in api.config["topics"]:
            api.on(topic, self.handle, overflow=api.config["overflow"])
        if api.config["beat"]:
            api.every(api.config["beat"], self.beat)

    def start(self):
        pass

    def stop(self):
        pass

    def handle(self, event, id, do="", times=1, **more):
        self.tell("began", id, event.delivery)
        if event.delivery <= times:
            DEEDS[do](self, more)
        self.tell("done", id, event.delivery)

    def beat(self):
        self.emit(self.api.config["beats"])

    @expose
    def work(self, id, do="", **more):
        DEEDS[do](self, more)
        return f"{id}!"

    def tell(self, kind, *words):
        words = (kind, self.api.name, self.api.generation, f"{time.monotonic():.6f}", *words)
        os.write(self.evidence, (" ".join(map(str, words)) + "\n").encode())

    def name_one(self):
        return f"{self.api.name}.{self.api.generation}.{next(self.numbers)}"

    def emit(self, topic, **data):
        id = self.name_one()
        self.tell("emitting", id, topic)
        self.api.emit(topic, id=id, **data)
        self.tell("emitted", id)

    def call(self, target, timeout):
        id, outcome = self.name_one(), "value"
        self.tell("calling", id, timeout)
        try:
            if self.api.call(f"{target}.work", id=id, timeout=timeout) != f"{id}!":
                outcome = "wrong"
        except errors.KernelError as error:
            outcome = type(error).__name__
        self.tell("called", id, outcome)


# Deeds: what an event or a call may have a plugin do


def nothing(plugin, more):
    pass


def fail(plugin, more):
    raise ValueError("chaos")


def leave(plugin, more):
    raise SystemExit(3)


def hang(plugin, more):
    while True:
        pass


def sleep(plugin, more):
    time.sleep(3600)


def nap(plugin, more):
    time.sleep(more["seconds"])


def vanish(plugin, more):
    os._exit(3)


def crash(plugin, more):
    os.kill(os.getpid(), signal.SIGSEGV)


def gorge(plugin, more):
    """Memory until there is none, and no way out of it by an exception."""
    try:
        while True:
            plugin.hoard.append(bytearray(1 << 20))
    except MemoryError:
        os.abort()


def fill(plugin, more):
    """Descriptors until there are none; it goes on without."""
    while True:
        plugin.hoard.append(os.open(os.devnull, os.O_RDONLY))


def corrupt(plugin, more):
    """Bytes that are no message, where messages go; what it says after them does not count."""
    plugin.tell("cut", time.monotonic())
    os.write(more["channel"], bytes.fromhex(more["frame"]))
    time.sleep(3600)


def emit(plugin, more):
    for topic in more["topics"]:
        plugin.emit(topic)


def flood(plugin, more):
    for _ in range(more["count"]):
        plugin.emit(more["topic"])


def call(plugin, more):
    plugin.call(more["whom"], more["within"])


DEEDS = {
    "": nothing,
    "raise": fail,
    "exit": leave,
    "hang": hang,
    "sleep": sleep,
    "nap": nap,
    "_exit": vanish,
    "segfault": crash,
    "memory": gorge,
    "descriptors": fill,
    "frames": corrupt,
    "emit": emit,
    "flood": flood,
    "call": call,
}
