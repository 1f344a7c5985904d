"""Inspects the source of plugins, reports findings and proposes permissions, without running anything.

It is a linter, not a protection: code can be hidden from it on purpose. What confines a plugin is its isolation level.
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
