"""`mk attach`: the console of `mk run`, at the other end of the control socket."""

from __future__ import annotations

import os
import signal

import microkernel
from microkernel.cli.output import Output
from microkernel.cli.run import CONSOLE, console_config
from microkernel.control.paths import find_kernel
from microkernel.control.remote_client import RemoteClientChannel
from microkernel.errors import KernelError
from microkernel.kernel.admission.effective_config import state_home
from microkernel.loader import FileLoader
from microkernel.sdk.runtime.runtime import Runtime
from microkernel.wire import codec, messages


def attach(kernel: str, output: Output) -> None:
    """Run the console until the user leaves. Raises KernelError if no kernel answers or the kernel ends."""
    path = find_kernel(kernel)
    channel = RemoteClientChannel(path, _load_message(console_config(output, attached=True, kernel=path.stem)))
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: channel.feed(messages.Stop()))
    try:
        Runtime(channel).run()
        failure = channel.failure()
    finally:
        channel.close()
    if isinstance(failure, KernelError):
        raise failure
    output.notice(output.translator.word("console.bye"), "direct")


def _load_message(config: dict[str, object]) -> messages.Load:
    """Return the message that a kernel would send to load the console."""
    loader = FileLoader()
    source = loader.snapshot(loader.find(CONSOLE), ())
    state = state_home(os.environ)
    return messages.Load(
        name="console",
        version=microkernel.__version__,
        generation=1,
        isolation="thread",
        root=source.root,
        entry=source.entry,
        sources=dict(source.sources),
        package=source.package,
        config=codec.Raw(codec.encode(config)),
        data_dir=str(state / "microkernel" / "console") if state else "",
    )
