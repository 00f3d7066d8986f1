"""How expectations, and what came of checking them, are shown: the same in every command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fsvc.cli.output import Output, counted

if TYPE_CHECKING:
    from fsvc.expectations import Report
    from fsvc.format.expectation import Expectation

__all__ = ["print_report", "tell_warnings", "verified_text", "words"]

_MOST_VALUES = 8
_BOUNDS = {"min": "at least", "above": "above", "max": "at most", "below": "below"}


def words(one: Expectation) -> str:
    """What an expectation asks for, in a few words."""
    terms = one.terms
    if one.kind == "column":
        return f"is there, as {terms['type']}" if "type" in terms else "is there"
    if one.kind == "not_null":
        return f"null in at most {terms['at_most']:.4g} of the rows" if terms.get("at_most") else "never null"
    if one.kind == "unique":
        return "no two rows have the same values"
    if one.kind in ("range", "rows"):
        return " and ".join(f"{word} {terms[term]}" for term, word in _BOUNDS.items() if term in terms)
    if one.kind == "values":
        shown = ", ".join(str(value) for value in terms["values"][:_MOST_VALUES])
        more = len(terms["values"]) - _MOST_VALUES
        return f"one of {shown}" + (f" and {more:,} more" if more > 0 else "")
    if one.kind == "match":
        return f"matches {terms['pattern']}"
    if one.kind == "fresh":
        return f"the newest is at most {terms['within']} old"
    limits = terms.get("thresholds") or {}
    given = ", ".join(f"{name}={'none' if limit is None else limit}" for name, limit in limits.items())
    return "no drift against the version before" + (f" ({given})" if given else "")


def print_report(out: Output, report: Report) -> None:
    """Print what came of a check: what failed first."""
    count = len(report.results)
    if not count:
        out.line("nothing is expected of ", report.feature_set)
        return
    bad = len(report.failed) + len(report.warnings)
    verdict = (
        f"{bad} of {counted(count, 'expectation')} not met" if bad else f"{counted(count, 'expectation')} met"
    )
    out.line(
        out.styled(report.feature_set, bold=True),
        f" v{report.version}  ",
        out.styled(verdict, fg="red" if report.failed else "yellow" if bad else "green"),
    )
    order = {"failed": 0, "not judged": 1, "met": 2}
    rows = [
        (
            "warning" if result.outcome == "failed" and not result.stops else result.outcome,
            result.expectation.name,
            result.said + "".join(f"; {example}" for example in result.examples),
        )
        for result in sorted(report.results, key=lambda result: (order[result.outcome], not result.stops))
    ]
    out.table(["state", "expectation", "what was found"], rows)


def tell_warnings(out: Output, reports: Iterable[Report]) -> None:
    """Say on stderr which expectations are not met that stop no commit, and which could not be judged."""
    for report in reports:
        for result in report.warnings:
            out.warn(report.feature_set, ": ", str(result))
        for result in report.not_judged:
            out.note(report.feature_set, ": ", str(result), ": not judged")


def verified_text(change: Mapping[str, Any]) -> str:
    """What the record of changes says of expectations: ``5 expectations met``; empty where there were none."""
    found = change.get("expectations")
    if not isinstance(found, Mapping):
        return ""
    unverified = found.get("not_verified")
    if isinstance(unverified, int):
        return f"not verified: {counted(unverified, 'expectation')}"
    parts = []
    if isinstance(found.get("met"), int):
        parts.append(f"{counted(found['met'], 'expectation')} met")
    for member, word in (("warnings", "not met"), ("not_judged", "not judged")):
        if isinstance(found.get(member), list):
            parts.append(f"{len(found[member])} {word}")
    return ", ".join(parts)
