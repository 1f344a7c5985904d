"""Looks at the source of plugins and says what is in it, and what they should declare. Runs nothing.

It is a linter, not a wall: who wants to hide something from it can. What holds a plugin is the level it runs at.
"""

from __future__ import annotations

from microkernel.loader.auditor.findings import LEVELS, SEVERITIES, Finding, Place, Severity, Use
from microkernel.loader.auditor.proposal import Change, Table
from microkernel.loader.auditor.report import Report, audit, places_of
from microkernel.loader.auditor.source import inspect_data, inspect_source

__all__ = [
    "LEVELS",
    "SEVERITIES",
    "Change",
    "Finding",
    "Place",
    "Report",
    "Severity",
    "Table",
    "Use",
    "audit",
    "inspect_data",
    "inspect_source",
    "places_of",
]
