"""`mk doctor`: which levels this machine offers, why the others do not work, and whether the native core is used."""

from __future__ import annotations

from microkernel.app import Kernel
from microkernel.cli.output import Output
from microkernel.errors import KernelError
from microkernel.messages.reason_translation import phrase
from microkernel.plugins.console import view
from microkernel.wire import native


def doctor(output: Output) -> None:
    with Kernel(name="doctor") as kernel:
        available = kernel.available()
    levels = {
        level: {"here": found.error is None, "why": found.detail, "id": found.error.id if found.error else None}
        for level, found in available.items()
    }
    word = output.translator.word
    rows = [[level, word("doctor.no" if found.error else "doctor.yes"), _why(found.error, found.detail, output)]
            for level, found in available.items()]  # fmt: skip
    levels["native"] = {"here": native.core is not None, "why": native.STATE, "id": None}
    native_row = [
        "native",
        word("doctor.yes" if native.core is not None else "doctor.no"),
        word(f"doctor.{native.STATE}"),
    ]
    heads = [view.Column(word(f"doctor.{name}"), fold=name == "why") for name in ("level", "here", "why")]
    native_heads = [view.Column(word("doctor.addition")), *heads[1:]]
    output.show([view.Columns(heads, rows), view.Columns(native_heads, [native_row])], levels)


def _why(error: KernelError | None, detail: str, output: Output) -> str:
    if error is not None:
        return f"{error.id}  {output.translator.error(error)}"
    return phrase(detail) if output.catalog.language == "zh" else detail
