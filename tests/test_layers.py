"""The layers of the house hold: imports point down only, and each heavy library has its place.

The rules are functions of source text, so that planted violations show that they bite.
"""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fsvc"

# From the ground up; parts of one line are peers. "fsvc" is the public face, fsvc/__init__.py.
LAYERS = (
    ("errors",),
    ("format", "storage"),
    ("engine",),
    ("query",),
    ("sources",),
    (
        "repository",
        "snapshot",
        "features",
        "blame",
        "diff",
        "drafting",
        "drift",
        "expectations",
        "merging",
        "pandas_frame",
        "workspace",
        "client",
    ),
    ("fsvc",),
    ("mlflow", "spark"),
    ("cli",),
    ("__main__",),
)
HEIGHT = {part: height for height, parts in enumerate(LAYERS) for part in parts}

QUERY_AND_ABOVE = frozenset(part for part, height in HEIGHT.items() if height >= HEIGHT["query"])

# Who may import what is not everybody's; what is not named here is free.
PLACES = {
    "click": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
    "duckdb": QUERY_AND_ABOVE,
    "fsspec": QUERY_AND_ABOVE,
    "mlflow": frozenset({"mlflow"}),
    "pyspark": frozenset({"spark"}),
    "obstore": frozenset({"storage"}),
}

# What `format`, a layer of pure functions, has no use for.
IMPURE = frozenset(
    {
        "asyncio",
        "glob",
        "io",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "shutil",
        "signal",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "urllib.request",
        "uuid",
    }
)
# What `storage`, which knows bytes and keys only, may know besides.
STORAGE_LIBRARIES = sys.stdlib_module_names | {"fsvc", "obstore", "typing_extensions"}

CLOCK = frozenset({"now", "today", "utcnow"})

# Names from `os` and `sys` that reach a terminal or the environment.
OUTSIDE = frozenset(
    {"os.environ", "os.environb", "os.getenv", "os.putenv", "os.get_terminal_size", "os.isatty"}
    | {"sys.argv", "sys.stdin", "sys.stdout", "sys.stderr"}
)

HEAVY = (
    "duckdb",
    "fastparquet",
    "matplotlib",
    "mlflow",
    "pandas",
    "polars",
    "pyarrow.dataset",
    "pyarrow.flight",
    "pyarrow.parquet",
    "scipy",
    "sklearn",
    "torch",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """Return which part of the house a module of fsvc belongs to."""
    return module.split(".")[1] if "." in module else module


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield the line and dotted name of whatever is imported, wherever in the module that happens.

    For ``from a import b`` that is ``a.b``, whether ``b`` is a module or not.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func)
            name = node.args[0]
            if called.split(".")[-1] in ("import_module", "__import__") and isinstance(name, ast.Constant):
                yield node.lineno, str(name.value)


