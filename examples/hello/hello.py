"""The smallest plugin. It needs no manifest and runs at every isolation level.

mk run examples/hello        then, at the prompt:    emit greet name=Ada
"""

from microkernel import IPlugin


class Plugin(IPlugin):
    def __init__(self, api):
        self.api = api
        api.on("greet", self.greet)

    def start(self):
        self.api.emit("hello.started", text="say: emit greet name=you")

    def greet(self, name):
        self.api.emit("greeting", text=f"Hello, {name}!")

    def stop(self):
        self.api.emit("hello.stopped", text="Goodbye.")
