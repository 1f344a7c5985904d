"""Which plugin waits for which, and whether a call closes a circle that no plugin in it could leave. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

# For each handler thread of a plugin that waits, the plugins it waits for: one for a call, all of them for an ask.
Waits = Mapping[int, Sequence[str]]


def find_cycle(start: str, waits_of: Callable[[str], Waits], capacity_of: Callable[[str], int]) -> list[str] | None:
    """Return the chain ``a -> b -> a`` if ``start`` is stuck; None if it can continue.

    A plugin can continue if one of its handler threads is free, or if all that one of them waits for can continue.
    """
    waits = _reachable(start, waits_of)
    stuck = {plugin for plugin in waits if len(waits[plugin]) >= capacity_of(plugin)}
    while freed := {plugin for plugin in stuck if any(not stuck & {*others} for others in waits[plugin].values())}:
        stuck -= freed
    return _follow(start, waits, stuck) if start in stuck else None


def _reachable(start: str, waits_of: Callable[[str], Waits]) -> dict[str, Waits]:
    found: dict[str, Waits] = {}
    todo = [start]
    while todo:
        plugin = todo.pop()
        if plugin not in found:
            found[plugin] = waits_of(plugin)
            todo += [other for others in found[plugin].values() for other in others]
    return found


def _follow(start: str, waits: Mapping[str, Waits], stuck: set[str]) -> list[str]:
    trail = [start]
    while True:
        following = next(other for others in waits[trail[-1]].values() for other in others if other in stuck)
        if following in trail:
            return [*trail[trail.index(following) :], following]
        trail.append(following)
