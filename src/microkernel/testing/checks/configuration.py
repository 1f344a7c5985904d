"""Configuration of plugins: its type, and what is refused."""

from __future__ import annotations

import os

from microkernel.kernel.config import KernelConfig, PluginConfig
from microkernel.testing.harness import Workspace, plugin

CONFIGURED = plugin(
    """
    @expose
    def show(self) -> list:
        config = self.api.config
        return [type(config).__name__, config.size, config.rate, config.nested.word, len(config.key)]
    @expose
    def say_it(self) -> None:
        self.api.log.info("%r", self.api.config.size)
    """,
    head="""
    from dataclasses import dataclass, field
    from decimal import Decimal
    from typing import Annotated
    from microkernel import Secret

    @dataclass
    class Nested:
        word: str = "none"

    @dataclass
    class Config:
        size: int
        key: Annotated[str, Secret]
        rate: Decimal = Decimal("0.5")
        nested: Nested = field(default_factory=Nested)
    """,
)


def _configured(**config: object) -> KernelConfig:
    return KernelConfig(plugin={"p": PluginConfig(config=config)})


def check_config_has_the_type_of_class_config(workspace: Workspace) -> None:
    """``class Config`` in the module is the type of ``api.config``; a Secret from the environment is shown nowhere."""
    os.environ["MK_CHECK_SECRET"] = "hush-hush"
    try:
        config = _configured(size=7, key={"env": "MK_CHECK_SECRET"}, nested={"word": "w"})
        with workspace.run(config, p=CONFIGURED) as harness:
            assert harness.call("p.show") == ["Config", 7, "0.5", "w", 9]
            harness.call("p.say_it")
            shown = f"{harness.info('p')}{harness.log_lines('p')}{harness.kernel.call('kernel.info', 'p')}"
            assert "hush-hush" not in shown
    finally:
        del os.environ["MK_CHECK_SECRET"]


def check_config_that_does_not_fit_is_failed(workspace: Workspace) -> None:
    """A wrong type in the configuration makes the plugin ``failed`` and names the path; so do an unknown key and an
    unset variable."""
    with workspace.run(_configured(size="seven", key="hush-hush"), p=CONFIGURED) as harness:
        info = harness.info("p")
        assert (info.state, info.error_id) == ("failed", "MK0121")
        assert "size" in (info.error or "")
        assert "hush-hush" not in str(info)
    with workspace.run(_configured(sizes=7, key="hush-hush"), p=CONFIGURED) as harness:
        info = harness.info("p")
        assert (info.state, info.error_id) == ("failed", "MK0121")
        assert "[plugin.p.config]" in (info.error or "")
        assert "unknown key 'sizes'; did you mean 'size'?" in (info.error or "")
    with workspace.run(_configured(size=7, key={"env": "MK_NO_SUCH"}), p=CONFIGURED) as harness:
        assert harness.info("p").state == "failed"
        assert "MK_NO_SUCH" in (harness.info("p").error or "")
