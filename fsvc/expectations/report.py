"""What came of checking a snapshot: plain values, as an object, in sentences, and as a JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fsvc.format.expectation import Expectation

__all__ = ["Example", "Outcome", "Report", "Result"]

Outcome = Literal["met", "failed", "not judged"]


@dataclass(frozen=True, slots=True)
class Example:
    """A row that an expectation fails for: its number from 0, its key, and the values of the columns in question.

    Or values that ``rows`` rows have; then there is neither number nor key. Values are JSON's: what JSON does not have
    is a text.
    """

    row: int | None
    key: Mapping[str, Any]
    values: Mapping[str, Any]
    rows: int = 1

    def __str__(self) -> str:
        told = [f"{name}={_shown(value)}" for name, value in (self.key or self.values).items()]
        if self.key:
            told += [f"{name} {_shown(value)}" for name, value in self.values.items() if name not in self.key]
        elif self.row is not None:
            told.append(f"row {self.row:,}")
        if self.rows > 1:
            told.append(f"{self.rows:,} rows")
        return ", ".join(told)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one expectation.

    ``said`` is a sentence on what was found, ``rows`` how many rows fail where that is counted.
    """

    expectation: Expectation
    outcome: Outcome
    said: str
    rows: int | None = None
    examples: tuple[Example, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether a commit stops because of it."""
        return self.outcome == "failed" and self.expectation.severity == "error"

    def __str__(self) -> str:
        shown = "; ".join(map(str, self.examples))
        return f"{self.expectation.name}: {self.said}" + (f" ({shown})" if shown else "")


@dataclass(frozen=True)
class Report:
    """What came of the expectations of one feature set.

    Attributes:
        feature_set, version, snapshot: what was checked.
        results: what came of each expectation, in the order of their names.
    """

    feature_set: str
    version: int
    snapshot: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing stops a commit: all expectations are met, but those that are warnings."""
        return not self.failed

    @property
    def failed(self) -> tuple[Result, ...]:
        """Those that stop a commit."""
        return tuple(result for result in self.results if result.stops)

    @property
    def warnings(self) -> tuple[Result, ...]:
        """Those that failed, and are only told of."""
        return tuple(result for result in self.results if result.outcome == "failed" and not result.stops)

    @property
    def not_judged(self) -> tuple[Result, ...]:
        """Those that could not be judged, such as drift where there is nothing before."""
        return tuple(result for result in self.results if result.outcome == "not judged")

    def result(self, name: str) -> Result:
        """What came of one expectation, by its name. Raises KeyError."""
        for result in self.results:
            if result.expectation.name == name:
                return result
        raise KeyError(name)

    def summary(self) -> dict[str, Any]:
        """What the record of changes says of it."""
        found: dict[str, Any] = {"met": sum(result.outcome == "met" for result in self.results)}
        for member, results in (("warnings", self.warnings), ("not_judged", self.not_judged)):
            if results:
                found[member] = [result.expectation.name for result in results]
        return found

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "feature_set": self.feature_set,
            "version": self.version,
            "snapshot": self.snapshot,
            "passed": self.passed,
            "results": [
                {
                    "name": result.expectation.name,
                    "expectation": result.expectation.document(),
                    "outcome": result.outcome,
                    "severity": result.expectation.severity,
                    "said": result.said,
                    "rows": result.rows,
                    "examples": [
                        {"row": one.row, "key": dict(one.key), "values": dict(one.values), "rows": one.rows}
                        for one in result.examples
                    ],
                }
                for result in self.results
            ],
        }


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
