"""What the commands on recipes have in common: queries, parameters and tables on the command line; how one is shown."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsvc.cli.describing import short
from fsvc.cli.output import Output, counted
from fsvc.errors import InvalidUse, UnreadableInput

if TYPE_CHECKING:
    from fsvc.format.recipe import RecipeRecord

__all__ = ["named_paths", "parameters", "print_recipe", "query_text", "read_query"]

_NAMED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def read_query(source: str) -> str:
    """A query from a file; - is standard input. Raises UnreadableInput."""
    if source == "-":
        data = sys.stdin.buffer.read()
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
            raise UnreadableInput(f"{source} cannot be read: {reason}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableInput("the query is not in UTF-8") from None


def query_text(given: str) -> str:
    """A query, or what the file of this name holds: a text without spaces can only be a file."""
    if given == "-" or os.path.isfile(given) or (given.strip() and not re.search(r"\s", given.strip())):
        return read_query(given)
    return given


def parameters(given: Sequence[str]) -> list[Any] | dict[str, Any] | None:
    """The values of --param: by name, or in order."""
    named = [_NAMED.fullmatch(text) for text in given]
    if not given:
        return None
    if not any(named):
        return [_value(text) for text in given]
    found: dict[str, Any] = {}
    for match, text in zip(named, given, strict=True):
        if match is None:
            raise InvalidUse(f"--param {text!r} has no name, and others have one", hint="write NAME=VALUE")
        if match[1] in found:
            raise InvalidUse(f"--param {match[1]} is given twice")
        found[match[1]] = _value(match[2])
    return found


def _value(text: str) -> Any:
    """A value as JSON writes it; a text as it is, where it is none."""
    import json

    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if value is None or isinstance(value, (bool, int, float, str)) else text


def named_paths(given: Sequence[str], option: str) -> dict[str, str]:
    """Tables given as NAME=PATH."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise InvalidUse(f"{option} {text!r} is not NAME=PATH", hint=f"{option} rates=rates.csv")
        if name in found:
            raise InvalidUse(f"{option} {name} is given twice")
        found[name] = path
    return found


def print_recipe(out: Output, recipe: RecipeRecord) -> None:
    """Print a recipe: what it read, under which settings, what it leaves open, and the query."""
    kind = "training set" if recipe.training_set is not None else "query"
    with_ = ", ".join(f"{name} {version}" for name, version in recipe.programs.items())
    out.line("recipe   ", kind, ", ", with_)
    for name, reference in recipe.inputs.items():
        what = f"{reference.feature_set} v{reference.version}"
        rows = counted(reference.rows, "row")
        out.line("  from    ", f"{name} = {what}, {rows}, commit {short(reference.commit)}")
    for name, table in recipe.tables.items():
        where = table.path if table.path is not None else "a table in memory"
        out.line("  from    ", f"{name} = {where}, {counted(table.rows, 'row')}, {short(table.snapshot)}")
    values = recipe.parameters
    if isinstance(values, dict):
        out.line("  with    ", ", ".join(f"{name}={value!r}" for name, value in values.items()))
    elif values:
        out.line("  with    ", ", ".join(map(repr, values)))
    out.line("  under   ", ", ".join(f"{name} {value}" for name, value in recipe.settings.items()))
    for sentence in recipe.undetermined:
        out.line("  open    ", sentence)
    for line in recipe.sql.strip().splitlines():
        out.line("    ", line)
