"""Test helpers: ``run_plugin`` for plugin authors, ``check_host`` for authors of isolation levels.

    from microkernel.testing import run_plugin

    def test_total() -> None:
        with run_plugin("plugins/billing.py") as kernel:
            assert kernel.call("billing.total", currency="CNY") == 7

A host is correct if all of ``HOST_CHECKS`` pass at its level. Each check runs real plugins in a real Kernel:

    @pytest.mark.parametrize("check", HOST_CHECKS.values(), ids=HOST_CHECKS)
    def test_sandbox(check: Check) -> None:
        check("sandbox")
"""

from microkernel.testing.contract import HOST_CHECKS, Check, Result, check_host
from microkernel.testing.harness import KernelHarness, Workspace, plugin
from microkernel.testing.runner import run_plugin

__all__ = ["HOST_CHECKS", "Check", "KernelHarness", "Result", "Workspace", "check_host", "plugin", "run_plugin"]
