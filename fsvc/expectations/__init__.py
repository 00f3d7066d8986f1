"""Expectations: checks that are stored with a feature set, and run whenever a commit gives it a new table.

>>> repo.expect("customers", [{"kind": "not_null", "column": "balance"}])
>>> repo.snapshot("customers").check().passed
True

docs/expectations.md says what there is; where expectations stand, and when they are looked at, is in
docs/decisions/0020-expectations.md.
"""

from __future__ import annotations

from fsvc.expectations.report import Example, Report, Result
from fsvc.format.expectation import Expectation

__all__ = ["Example", "Expectation", "Report", "Result"]
