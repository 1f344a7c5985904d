"""What commands do with a running kernel: connect to it, ask for one thing, and print the result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from microkernel import Event
from microkernel.cli.output import Output
from microkernel.cli.settings import wished_language
from microkernel.control.client import ControlClient
from microkernel.errors import KernelError
from microkernel.plugins.console import approval_view, view
from microkernel.plugins.console.kernel_commands import KernelCommands, Result


def ask_kernel(kernel: str, as_json: bool, act: Callable[[KernelCommands], Result], *, about: str = "") -> int:
    """Ask the kernel for one thing and return the exit code.

    Meanwhile the messages about the plugin ``about``, or about all plugins (``*``), are printed as they arrive.
    """
    output = Output(wished_language(), as_json)
    with ControlClient(kernel) as client:
        if about and not as_json:
            client.subscribe("kernel.message", partial(_show_message, output, about))
        verbs = KernelCommands(client, output.translator, _Following(client, output))
        result = act(verbs)
        output.show(result.shown, result.data)
        return 0 if result.ok else 1


class _Following:
    """A feed that first handles the messages that have arrived but were not handled yet."""

    def __init__(self, client: ControlClient, output: Output) -> None:
        self._client = client
        self._feed = output.feed

    def reported(self, plugin: str) -> int:
        return self._feed.reported(plugin)

    def wait(self, plugin: str, before: int, seconds: float) -> bool:
        self._client.listen(0.0)
        return self._feed.wait(plugin, before, seconds)


def _show_message(output: Output, about: str, event: Event) -> None:
    data = event.data
    if about in (data["plugin"], "*"):
        output.show(output.feed.message(data["id"], data["level"], data["plugin"], data["fields"]))


def show_request(output: Output, review: approval_view.Review) -> str:
    """Print the permissions that a plugin requests, and answer yes."""
    if not output.as_json:
        output.show(approval_view.question(review, output.translator))
    return "y"


def show_logs(kernel: str, as_json: bool, name: str, last: int, *, follow: bool) -> None:
    """Print the last log lines of a plugin, or of all if ``name`` is empty. ``follow``: then print new ones until the
    kernel stops."""
    output = Output(wished_language(), as_json)
    with ControlClient(kernel) as client:
        if follow:
            client.subscribe(f"kernel.log.{name or '*'}", lambda event: _show_log(output, event.data))
        for line in KernelCommands(client, output.translator, output.feed).logs(name, last).data:
            _show_log(output, line)
        while follow and client.listen():
            pass
        if follow:
            output.error(KernelError("MK0612", reason="it has stopped"))


def _show_log(output: Output, line: dict[str, Any]) -> None:
    output.show([view.log_line(line, 0, stamped=True)], line)
