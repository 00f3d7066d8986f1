"""A report as one page of HTML: no script, nothing loaded from elsewhere, readable in print and in the dark.

Names and categories are somebody's data: whatever goes into the page is escaped, and stands in ``<bdi>``, so that
text that runs the other way, or pretends to, stays in its cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any
from unicodedata import east_asian_width

__all__ = ["page"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --faint: #667085; --line: #d8dee6;
  --before: #8fa3b8; --after: #2b6cb0; --bad: #b42318; --good: #207a3c; --tint: #f5f7fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --paper: #14181f; --faint: #98a2b3; --line: #333c48;
  --before: #66788c; --after: #63a4e8; --bad: #ff8a7a; --good: #6fcf8e; --tint: #1c222b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 68rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
bdi, code { overflow-wrap: anywhere; } /* somebody's text gives way, our own words stay whole */
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 0; display: inline; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--faint); font-weight: 600; } td.n, th.n { text-align: right; white-space: nowrap; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .5rem .9rem; }
summary { cursor: pointer; }
.drift { color: var(--bad); font-weight: 600; } .stable { color: var(--good); } .faint { color: var(--faint); }
.parts { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 1.2rem; margin-top: .6rem; }
.parts td.n { white-space: normal; }
@media (max-width: 48rem) { .parts { grid-template-columns: minmax(0, 1fr); } }
.key::before { content: ""; display: inline-block; width: .8em; height: .8em;
  margin-right: .35em; background: currentColor; }
.before { color: var(--before); } .after { color: var(--after); } .wide { overflow-x: auto; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 11px system-ui, sans-serif; }
rect.b { fill: var(--before); } rect.a { fill: var(--after); }
"""

_METRICS = (
    ("psi", "PSI"),
    ("js", "Jensen-Shannon"),
    ("ks", "KS"),
    ("wasserstein", "Wasserstein"),
    ("wasserstein_scaled", "Wasserstein, in deviations"),
    ("nulls", "change of nulls"),
    ("unseen", "rows of unseen categories"),
)
_WIDE = frozenset("mwMW@%&") | frozenset("ABCDEFGHKLNOPQRSUVXYZ")
_MOST_BARS = 24
_LABEL = 29
"""How wide the label of a bar may be, in digits."""


