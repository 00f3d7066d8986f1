"""Kinds of options that several commands take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

__all__ = ["NAMES"]

if TYPE_CHECKING:
    _Kind = click.ParamType[tuple[str, ...]]
else:
    _Kind = click.ParamType  # older versions take no argument


class _Names(_Kind):
    """Names of columns with commas between; the empty text is no column. A comma in a name is doubled."""

    name = "names"

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names, as they were given."""
        if isinstance(value, tuple):
            return value
        if value == "":
            return ()
        held = "\0"
        names = tuple(name.strip().replace(held, ",") for name in value.replace(",,", held).split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name beside a comma", param, ctx)
        return names


NAMES = _Names()
