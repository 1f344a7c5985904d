"""In which order plugins start: layers, each of which needs only those before it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from microkernel.errors import RequirementError
from microkernel.kernel.requirements import satisfies, split

_NONE: Mapping[str, Collection[str]] = {}


@dataclass(frozen=True, slots=True)
class Plan:
    """``layers`` start one after the other, the plugins of one in any order; ``refused`` cannot start, and why."""

    layers: tuple[tuple[str, ...], ...]
    refused: Mapping[str, RequirementError]


def plan(
    versions: Mapping[str, str], requires: Mapping[str, Iterable[str]], after: Mapping[str, Collection[str]] = _NONE
) -> Plan:
    """The order for plugins of these versions with these requirements (``billing>=2,<3``). ``after`` names plugins that
    start before another, if they start at all; where that contradicts the requirements, these count."""
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
    """Those that run already, each after those it requires, and after those it merely follows (``after``) where that is
    possible. A plugin that is not among them is not waited for; those that form a circle come last."""
    left = {name: {split(need)[0] for need in needs} - {name} for name, needs in requires.items()}
    ordered: list[list[str]] = []
    while left:
        fit = [name for name, needs in left.items() if not needs & left.keys()]
        ordered.append(_first(fit, left, after) or list(left))
        for name in ordered[-1]:
            del left[name]
    return ordered


def _first(fit: list[str], left: Collection[str], after: Mapping[str, Collection[str]]) -> list[str]:
    """Those of ``fit`` that follow none that is left; all of them where that would be none."""
    return [name for name in fit if not any(other in left for other in after.get(name, ()))] or fit


def _needs(
    name: str, requirements: Iterable[str], versions: Mapping[str, str], refused: dict[str, RequirementError]
) -> set[str]:
    needed = set()
    for requirement in requirements:
        other, wanted = split(requirement)
        if other not in versions:
            refused[name] = RequirementError("MK0114", name=name, requirement=requirement)
        elif not satisfies(versions[other], wanted):
            refused[name] = RequirementError(
                "MK0115", name=name, requirement=requirement, other=other, version=versions[other]
            )
        needed.add(other)
    return needed


def _circle(left: list[str], needs: Mapping[str, set[str]]) -> dict[str, RequirementError]:
    """Those who go round in a circle, and the error that names it. What merely needs them is found afterwards."""
    trail = [left[0]]
    while True:
        following = min(needs[trail[-1]] & set(left))
        if following in trail:
            circle = [*trail[trail.index(following) :], following]
            return {name: RequirementError("MK0116", chain=" -> ".join(circle), name=name) for name in circle}
        trail.append(following)