def page(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of reports, as :meth:`DriftReport.to_dict` gives them, by feature set."""
    title = "Drift: " + ", ".join(reports)
    body = "\n".join(part for name, report in reports.items() for part in _feature_set(name, report))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Drift</h1>\n{body}\n</body>\n</html>\n"
    )


def _text(value: object) -> str:
    """A name or value of somebody's, for the page."""
    shown = str(value).translate(_CONTROLS)
    return f"<bdi>{escape(shown)}</bdi>"


_CONTROLS = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)]} | {
    # Marks that turn the direction of the text around them.
    code: f"\\u{code:04x}"
    for code in [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
}


def _number(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):  # NaN and the like
        return escape(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}"


def _time(value: float | None) -> str:
    """Microseconds since 1970, as a time; as the number they are beyond the years that Python knows."""
    try:
        time = "" if value is None else str(datetime(1970, 1, 1) + timedelta(microseconds=value))  # noqa: DTZ001
        return time.removesuffix(" 00:00:00")
    except (OverflowError, TypeError):
        return _number(value)


def _clock(value: float | None) -> str:
    """Microseconds since midnight, as a time of day."""
    midnight = datetime(1970, 1, 1)  # noqa: DTZ001 - there is no zone
    return "" if value is None else str((midnight + timedelta(microseconds=value)).time())


_TIMES = {"time": _time, "time of day": _clock}


def _span(value: Any) -> str:
    """Microseconds, in the greatest unit of which there is one."""
    if not isinstance(value, int | float):
        return _number(value)
    units = (("d", 86_400e6), ("h", 3_600e6), ("min", 60e6), ("s", 1e6), ("ms", 1e3))
    unit, length = next(((unit, length) for unit, length in units if value >= length), ("µs", 1.0))
    return f"{value / length:.4g} {unit}" if value else "0"


def _feature_set(name: str, report: Mapping[str, Any]) -> Iterator[str]:
    before, after = report["before"], report["after"]
    verdict = _verdict(report)
    yield f"<h2>{_text(name)}</h2>"
    yield f"<p>{verdict}</p>"
    yield '<table><tr><th></th><th>version</th><th>commit</th><th class="n">rows</th></tr>'
    for word, side in (("before", before), ("after", after)):
        yield (
            f'<tr><td><span class="key {word}">{word}</span></td><td>{_text(side["feature_set"])}'
            f" v{side['version']}</td>"
            f'<td><code>{escape(side["commit"])}</code></td><td class="n">{side["rows"]:,}</td></tr>'
        )
    yield "</table>"
    yield from _schema(report)
    columns = sorted(report["columns"], key=lambda column: not column["drifted"])
    if not columns:
        yield '<p class="faint">No columns were compared.</p>'
        return
    yield from _overview(columns)
    limits = ", ".join(
        f"{escape(key)} {_number(value)}" for key, value in report["thresholds"].items() if value is not None
    )
    yield f'<p class="faint">Thresholds: {limits}. A finding is above its threshold and above what chance does.</p>'
    for column in columns:
        yield from _column(column)


def _verdict(report: Mapping[str, Any]) -> str:
    if report["emptied"]:
        return '<span class="drift">One side has no rows: nothing can be compared.</span>'
    if not report["drifted"]:
        return '<span class="stable">No drift was found.</span>'
    drifted = report["drifted_columns"]
    what = f"{len(drifted)} of {len(report['columns'])} columns drifted" if drifted else "The schema drifted"
    if drifted and report["schema"]["drifted"]:
        what += ", and the schema did"
    return f'<span class="drift">{what}.</span>'


def _schema(report: Mapping[str, Any]) -> Iterator[str]:
    schema = report["schema"]
    parts = [
        f"{word}: {', '.join(map(_text, schema[key]))}"
        for key, word in (("dropped", "gone"), ("added", "new, not compared"))
        if schema[key]
    ]
    parts += [f"{_text(name)} was {escape(old)}, is {escape(new)}" for name, old, new in schema["retyped"]]
    if parts:
        kind = "drift" if schema["drifted"] else "faint"
        yield f'<p><span class="{kind}">Schema.</span> {"; ".join(parts)}</p>'
    if report["excluded"]:
        yield f'<p class="faint">Not compared, since it is the key: {", ".join(map(_text, report["excluded"]))}</p>'


def _overview(columns: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield '<div class="wide"><table><tr><th>column</th><th></th><th>measured as</th>'
    yield (
        "".join(f'<th class="n">{name}</th>' for name in ("PSI", "JS", "KS", "nulls before", "nulls after"))
        + "</tr>"
    )
    for column in columns:
        metrics = column["metrics"]
        cells = [_number(metrics.get(key)) for key in ("psi", "js", "ks")]
        cells += [_share(column[side]["nulls"], column[side]["rows"]) for side in ("before", "after")]
        yield (
            f"<tr><td>{_text(column['name'])}</td><td>{_state(column)}</td><td>{_measured_as(column)}</td>"
            + "".join(f'<td class="n">{cell}</td>' for cell in cells)
            + "</tr>"
        )
    yield "</table></div>"


def _measured_as(column: Mapping[str, Any]) -> str:
    kind = "text, by length" if column["kind"] == "text" else column["kind"]
    return f'{escape(kind)} <span class="faint">{escape(column["method"])}</span>'


def _state(column: Mapping[str, Any]) -> str:
    if column["drifted"]:
        return '<span class="drift">drift</span>'
    if column["method"] == "none":
        return '<span class="faint">not compared</span>'
    if column["findings"]:
        return '<span class="faint">moved, not judged</span>'
    return '<span class="stable">stable</span>'


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else ""


def _column(column: Mapping[str, Any]) -> Iterator[str]:
    yield f"<details{' open' if column['drifted'] else ''}><summary><h3>{_text(column['name'])}</h3> {_state(column)}"
    found = "; ".join(
        f"{escape(finding['metric'])} {_number(finding['value'])}, limit {_number(finding['limit'])}"
        for finding in column["findings"]
    )
    yield f' <span class="faint">{found}</span>'
    yield '</summary><div class="parts"><div>'
    if column["method"] == "identical":
        yield '<p class="faint">The same values in the same order, by their digests: nothing was read.</p>'
    elif column["bins"]:
        yield _bars(column["bins"])
        yield f'<p class="faint">Bins: {escape(column["bins"]["source"])}.</p>'
    yield "</div><div>"
    yield from _profiles(column)
    yield "</div></div></details>"


def _profiles(column: Mapping[str, Any]) -> Iterator[str]:
    yield '<table><tr><th></th><th class="n before">before</th><th class="n after">after</th></tr>'
    for key, word in (
        ("nulls", "nulls"),
        ("nan", "NaN"),
        ("infinite", "infinite"),
        ("minimum", "minimum"),
        ("maximum", "maximum"),
        ("mean", "mean"),
        ("deviation", "deviation"),
        ("distinct", "categories"),
    ):
        values = [column[side][key] for side in ("before", "after")]
        if any(value is not None for value in values) and (key not in ("nan", "infinite") or any(values)):
            shown = _number
            if column["kind"] in _TIMES and key in ("minimum", "maximum", "mean", "deviation"):
                shown = _span if key == "deviation" else _TIMES[column["kind"]]
            cells = "".join(f'<td class="n">{shown(value)}</td>' for value in values)
            yield f"<tr><td>{word}</td>{cells}</tr>"
    yield "</table><table>"
    for key, word in _METRICS:
        if key in column["metrics"]:
            error = column["metrics"].get(f"{key}_error")
            shown = _span if column["kind"] in _TIMES and key == "wasserstein" else _number
            within = f' <span class="faint">± {shown(error)}</span>' if error else ""
            yield f'<tr><td>{word}</td><td class="n">{shown(column["metrics"][key])}{within}</td></tr>'
    yield "</table>"
    for key, word in (("new", "New"), ("gone", "Gone")):
        if column[key]:
            named = ", ".join(f"{_text(value)} ({rows:,})" for value, rows in column[key])
            more = column[f"{key}_categories"] - len(column[key])
            yield f"<p>{word} categories: {named}{f', and {more:,} more' if more else ''}</p>"


def _width(text: str) -> int:
    """About how wide a text is, in digits: letters of the east take two, capitals and the widest small ones nearly."""
    return sum(2 if east_asian_width(one) in "WF" or one in _WIDE else 1 for one in text)


def _cut(text: str) -> str:
    """The beginning of a text, as much as there is room for."""
    head = text[: _LABEL + 1]
    if _width(head) <= _LABEL:
        return text
    end = next(end for end in range(len(head), -1, -1) if _width(head[:end]) < _LABEL)
    return text[:end] + "…"


def _bars(bins: Mapping[str, Any]) -> str:
    """The share of rows in each bin, before and after, side by side."""
    rows = list(zip(bins["labels"], bins["before"], bins["after"], strict=True))
    totals = [max(sum(bins[side]), 1) for side in ("before", "after")]
    rows = [row for row in rows if row[1] or row[2]]
    left_out = len(rows) - _MOST_BARS
    shares = [(label, b / totals[0], a / totals[1]) for label, b, a in rows[:_MOST_BARS]]
    widest = max((max(b, a) for _, b, a in shares), default=1.0) or 1.0
    parts = []
    for i, (label, b, a) in enumerate(shares):
        top = i * 30
        label = str(label).translate(_CONTROLS)
        lines = [label]
        if bins["edges"] and _width(label) > _LABEL:  # both edges are of interest
            first, to, edge = label.partition(" to ") if " to " in label else label.partition(" ")
            lines = [first, (to + edge).strip()]
        for line, y in zip(lines, (17,) if len(lines) == 1 else (11, 23), strict=True):
            shown = _cut(line)
            whole = "" if shown == line else f"<title>{escape(line)}</title>"
            # Isolated, as <bdi> does in HTML.
            parts.append(
                f'<text x="195" y="{top + y}" text-anchor="end" style="unicode-bidi: isolate">'
                f"{escape(shown)}{whole}</text>"
            )
        for share, kind, offset in ((b, "b", 3), (a, "a", 14)):
            width = 300 * share / widest
            parts.append(f'<rect class="{kind}" x="201" y="{top + offset}" width="{width:.1f}" height="9"/>')
            parts.append(f'<text x="{205 + width:.1f}" y="{top + offset + 8}">{share:.1%}</text>')
    height = max(len(shares) * 30, 1)
    note = f'<p class="faint">{left_out} more bins are in the JSON report.</p>' if left_out > 0 else ""
    picture = "".join(parts)
    return f'<svg viewBox="0 0 550 {height}" role="img" aria-label="shares by bin">{picture}</svg>{note}'
