"""What the gate lets pass of a plugin that was granted nothing."""

from __future__ import annotations

import pytest

from microkernel.errors import PermissionDenied
from microkernel.kernel.admission import gate
from microkernel.kernel.manifest import NO_PERMISSIONS
from microkernel.wire import messages
from microkernel.wire.messages import Handler


def test_emit_below_the_plugins_own_name_needs_no_permission() -> None:
    gate.admit("shop", NO_PERMISSIONS, messages.Emit(topic="shop.sold", data=messages.NOTHING))
    with pytest.raises(PermissionDenied):
        gate.admit("shop", NO_PERMISSIONS, messages.Emit(topic="bank.paid", data=messages.NOTHING))


def test_listening_needs_a_permission_even_for_own_topics() -> None:
    """Others may emit these: who listens takes what others send."""
    with pytest.raises(PermissionDenied) as refused:
        gate.admit("shop", NO_PERMISSIONS, messages.Subscribe(0, Handler(1, "shop.sold", "sold")))
    assert refused.value.fields["line"] == 'on = ["shop.sold"]'
