"""Requirements of a manifest, such as ``billing>=2,<3``: their parts, and whether a version satisfies one. Pure."""

from __future__ import annotations

from microkernel.kernel.manifest import Manifest


def split(requirement: str) -> tuple[str, str]:
    """Split ``billing>=2,<3`` into name and version specifier."""
    name = requirement.strip()
    for index, character in enumerate(name):
        if character in "<>=!~ ":
            return name[:index], name[index:].strip()
    return name, ""


def requires(manifest: Manifest, name: str) -> bool:
    """Return whether a plugin with this manifest requires the plugin ``name``."""
    return any(split(requirement)[0] == name for requirement in manifest.requires)


def satisfies(version: str, requested: str) -> bool:
    """Return whether a version satisfies a specifier. An empty one accepts any version."""
    if not requested:
        return True
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # only where a version is asked for

    try:
        return SpecifierSet(requested).contains(version, prereleases=True)
    except (InvalidSpecifier, ValueError):  # InvalidVersion is one; and numbers have at most 4,300 digits
        return False
