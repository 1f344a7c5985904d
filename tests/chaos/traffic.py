"""What events and calls ask of plugins when nothing is meant to go wrong, or only a little."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from tests.chaos.plugins import Role

Roles = Mapping[str, Role]
Doing = tuple[str, dict[str, Any]]


def plain(_roles: Roles, _rng: Random) -> Doing:
    return "", {}


def nap(_roles: Roles, rng: Random) -> Doing:
    return "nap", {"seconds": rng.choice([0.005, 0.02, 0.2])}


def fail(_roles: Roles, _rng: Random) -> Doing:
    return "raise", {}


def emit(roles: Roles, rng: Random) -> Doing:
    """Two events more, that harm nobody."""
    return "emit", {"topics": [topic_of(roles, rng) for _ in range(2)]}


def call(roles: Roles, rng: Random) -> Doing:
    """A call to another plugin; it may close a circle, and is refused then."""
    return "call", {"whom": rng.choice([*roles]), "within": rng.choice([0.2, 0.5, 1.0])}


_DOINGS = {plain: 80, nap: 4, fail: 2, emit: 6, call: 8}


def anything(roles: Roles, rng: Random) -> Doing:
    return rng.choices([*_DOINGS], [*_DOINGS.values()])[0](roles, rng)


def topic_of(roles: Roles, rng: Random) -> str:
    """One of the topics that several listen to."""
    return rng.choice(sorted({topic for role in roles.values() for topic in role.topics if topic != role.address}))
