"""How distributions moved: the drift of a feature set's columns from one snapshot to another.

>>> report = repo.drift("customers@v1", "customers@v3")
>>> report.drifted_columns
('balance',)

``compare`` is what :meth:`fsvc.Repository.drift` calls; docs/drift.md says what is measured, and how.
"""

from __future__ import annotations

from fsvc.drift.comparing import Options, compare
from fsvc.drift.report import Bins, ColumnDrift, DriftReport, Finding, Profile, SchemaDrift, document, html
from fsvc.drift.thresholds import Thresholds, parse_thresholds

__all__ = [
    "Bins",
    "ColumnDrift",
    "DriftReport",
    "Finding",
    "Options",
    "Profile",
    "SchemaDrift",
    "Thresholds",
    "compare",
    "document",
    "html",
    "parse_thresholds",
]
