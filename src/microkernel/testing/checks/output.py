"""Output of plugins: log lines, messages to people, standard output and error."""

from __future__ import annotations

from microkernel.testing.harness import Workspace, plugin
from microkernel.testing.levels import only_at

TALKER = plugin(
    """
    @expose
    def talk(self) -> None:
        self.api.log.info("logged %d", 1)
        self.api.log.debug("not shown")
        try:
            1 / 0
        except ZeroDivisionError:
            self.api.log.exception("with a trace")
        say = self.api.say
        say.explain("e"); say.direct("d"); say.success("{n} rows", n=3); say.notice("n"); say.warn("w"); say.error("x")
    @expose
    def print(self) -> None:
        print("to stdout\\nand more")
        print("to stderr", file=sys.stderr)
        os.write(1, b"raw, without an end")
    """
)


def check_log_arrives(workspace: Workspace) -> None:
    """The kernel stores the output of ``api.log`` and ``api.say``, in order."""
    with workspace.run(talker=TALKER) as harness:
        harness.call("talker.talk")
        lines = harness.until_log_lines("talker", 8)
        assert lines[0] == ("log", "logged 1")
        assert lines[1][1].startswith("with a trace\nTraceback")
        assert "ZeroDivisionError" in lines[1][1]
        assert lines[2:] == [
            ("explain", "e"), ("direct", "d"), ("success", "3 rows"), ("notice", "n"), ("warn", "w"), ("error", "x"),
        ]  # fmt: skip


@only_at("process", "sandbox")
def check_output_arrives(workspace: Workspace) -> None:
    """Standard output and error are stored line by line; an incomplete line at the end."""
    with workspace.run(talker=TALKER) as harness:
        harness.call("talker.print")
        harness.kernel.stop("talker")
        lines = harness.until_log_lines("talker", 4)
        by_stream = {stream: [text for s, text in lines if s == stream] for stream in ("stdout", "stderr")}
        assert by_stream == {"stdout": ["to stdout", "and more", "raw, without an end"], "stderr": ["to stderr"]}
