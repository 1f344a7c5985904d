"""The import-linter contract behind ``[[tool.importlinter.contracts]]``: a list of what a floor may import.

import-linter's own contracts list what is forbidden, so whatever nobody thought of is allowed. This one is the other
way round: the standard library, the floor itself and what is named; nothing else, of ours or of third parties.

- ``floor``: a module or package. The root package stands for its ``__init__`` alone.
- ``may_import``: modules or packages, ours or third-party; ``pkg._*`` is a pattern.
- ``exceptions``: ``"importer -> imported"``, for the one place that wraps a third party.
- ``independent``: the floor's children may not import each other, unless ``may_import`` names them.

Only direct imports count, those under ``TYPE_CHECKING`` and inside functions too. A floor that has no modules yet
is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

from tools.import_graph import circles_of, modules_of, packages_of

ROOT = "microkernel"


def _within(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, p) or (p != ROOT and fnmatchcase(name, f"{p}.*")) for p in patterns)


class FloorContract(Contract):
    """What one floor may import."""

    type_name = "floor"

    floor: Any = fields.StringField()
    may_import: Any = fields.ListField(subfield=fields.StringField(), default=[])
    exceptions: Any = fields.ListField(subfield=fields.StringField(), default=[])
    independent: Any = fields.BooleanField(default=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        del verbose
        refused = [
            (importer, imported, graph.get_import_details(importer=importer, imported=imported))
            for importer in sorted(m for m in graph.modules if _within(m, [self.floor]))
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if not self._allows(importer, imported)
        ]
        return ContractCheck(kept=not refused, metadata={"refused": refused})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported, details in check.metadata["refused"]:
            lines = ", ".join(f"l.{detail['line_number']}" for detail in details) or "l.?"
            maybe = " or a module that is not there" if imported == ROOT else ""
            output.print_error(f"{importer} -> {imported}{maybe} ({lines})", bold=False)
        output.print(f"{self.floor} may import: {', '.join(self.may_import) or 'nothing of ours'}.")
        output.new_line()

    def _allows(self, importer: str, imported: str) -> bool:
        return (
            imported.partition(".")[0] in sys.stdlib_module_names
            or _within(imported, self.may_import)
            or self._is_family(importer, imported)
            or self._is_excepted(importer, imported)
        )

    def _is_family(self, importer: str, imported: str) -> bool:
        if not _within(imported, [self.floor]):
            return False
        children = self._child(importer), self._child(imported)
        return not self.independent or "" in children or children[0] == children[1]

    def _child(self, name: str) -> str:
        """The part of a name right below the floor: ``thread`` of ``microkernel.hosts.thread``; "" for the floor."""
        return name.removeprefix(self.floor).removeprefix(".").partition(".")[0]

    def _is_excepted(self, importer: str, imported: str) -> bool:
        pairs = (exception.split(" -> ") for exception in self.exceptions)
        return any(_within(importer, [left]) and _within(imported, [right]) for left, right in pairs)


class CircleContract(Contract):
    """No circle between the modules of the project, nor between the packages of those named in ``packages``.

    Imports under ``TYPE_CHECKING`` and inside functions count too: they are dependencies, and a reader follows them.
    """

    type_name = "circles"

    packages: Any = fields.ListField(subfield=fields.StringField(), default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        del verbose
        modules = modules_of(graph)
        circles = circles_of(modules)
        for package in self.packages:
            circles += circles_of(packages_of(modules, package))
        return ContractCheck(kept=not circles, metadata={"circles": circles})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for circle in check.metadata["circles"]:
            output.print_error(f"circle: {' '.join(circle)}", bold=False)
        output.new_line()
