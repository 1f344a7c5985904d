"""Declarations of the commands of ``mk``: names, arguments, options and help. Only the help pages are also made here.

The help is in the language of the environment in which this module is imported.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

import microkernel
from microkernel.cli import streams
from microkernel.cli.approval_prompt import ask_here
from microkernel.cli.help_texts import HelpfulTyper
from microkernel.cli.output import Output
from microkernel.cli.running_kernel import ask_kernel, show_logs, show_request
from microkernel.cli.settings import FOLDER, lock_path, places, reader, settings, wished_language
from microkernel.errors import KernelError, valid_text
from microkernel.plugins.console import view
from microkernel.plugins.console.kernel_commands import not_understood

_translator = Output(wished_language()).translator
_say = _translator.word
# For commands whose arguments are values, such as -5.
_RAW = {"ignore_unknown_options": True}


def _of_typer(key: str) -> str:
    return _translator.word_or(f"typer.{key}", key)


app = HelpfulTyper(
    _of_typer,
    add_completion=False, no_args_is_help=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help=_say("help.mk"), epilog=_say("help.codes"), context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip

KernelName = Annotated[str, typer.Option("--kernel", envvar="MK_KERNEL", metavar="NAME", help=_say("option.kernel"))]
AsJson = Annotated[bool, typer.Option("--json", help=_say("option.json"))]
Name = Annotated[
    str, typer.Argument(metavar="NAME", show_default=False, help=_say("argument.name"), callback=valid_text)
]
Level = Literal["thread", "process", "sandbox", "wasm"]
Severity = Literal["notice", "warn", "error"]


# On a running kernel


@app.command(help=_say("help.ps"))
def ps(
    built_in: Annotated[bool, typer.Option("--all", help=_say("option.built_in"))] = False,
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> None:
    ask_kernel(kernel, as_json, lambda verbs: verbs.ps(built_in))


@app.command(help=_say("help.info"))
def info(name: Name, kernel: KernelName = "", as_json: AsJson = False) -> None:
    ask_kernel(kernel, as_json, lambda verbs: verbs.info(name))


@app.command(help=_say("help.start"))
def start(
    name: Name,
    reset: Annotated[bool, typer.Option("--reset", help=_say("option.reset"))] = False,
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> None:
    ask_kernel(kernel, as_json, lambda verbs: verbs.start(name, reset), about=name)


@app.command(help=_say("help.stop"))
def stop(
    name: Name,
    cascade: Annotated[bool, typer.Option("--cascade", help=_say("option.cascade"))] = False,
    now: Annotated[bool, typer.Option("--now", help=_say("option.now"))] = False,
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> None:
    ask_kernel(kernel, as_json, lambda verbs: verbs.stop(name, cascade, now), about=name)


@app.command(help=_say("help.reload"))
def reload(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help=_say("argument.name"))] = "",
    every: Annotated[bool, typer.Option("--all", help=_say("option.all"))] = False,
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> int:
    return ask_kernel(kernel, as_json, lambda verbs: verbs.reload(name, every), about="*" if every else name)


@app.command(help=_say("help.kill"))
def kill(name: Name, kernel: KernelName = "", as_json: AsJson = False) -> None:
    ask_kernel(kernel, as_json, lambda verbs: verbs.kill(name), about=name)


@app.command(help=_say("help.load"))
def load(
    path: Annotated[str, typer.Argument(metavar="PATH", show_default=False)],
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> None:
    full = path if path.startswith("entry-point") else _absolute(path)  # the kernel is in another folder
    ask_kernel(kernel, as_json, lambda verbs: verbs.load(full), about=valid_text(Path(path).stem))


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except FileNotFoundError:  # the working folder no longer exists
        raise KernelError("MK0101", path=path) from None


@app.command(help=_say("help.unload"))
def unload(name: Name, kernel: KernelName = "", as_json: AsJson = False) -> None:
    ask_kernel(kernel, as_json, lambda verbs: verbs.unload(name))


@app.command(help=_say("help.approve"))
def approve(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help=_say("option.yes"))] = False,
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> int:
    output = Output(wished_language(), as_json)
    ask = partial(show_request, output) if yes else partial(ask_here, output=output)
    return ask_kernel(kernel, as_json, lambda verbs: verbs.approve(name, ask), about=name)


@app.command(help=_say("help.emit"), context_settings=_RAW)
def emit(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", show_default=False)],
    data: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", show_default=False)] = None,
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> None:
    ask_kernel(kernel, as_json, lambda verbs: verbs.emit(topic, *(data or [])))


@app.command(help=_say("help.call"), context_settings=_RAW)
def call(
    target: Annotated[str, typer.Argument(metavar="PLUGIN.METHOD", show_default=False)],
    values: Annotated[list[str] | None, typer.Argument(metavar="VALUE | KEY=VALUE", show_default=False)] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help=_say("option.timeout"))] = 5.0,
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> None:
    ask_kernel(kernel, as_json, lambda verbs: verbs.call(target, *(values or []), timeout=timeout))


@app.command(help=_say("help.data"), context_settings=_RAW)
def data(
    key: Annotated[str, typer.Argument(metavar="KEY", show_default=False)] = "",
    value: Annotated[str | None, typer.Argument(metavar="VALUE", show_default=False)] = None,
    delete: Annotated[bool, typer.Option("--delete", help=_say("option.delete"))] = False,
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> None:
    ask_kernel(kernel, as_json, lambda verbs: verbs.data(key, value, delete))


@app.command(help=_say("help.dead"))
def dead(
    what: Annotated[str, typer.Argument(metavar="list|show|replay|drop", show_default=False)] = "list",
    which: Annotated[str, typer.Argument(metavar="NAME | ID", show_default=False)] = "",
    plugin: Annotated[str, typer.Option(metavar="NAME", show_default=False, help=_say("option.dead_plugin"))] = "",
    topic: Annotated[str, typer.Option(metavar="PATTERN", show_default=False, help=_say("option.dead_topic"))] = "",
    since: Annotated[str, typer.Option(metavar="TIME", show_default=False, help=_say("option.dead_since"))] = "",
    each: Annotated[bool, typer.Option("--each", help=_say("option.dead_each"))] = False,
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> None:
    ask_kernel(kernel, as_json, lambda verbs: verbs.dead(what, which, plugin, topic, since, each))


@app.command(help=_say("help.logs"))
def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help=_say("option.follow"))] = False,
    last: Annotated[int, typer.Option("-n", "--last", metavar="LINES", help=_say("option.last"))] = 20,
    kernel: KernelName = "",
    as_json: AsJson = False,
) -> None:
    show_logs(kernel, as_json, name, last, follow=follow)


@app.command(help=_say("help.attach"))
def attach(kernel: KernelName = "") -> None:
    from microkernel.cli.attach import attach as begin

    output = Output(wished_language())
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise not_understood(output.translator.word("usage.terminal"))
    begin(kernel, output)


# The kernel itself


@app.command("run", help=_say("help.run"))
def run_kernel(
    plugins: Annotated[list[str] | None, typer.Argument(metavar="PLUGINS", show_default=False)] = None,
    config: Annotated[str, typer.Option("--config", metavar="FILE", help=_say("option.config"))] = "",
    no_watch: Annotated[bool, typer.Option("--no-watch", help=_say("option.no_watch"))] = False,
    headless: Annotated[bool, typer.Option("--headless", help=_say("option.headless"))] = False,
    isolation: Annotated[Level | None, typer.Option("--isolation", help=_say("option.isolation"))] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help=_say("option.name"))] = "",
    as_json: AsJson = False,
) -> int:
    from microkernel.cli.run import Run

    decided = settings(config)
    output = Output(decided.language, as_json)
    where = places(plugins or [], decided)
    decided = replace(
        decided, plugins=() if plugins else decided.plugins
    )  # plugins named here replace the configured ones
    lasts = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # run on when the terminal closes, without a prompt
    with_console = not (headless or as_json or lasts) and sys.stdin.isatty() and sys.stdout.isatty()
    lock = lock_path(config, where, decided)
    again = reader(config)
    return Run(where, decided, name, isolation, output, with_console, not no_watch, lock, again).run()


# Without a kernel


@app.command(help=_say("help.new"))
def new(
    name: Name,
    folder: Annotated[str, typer.Option("--folder", metavar="FOLDER", help=_say("option.folder"))] = FOLDER,
) -> None:
    from microkernel.cli.new import create, show_created

    output = Output(wished_language())
    show_created(create(name, folder, output.catalog.language), name, folder, output)


@app.command(help=_say("help.check"))
def check(
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH", show_default=False)] = None,
    fail_on: Annotated[Severity, typer.Option("--fail-on", metavar="SEVERITY", help=_say("option.fail_on"))] = "error",
    as_json: AsJson = False,
) -> int:
    from microkernel.cli.check import check as look

    decided = settings()
    where = [*(paths or [*places([], decided), *decided.plugins])]
    return look(where, fail_on, Output(decided.language, as_json))


@app.command(help=_say("help.explain"))
def explain(id: Annotated[str, typer.Argument(metavar="ID", show_default=False)], as_json: AsJson = False) -> None:
    from microkernel.cli.reference import explain as show

    show(id, Output(wished_language(), as_json))


@app.command("glossary", help=_say("help.glossary"))
def show_glossary(
    word: Annotated[str, typer.Argument(metavar="WORD", show_default=False)] = "", as_json: AsJson = False
) -> None:
    from microkernel.cli.reference import show_glossary as show

    show(word, Output(wished_language(), as_json))


@app.command(help=_say("help.doctor"))
def doctor(as_json: AsJson = False) -> None:
    from microkernel.cli.doctor import doctor as examine

    examine(Output(wished_language(), as_json))


@app.command(help=_say("help.bench"))
def bench(as_json: AsJson = False) -> int:
    from microkernel.cli.bench import bench as measure

    return measure(Output(wished_language(), as_json))


wasm = HelpfulTyper(_of_typer, help=_say("help.wasm"), add_completion=False, rich_markup_mode=None)
app.add_typer(wasm, name="wasm")


@wasm.callback()
def of_wasm() -> None:
    """The command group ``mk wasm``, with a single command so far."""


@wasm.command(help=_say("help.prepare"))
def prepare(as_json: AsJson = False) -> None:
    from microkernel.cli.wasm_prepare import prepare as build

    build(Output(wished_language(), as_json))


@app.command("help", help=_say("help.help"))
def show_help(
    context: typer.Context, command: Annotated[str, typer.Argument(metavar="COMMAND", show_default=False)] = ""
) -> None:
    output = Output(wished_language())
    group: Any = context.parent.command if context.parent else None
    if command:
        found = group.get_command(context, command)
        if found is None:
            raise not_understood(
                output.translator.word("console.unknown", word=command), output.translator.word("usage.list")
            )
        output.show([Text(found.get_help(type(context)(found, parent=context.parent, info_name=command)))])
        return
    title = f"microkernel {microkernel.__version__} · {output.translator.word('help.mk')}"
    names = dict.fromkeys(["run", "new", *group.commands])
    rows = [[f"mk {name}", output.translator.word(f"help.{name}")] for name in names]
    table = view.Columns([view.Column(""), view.Column("", fold=True)], rows, head=False)
    output.show([Text(title), Text(""), table, Text(""), Text(output.translator.word("help.codes"))])


@app.callback(invoke_without_command=True)
def nothing(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help=_say("option.version"))] = False,
    kernel: Annotated[str, typer.Option("--kernel", metavar="NAME", help=_say("option.kernel"))] = "",
) -> None:
    if kernel:
        os.environ["MK_KERNEL"] = kernel  # the command is parsed later and reads it
    if version:
        streams.write(f"microkernel {microkernel.__version__}\n", sys.stdout)
        raise typer.Exit
    if context.invoked_subcommand is None:
        command: Any = context.command
        command.get_command(context, "help")
        context.invoke(show_help, type(context)(command.commands["help"], parent=context), "")
