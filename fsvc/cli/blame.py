"""``fsvc blame``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import first_line, short
from fsvc.cli.keys import KEY_HELP, key_options
from fsvc.cli.output import Output, ago, clip
from fsvc.cli.values import as_json, as_text

if TYPE_CHECKING:
    from fsvc.blame import CellOrigin, RowVersion
    from fsvc.snapshot import Commit

__all__ = ["blame"]

_WIDEST_CELL = 40
_SIGNS = {"removed": ("-", "red"), "added": ("+", "green"), "changed": ("~", "yellow")}


@command(
    "blame",
    examples="""
        fsvc blame customers --key 1042
        fsvc blame customers --key 1042 --cells
        fsvc blame customers@v3 --key 1000..1010
        fsvc blame rates --key 2026-11-01,EUR
    """,
)
@click.argument("address", metavar="NAME[@REV]")
@click.option("--key", "text", required=True, metavar="VALUE[,VALUE]", help=KEY_HELP)
@click.option("--cells", "by_cell", is_flag=True, help="For each cell as it is now, who last set it.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N changes.")
def blame(context: Context, address: str, text: str, by_cell: bool, limit: int | None) -> None:
    """Tell what became of a row: when it appeared, what changed, who did it; newest first.

    With --cells, for each cell of the row as it is now, the commit that last set it. Only the row groups
    that can hold the key are read, and of these only what differs between versions.
    """
    name, _, revision = address.partition("@")
    rows = context.repository().blame(name, revision=revision or None, **key_options(text))
    if by_cell:
        cells = rows.cells()[:limit]
        context.output.show(
            {
                "name": name,
                "cells": [_cell_document(cell) for cell in cells],
                "cut_short": rows.is_cut_short,
            },
            lambda out: _print_cells(out, cells, rows.is_cut_short),
        )
        return
    versions = rows.versions(limit)
    context.output.show(
        {
            "name": name,
            "versions": [_document(version) for version in versions],
            "cut_short": rows.is_cut_short,
        },
        lambda out: _print(out, versions, rows.is_cut_short),
    )


def _commit_document(commit: Commit, version: int | None) -> dict[str, Any]:
    return {
        "commit": commit.id,
        "version": version,
        "author": commit.author,
        "time": commit.time,
        "message": commit.message,
    }


def _document(version: RowVersion) -> dict[str, Any]:
    return {
        "key": as_json(version.key),
        "change": version.change,
        "before": as_json(version.before),
        "after": as_json(version.after),
        **_commit_document(version.commit, version.version),
    }


def _cell_document(cell: CellOrigin) -> dict[str, Any]:
    return {
        "key": as_json(cell.key),
        "column": cell.column,
        "value": as_json(cell.value),
        **_commit_document(cell.commit, cell.version),
    }


def _note_gone(out: Output, cut_short: bool) -> None:
    if cut_short:
        out.note("parts of older versions have expired or were erased: what became of rows there is not told")


def _print(out: Output, versions: Sequence[RowVersion], cut_short: bool) -> None:
    _note_gone(out, cut_short)
    if not versions and not cut_short:
        out.note("there never was such a row")
    for version in versions:
        out.line(
            out.styled(short(version.commit.id), fg="yellow"),
            "  " if version.version is None else f"  v{version.version}  ",
            "  ".join(
                (
                    ago(version.commit.time),
                    version.commit.author.partition(" <")[0],
                    first_line(version.commit.message),
                )
            ),
        )
        sign, colour = _SIGNS[version.change]
        before, after = version.before or {}, version.after or {}
        if version.change == "changed":
            told = ", ".join(
                f"{name}: {_cell(before[name])} -> {_cell(value)}" for name, value in after.items()
            )
        else:
            told = ", ".join(f"{name}: {_cell(value)}" for name, value in (after or before).items())
        out.line(out.styled(f"  {sign} {_key(version.key)}{'  ' if told else ''}{told}", fg=colour))


def _print_cells(out: Output, cells: Sequence[CellOrigin], cut_short: bool) -> None:
    _note_gone(out, cut_short)
    if not cells and not cut_short:
        out.note("there is no such row now")
    out.table(
        ["key", "column", "value", "commit", "version", "time", "author", "message"],
        [
            (
                _key(cell.key),
                cell.column,
                _cell(cell.value),
                short(cell.commit.id),
                f"v{cell.version}",
                ago(cell.commit.time),
                cell.commit.author.partition(" <")[0],
                first_line(cell.commit.message),
            )
            for cell in cells
        ],
    )


def _key(key: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_cell(value)}" for name, value in key.items())


def _cell(value: Any) -> str:
    return clip(as_text(value), _WIDEST_CELL)
