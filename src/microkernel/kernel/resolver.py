"""In which order plugins start: layers, each of which needs only those before it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from microkernel.errors import RequirementError


@dataclass(frozen=True, slots=True)
class Plan:
    """``layers`` start one after the other, the plugins of one in any order; ``refused`` cannot start, and why."""

    layers: tuple[tuple[str, ...], ...]
    refused: Mapping[str, RequirementError]


def plan(versions: Mapping[str, str], requires: Mapping[str, Iterable[str]]) -> Plan:
    """The order for plugins of these versions with these requirements (``billing>=2,<3``)."""
    refused: dict[str, RequirementError] = {}
    needs = {name: _needs(name, requires.get(name, ()), versions, refused) for name in versions}
    layers: list[tuple[str, ...]] = []
    placed: set[str] = set()
    while True:
        left = [name for name in versions if name not in placed and name not in refused]
        layer = tuple(sorted(name for name in left if needs[name] <= placed))
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


def layers(requires: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Those that run already, each after those it requires. Who is not among them is not waited for; who goes round in
    a circle comes last."""
    left = {name: {split(need)[0] for need in needs} - {name} for name, needs in requires.items()}
    ordered: list[list[str]] = []
    while left:
        ordered.append([name for name, needs in left.items() if not needs & left.keys()] or list(left))
        for name in ordered[-1]:
            del left[name]
    return ordered


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


def split(requirement: str) -> tuple[str, str]:
    """``billing>=2,<3`` as name and version specifier. Raises RequirementError for what is neither."""
    name = requirement.strip()
    for index, character in enumerate(name):
        if character in "<>=!~ ":
            return name[:index], name[index:].strip()
    return name, ""


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version is among the wanted ones. An empty ``wanted`` takes any."""
    if not wanted:
        return True
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # only where a version is asked for
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(wanted).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False
