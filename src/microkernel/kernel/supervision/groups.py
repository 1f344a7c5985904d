"""Groups of plugins that are restarted together, as the operator configured them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from microkernel.kernel.config import Group


def predecessors(groups: Iterable[Group]) -> dict[str, set[str]]:
    """Return, for each member of a group, the members that start before it and stop after it."""
    before: dict[str, set[str]] = {}
    for group in groups:
        for index, name in enumerate(group.plugins):
            before.setdefault(name, set()).update(group.plugins[:index])
    return before


def group_members(groups: Iterable[Group], name: str) -> list[str]:
    """Return the plugins that are restarted with ``name``, in the order in which they start.

    ``one_for_one``: none; ``one_for_all``: all others of its group; ``rest_for_one``: those that are listed after it.
    """
    found: dict[str, None] = {}
    for group in groups:
        if name in group.plugins and group.strategy != "one_for_one":
            begin = group.plugins.index(name) if group.strategy == "rest_for_one" else 0
            found |= dict.fromkeys(other for other in group.plugins[begin:] if other != name)
    return list(found)


def in_start_order(groups: Iterable[Group], names: Iterable[str]) -> list[str]:
    """Return members of groups in the order in which they start."""
    order = [name for group in groups for name in group.plugins]
    return sorted(names, key=order.index)