def owner(name: str) -> str | None:
    """Return the part of the house that an imported name belongs to, None for other people's libraries."""
    top, _, rest = name.partition(".")
    if top != "fsvc":
        return None
    part = rest.split(".")[0]
    known = part in HEIGHT or (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()
    return part if part and known else "fsvc"


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return what the module does that its part of the house does not do, as sentences."""
    part = part_of(module)
    if part not in HEIGHT:
        return [f"{module}: {part!r} has no place yet: put it into LAYERS"]
    tree = ast.parse(source)
    found = []

    def complain(line: int, sentence: str) -> None:
        found.append(f"{module}:{line}: {sentence}")

    for line, name in imported(tree, module, is_package):
        target, library = owner(name), name.split(".")[0]
        if target is not None and target not in HEIGHT:
            complain(line, f"imports fsvc.{target}, which has no place yet: put it into LAYERS")
        elif target is not None and target != part and HEIGHT[target] > HEIGHT[part]:
            complain(line, f"imports {name}, which is above it")
        elif target is not None and {target, part} == {"format", "storage"}:
            complain(line, f"imports {name}; format and storage do not know each other")
        if library in PLACES and part not in PLACES[library]:
            complain(line, f"imports {name}, which only {', '.join(sorted(PLACES[library]))} may")
        if part == "errors" and library not in sys.stdlib_module_names:
            complain(line, f"imports {name}, but errors stand alone")
        if part == "storage" and library not in STORAGE_LIBRARIES:
            complain(line, f"imports {name}, but storage knows bytes and keys only")
        if part == "format" and (library in IMPURE or name.rpartition(".")[0] in IMPURE or name in IMPURE):
            complain(line, f"imports {name}, but format is pure")
        if part != "cli" and name in OUTSIDE:
            complain(line, f"imports {name}; only cli looks outside")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if part != "cli" and node.func.id in ("print", "input"):
                complain(node.lineno, f"calls {node.func.id}(); only cli talks to people")
            if part == "format" and node.func.id == "open":
                complain(node.lineno, "calls open(), but format is pure")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if part == "format" and node.func.attr in CLOCK:
                complain(node.lineno, f"calls {ast.unparse(node.func)}(), but format knows no clock")
        elif isinstance(node, ast.Attribute) and part != "cli" and ast.unparse(node) in OUTSIDE:
            complain(node.lineno, f"uses {ast.unparse(node)}; only cli looks outside")
    return found


def at_import(tree: ast.Module, module: str, is_package: bool) -> Iterator[str]:
    """Yield what is imported while the module itself is: not in functions, not for type checkers only."""

    class Prune(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    yield from (name for _, name in imported(Prune().visit(tree), module, is_package))


def cycle(sources: dict[str, tuple[str, bool]]) -> list[str] | None:
    """Return modules that import each other in a circle while being imported, or None.

    ``sources`` holds, by module name, the text and whether the module is a package.
    """
    graph: dict[str, set[str]] = {}
    for module, (source, is_package) in sources.items():
        names = at_import(ast.parse(source), module, is_package)
        targets = {name if name in sources else name.rpartition(".")[0] for name in names}
        graph[module] = {target for target in targets if target in sources and target != module}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return None


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_keeps_to_its_layer(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not violations(module_name(path), source, is_package=path.name == "__init__.py")


def test_no_modules_import_each_other_in_a_circle() -> None:
    sources = {
        module_name(path): (path.read_text(encoding="utf-8"), path.name == "__init__.py") for path in SOURCES
    }
    assert cycle(sources) is None


def test_modules_are_named_after_what_they_hold() -> None:
    vague = {"util", "utils", "helper", "helpers", "misc", "common", "manager", "managers", "base", "core"}
    assert not [path for path in SOURCES if path.stem.lower() in vague]


@pytest.mark.parametrize("module", ["fsvc", "fsvc.cli"])
def test_starting_up_loads_no_heavy_library(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fsvc.errors", "import pyarrow"),
        ("fsvc.errors", "from fsvc.format import names"),
        ("fsvc.format.names", "from fsvc import storage"),
        ("fsvc.format.names", "import fsvc.storage.local"),
        ("fsvc.format.names", "from ..storage import local"),
        ("fsvc.format.names", "from fsvc.engine.refs import Refs"),
        ("fsvc.format.names", "import os"),
        ("fsvc.format.names", "import os.path"),
        ("fsvc.format.names", "from os import fsync"),
        ("fsvc.format.names", "from pathlib import Path"),
        ("fsvc.format.names", "import urllib.request"),
        ("fsvc.format.names", "from urllib.request import urlopen"),
        ("fsvc.format.names", "def f(p):\n    return open(p).read()"),
        ("fsvc.format.names", "from datetime import datetime\nx = datetime.now()"),
        ("fsvc.storage.local", "from fsvc.format import names"),
        ("fsvc.storage.local", "import numpy"),
        ("fsvc.storage.local", "import pyarrow.parquet as pq"),
        ("fsvc.engine.store", "import duckdb"),
        ("fsvc.engine.store", "def f():\n    from duckdb import connect"),
        ("fsvc.engine.store", "import importlib\nx = importlib.import_module('duckdb')"),
        ("fsvc.engine.store", "x = __import__('fsvc.query')"),
        (
            "fsvc.engine.store",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fsvc import Repository",
        ),
        ("fsvc.engine.store", "from fsvc.query import filesystem"),
        ("fsvc.engine.store", "print('hello')"),
        ("fsvc.engine.store", "import os\nx = os.environ['HOME']"),
        ("fsvc.engine.store", "from os import environ"),
        ("fsvc.engine.store", "import sys\nsys.stderr.write('')"),
        ("fsvc.query.sql", "from fsvc.repository import Repository"),
        ("fsvc.repository", "import click"),
        ("fsvc.repository", "import mlflow"),
        ("fsvc.repository", "from fsvc.mlflow import restore"),
        ("fsvc.repository", "import fsvc"),
        ("fsvc", "import click"),
        ("fsvc", "from fsvc.cli import main"),
        ("fsvc.mlflow.models", "import os\nx = os.getenv('HOME')"),
        ("fsvc.mlflow.models", "from fsvc.cli.output import table"),
        ("fsvc.cli.commit", "import mlflow"),
        ("fsvc.nowhere", ""),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str) -> None:
    assert violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fsvc.format.names", "import re, pyarrow\nfrom fsvc.errors import InvalidName"),
        ("fsvc.format.names", "from urllib.parse import unquote_to_bytes"),
        ("fsvc.format.names", "from fsvc.format.strictjson import dumps"),
        ("fsvc.storage.local", "import os\nfrom fsvc.errors import StorageError\nos.open('x', 0)"),
        ("fsvc.engine.store", "from fsvc.format import names\nfrom fsvc.storage import local"),
        ("fsvc.query.sql", "import duckdb"),
        ("fsvc.repository", "import duckdb\nfrom fsvc.snapshot import Snapshot"),
        ("fsvc", "from fsvc.repository import Repository"),
        ("fsvc.mlflow.models", "import mlflow, fsvc"),
        ("fsvc.cli.commit", "import click, os, fsvc\nfrom fsvc.mlflow import log_model\nprint(os.environ)"),
    ],
)
def test_what_is_allowed_is_not_complained_of(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_a_planted_circle_is_found() -> None:
    sources = {
        "fsvc.a": ("from fsvc import b", False),
        "fsvc.b": ("from fsvc.c import thing", False),
        "fsvc.c": ("import fsvc.a", False),
    }
    assert cycle(sources) is not None
    sources["fsvc.c"] = ("def later():\n    import fsvc.a", False)
    assert cycle(sources) is None
