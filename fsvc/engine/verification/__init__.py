"""Verification: read all that a repository holds, and say what is damaged or missing and what it affects.

The walk goes from the refs down: every entry of every ref's log, the commits and all their ancestors,
the index files, the packs, the manifests. What is found damaged is noted and the walk goes on. Every
object is read and its checksum computed; a deep verification also decodes every chunk that a snapshot
names, proves its digest, and computes its Parquet statistics again.

The order makes it right while others commit: whatever a ref names was durable before the ref moved,
so index files are listed after the refs were read, and packs after the index files.

The parts, in that order: ``history`` (refs and commits), ``objects`` (index files and packs), ``standing`` (what
objects stand on), ``snapshots`` (manifests, and what chunks hold), ``missing``. ``walk`` puts them together, and
``report`` is what they say.
"""

from __future__ import annotations

from fsvc.engine.verification.objects import read_trailer
from fsvc.engine.verification.report import Counts, Damage, Report
from fsvc.engine.verification.snapshots import Wanted
from fsvc.engine.verification.walk import Findings, examine, verify, verify_snapshot

__all__ = [
    "Counts",
    "Damage",
    "Findings",
    "Report",
    "Wanted",
    "examine",
    "read_trailer",
    "verify",
    "verify_snapshot",
]
