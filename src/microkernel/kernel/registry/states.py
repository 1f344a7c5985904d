"""The lifecycle of a plugin as one table of transitions. A transition that is not in it is an error."""

from __future__ import annotations

from typing import Final, Literal

from microkernel.errors import KernelError

State = Literal[
    "discovered", "loaded", "starting", "active", "stopping", "stopped",
    "failed", "waiting", "backoff", "quarantined", "held", "zombie",
]  # fmt: skip
Trigger = Literal[
    "refused", "held", "approved", "loaded", "start", "started", "failed", "died", "budget_exhausted", "stop", "ended",
    "unkillable", "not_ready",
]  # fmt: skip

TABLE: Final[dict[tuple[State, Trigger], State]] = {
    # decisions before any code of the plugin runs
    ("discovered", "refused"): "failed",
    ("discovered", "held"): "held",
    ("stopped", "held"): "held",
    ("failed", "held"): "held",
    ("quarantined", "held"): "held",
    ("backoff", "held"): "held",
    ("held", "approved"): "discovered",
    ("held", "start"): "discovered",  # the start was requested, so the plugin is reviewed again
    # an instance is created (import and __init__), then started
    ("discovered", "loaded"): "loaded",
    ("stopped", "loaded"): "loaded",
    ("failed", "loaded"): "loaded",
    ("quarantined", "loaded"): "loaded",
    ("backoff", "loaded"): "loaded",
    ("loaded", "start"): "starting",
    ("starting", "started"): "active",
    # it did not start; an error of the plugin is not retried
    ("stopped", "failed"): "failed",
    ("failed", "failed"): "failed",
    ("quarantined", "failed"): "failed",
    ("backoff", "failed"): "failed",
    ("discovered", "failed"): "failed",
    ("loaded", "failed"): "failed",
    ("starting", "failed"): "failed",
    ("active", "not_ready"): "waiting",  # a reload failed, and the old source is no longer ready
    ("active", "failed"): "failed",  # a reload failed, and the old source cannot be loaded again either
    # it is not ready yet, or a plugin that it requires is not; it is started again later
    ("starting", "not_ready"): "waiting",
    ("discovered", "not_ready"): "waiting",
    ("stopped", "not_ready"): "waiting",
    ("failed", "not_ready"): "waiting",
    ("quarantined", "not_ready"): "waiting",
    ("backoff", "not_ready"): "waiting",
    ("waiting", "not_ready"): "waiting",
    ("waiting", "loaded"): "loaded",
    ("waiting", "held"): "held",
    ("waiting", "failed"): "failed",
    ("waiting", "died"): "backoff",
    ("waiting", "stop"): "stopped",
    ("waiting", "unkillable"): "zombie",
    # a crash, at any time, counts against the restart budget
    ("discovered", "died"): "backoff",
    ("stopped", "died"): "backoff",
    ("failed", "died"): "backoff",
    ("quarantined", "died"): "backoff",
    ("backoff", "died"): "backoff",
    ("loaded", "died"): "backoff",
    ("starting", "died"): "backoff",
    ("active", "died"): "backoff",
    ("backoff", "budget_exhausted"): "quarantined",
    # a requested stop
    ("active", "stop"): "stopping",
    ("starting", "stop"): "stopping",
    ("loaded", "stop"): "stopping",
    ("stopping", "ended"): "stopped",
    ("backoff", "stop"): "stopped",
    ("quarantined", "stop"): "stopped",
    ("discovered", "stop"): "stopped",
    ("stopped", "stop"): "stopped",
    ("failed", "stop"): "stopped",
    # a crash that is not followed by a restart
    ("backoff", "ended"): "stopped",
    # a thread that cannot be ended
    ("stopping", "unkillable"): "zombie",
    ("starting", "unkillable"): "zombie",
    ("loaded", "unkillable"): "zombie",
    ("active", "unkillable"): "zombie",
    ("discovered", "unkillable"): "zombie",
    ("failed", "unkillable"): "zombie",
    ("zombie", "ended"): "stopped",
}

# States in which calls wait for the plugin, as events do.
CALLS_WAIT: Final[frozenset[State]] = frozenset({"discovered", "loaded", "starting", "backoff"})
# States that end a start: the plugin is active, will not become active by itself, or is not ready yet.
SETTLED: Final[frozenset[State]] = frozenset(
    {"active", "waiting", "stopped", "failed", "quarantined", "held", "zombie"}
)
# States in which a plugin is not active and will not become active by itself. Plugins that require it run without it.
DOWN: Final[frozenset[State]] = SETTLED - {"active", "waiting"}
# States in which there is an instance.
RUNNING: Final[frozenset[State]] = frozenset({"loaded", "starting", "active", "stopping"})
# States of plugins that were not stopped, and are not quarantined, held or zombies.
WANTED: Final[frozenset[State]] = frozenset(
    {"discovered", "loaded", "starting", "active", "failed", "waiting", "backoff"}
)


def advance(state: State, trigger: Trigger) -> State:
    """Return the state that follows. Raises KernelError for a transition that is not in the table."""
    try:
        return TABLE[state, trigger]
    except KeyError:
        raise KernelError("MK0220", state=state, event=trigger) from None


def diagram() -> str:
    """Return the table as a Mermaid diagram, for the docs."""
    lines = [f"    {before} --> {after}: {trigger}" for (before, trigger), after in TABLE.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> discovered", *lines])


def cure_of(name: str, state: str) -> str:
    """Return the command that makes a plugin in this state run again, as the end of a sentence; empty without one."""
    return _CURES.get(state, "").format(name=name)


_CURES = {
    **dict.fromkeys(("discovered", "stopped", "failed", "waiting"), "; to start it: mk start {name}"),
    "quarantined": "; to start it: mk start {name} --reset",
    "held": "; to approve it: mk approve {name}",
}
