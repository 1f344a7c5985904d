"""Print the packages of ``microkernel.kernel`` layer by layer, top layer first, with the packages that each imports.

    .venv/bin/python -m tools.import_graph

Imports under ``TYPE_CHECKING`` and inside functions count. It ends with "no circle", or with the circles, and exit
status 1.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping

import grimp
from grimp import ImportGraph

PACKAGE = "microkernel.kernel"
Imports = Mapping[str, Collection[str]]


def build() -> ImportGraph:
    return grimp.build_graph("microkernel", cache_dir=None)


def modules_of(graph: ImportGraph) -> Imports:
    """Return what each module imports of the project's own modules."""
    return {module: graph.find_modules_directly_imported_by(module) & graph.modules for module in graph.modules}


def packages_of(imports: Imports, package: str = PACKAGE) -> dict[str, set[str]]:
    """Return what each child of a package imports of the others, by the last parts of their names."""
    children: dict[str, set[str]] = {}
    for module, imported in imports.items():
        if (child := _child(module, package)) is not None:
            found = children.setdefault(child, set())
            found.update(other for each in imported if (other := _child(each, package)) not in (None, child) and other)
    return children


def _child(module: str, package: str) -> str | None:
    prefix = f"{package}."
    return module.removeprefix(prefix).partition(".")[0] if module.startswith(prefix) else None


def layers_of(imports: Imports) -> list[list[str]]:
    """Return layers from the bottom: each name above the highest one that it imports. A circle is in none."""
    left, layers = dict(imports), list[list[str]]()
    while left:
        layer = sorted(name for name, imported in left.items() if not left.keys() & set(imported))
        if not layer:
            break
        layers.append(layer)
        for name in layer:
            del left[name]
    return layers


def circles_of(imports: Imports) -> list[list[str]]:
    """Return the groups in which each reaches each other by imports."""
    return [sorted(group) for group in _components(imports) if len(group) > 1]


def _components(imports: Imports) -> list[list[str]]:
    """Strongly connected components, by two depth-first searches (Kosaraju)."""
    importers: dict[str, list[str]] = {name: [] for name in imports}
    for name, imported in imports.items():
        for each in imported:
            importers[each].append(name)
    seen: set[str] = set()
    order: list[str] = []
    for name in sorted(imports):
        order += _walk(name, imports, seen)
    seen = set()
    return [found for name in reversed(order) if (found := _walk(name, importers, seen))]


def _walk(start: str, edges: Imports, seen: set[str]) -> list[str]:
    """Return what is reached from ``start`` and was not seen, each after what it reaches. Not by recursion: a chain of
    imports may be longer than the stack."""
    if start in seen:
        return []
    seen.add(start)
    finished: list[str] = []
    stack = [(start, iter(sorted(edges[start])))]
    while stack:
        name, rest = stack[-1]
        following = next((each for each in rest if each not in seen), None)
        if following is None:
            finished.append(name)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(sorted(edges[following]))))
    return finished


def drawing(packages: Imports) -> str:
    """Return the packages as text, the top layer first."""
    lines = [f"{PACKAGE}, top layer first, with the packages that each imports:", ""]
    for number, layer in reversed(list(enumerate(layers_of(packages), 1))):
        lines += [f"{number:2}  {name:<12} {' '.join(sorted(packages[name])) or '-'}" for name in layer]
    return "\n".join(lines)


def main() -> int:
    modules = modules_of(build())
    packages = packages_of(modules)
    circles = [*circles_of(packages), *circles_of(modules)]
    lines = [f"circle: {' '.join(circle)}" for circle in circles]
    lines = lines or ["no circle, neither between packages of the kernel nor between modules of the project"]
    sys.stdout.write("\n".join([drawing(packages), "", *lines, ""]))
    return 1 if circles else 0


if __name__ == "__main__":
    sys.exit(main())
