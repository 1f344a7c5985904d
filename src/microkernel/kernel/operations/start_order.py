"""Compute the order in which plugins start: layers, each of which requires only earlier ones. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from microkernel.errors import RequirementError
from microkernel.kernel.requirements import satisfies, split
from microkernel.wire.light_dataclasses import dataclass

_NONE: Mapping[str, Collection[str]] = {}


@dataclass(frozen=True, slots=True)
class Plan:
    """A start order. ``layers`` start one after the other, the plugins of a layer in any order. ``refused``: the error
    for each plugin that cannot start."""

    layers: tuple[tuple[str, ...], ...]
    refused: Mapping[str, RequirementError]


def plan(
    versions: Mapping[str, str], requires: Mapping[str, Iterable[str]], after: Mapping[str, Collection[str]] = _NONE
) -> Plan:
    """Return the start order of plugins with these versions and requirements (``billing>=2,<3``).

    ``after`` names, for a plugin, those that start before it, if they start at all. Requirements take precedence over
    ``after``.
    """
    refused: dict[str, RequirementError] = {}
    needs = {name: _needs(name, requires.get(name, ()), versions, refused) for name in versions}
    layers: list[tuple[str, ...]] = []
    placed: set[str] = set()
    while True:
        left = [name for name in versions if name not in placed and name not in refused]
        fit = [name for name in left if needs[name] <= placed]
        layer = tuple(sorted(_first(fit, left, after)))
        for name in left:
            lost = sorted(needs[name] & refused.keys())
            if lost:
                refused[name] = RequirementError("MK0114", name=name, requirement=lost[0])
        if layer:
            layers.append(layer)
            placed.update(layer)
        elif all(name in refused for name in left):
            return Plan(tuple(layers), refused)
        elif not any(name in refused for name in left):
            refused.update(_circle(left, needs))


def layers(requires: Mapping[str, Iterable[str]], after: Mapping[str, Collection[str]] = _NONE) -> list[list[str]]:
    """Return layers of running plugins, each after those it requires and, if possible, those it follows (``after``).

    Requirements that are not among the plugins are ignored; plugins that form a circle come last.
    """
    left = {name: {split(need)[0] for need in needs} - {name} for name, needs in requires.items()}
    ordered: list[list[str]] = []
    while left:
        fit = [name for name, needs in left.items() if not needs & left.keys()]
        ordered.append(_first(fit, left, after) or list(left))
        for name in ordered[-1]:
            del left[name]
    return ordered


def _first(fit: list[str], left: Collection[str], after: Mapping[str, Collection[str]]) -> list[str]:
    """Return the plugins of ``fit`` that do not follow one of ``left``; all of ``fit`` if there are none."""
    return [name for name in fit if not any(other in left for other in after.get(name, ()))] or fit


def _needs(
    name: str, requirements: Iterable[str], versions: Mapping[str, str], refused: dict[str, RequirementError]
) -> set[str]:
    needed = set()
    for requirement in requirements:
        other, requested = split(requirement)
        if other not in versions:
            refused[name] = RequirementError("MK0114", name=name, requirement=requirement)
        elif not satisfies(versions[other], requested):
            refused[name] = RequirementError(
                "MK0115", name=name, requirement=requirement, other=other, version=versions[other]
            )
        needed.add(other)
    return needed


def _circle(left: list[str], needs: Mapping[str, set[str]]) -> dict[str, RequirementError]:
    """Return the plugins of one circle, each with the error that names it. Their dependents are found later."""
    trail = [left[0]]
    while True:
        following = min(needs[trail[-1]] & set(left))
        if following in trail:
            circle = [*trail[trail.index(following) :], following]
            return {name: RequirementError("MK0116", chain=" -> ".join(circle), name=name) for name in circle}
        trail.append(following)
