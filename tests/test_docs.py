"""What the documents say is true: their examples run and print what they say, their links lead somewhere.

In ``console`` blocks lines that begin with ``$`` are commands, continued by lines that begin with ``>``; the
lines below are what they print. ``...`` stands for any text, a line of it for any lines. Ids are made up, but
the same id has to stand for the same thing in all of a document; sizes, and how long ago things were, may
differ. ``shell`` blocks are scripts, of which only the success counts. In ``python`` blocks the comment behind
an expression is its value. The blocks of a document follow each other, in one directory and one namespace.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from fsvc.cli import COMMANDS, main
from fsvc.cli.context import Context

ROOT = Path(__file__).resolve().parent.parent
NEEDS_MLFLOW = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs MLflow")
RUNNABLE = (
    "README.md",
    "docs/comparing.md",
    "docs/concepts.md",
    "docs/drift.md",
    "docs/expectations.md",
    "docs/erasure.md",
    "docs/git-users.md",
    "docs/merging.md",
    pytest.param("docs/mlflow.md", marks=NEEDS_MLFLOW),
    "docs/python.md",
    "docs/recipes.md",
    "docs/training-sets.md",
    pytest.param("docs/scoring.md", marks=NEEDS_MLFLOW),
    "docs/sql.md",
)
WRITTEN = sorted(
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / "docs", ROOT / "docs" / "decisions", ROOT / "benchmarks")
    for path in folder.glob("*.md")
)

FENCE = re.compile(r"```(\w*)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"#{1,6} (.+)")

# What differs from run to run.
VARYING = re.compile(
    r"(?P<id>(?<![0-9a-f])[0-9a-f]{8,64}(?![0-9a-f]))(?P<cut>\.\.\.)?"
    r"|(?P<size>\d[\d,.]* (?:[kMGT]?B)\b)"
    r"|(?P<ago>just now)"
    r"|(?P<any>\.\.\.)"
)
SIZE = r"\d[\d,.]* (?:[kMGT]?B)"
LATER = re.compile(r"\d+ minutes? ago")
SPACES = re.compile(r" {2,}")
AGO = r"(?:just now|\d+ minutes? ago)"


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is in, its text, and where the text begins and ends."""

    language: str
    text: str
    first_line: int
    last_line: int


def blocks(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    begun: int | None = None
    for number, line in enumerate(lines, 1):
        if begun is None and (match := FENCE.match(line)):
            begun, language = number, match[1]
        elif begun is not None and line.rstrip() == "```":
            yield Block(language, "\n".join(lines[begun : number - 1]) + "\n", begun + 1, number - 1)
            begun = None
    assert begun is None, f"the block of line {begun} has no end"


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """The commands of a console block, and the lines that each is said to print."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", [])
        else:
            assert found, f"a console block begins with a command, not {line!r}"
            found[-1][1].append(line)
    return found


@dataclass
class Run:
    """A document that is being run: where, and what has come of it so far."""

    name: str
    directory: Path
    environment: dict[str, str]
    names: dict[str, Any] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def block(self, block: Block) -> None:
        if block.language == "shell":
            self._bash(block.text, block)
        elif block.language == "console":
            for command, expected in commands(block):
                self._compare(command, expected, self._bash(command, block))
        elif block.language == "python":
            self._python(block)

    def _bash(self, script: str, block: Block) -> str:
        """Run a script where the last one ended; what it prints, on both streams."""
        ended = self.directory.parent / "ended"
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", f"{script}\npwd > {shlex.quote(str(ended))}"],
            cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )  # fmt: skip
        where = f"{self.name}:{block.first_line}"
        assert done.returncode == 0, f"{where}: {script!r} ended with {done.returncode}:\n{done.stdout}"
        self.directory = Path(ended.read_text(encoding="utf-8").rstrip("\n"))
        return done.stdout

    def _compare(self, command: str, expected: list[str], printed: str) -> None:
        actual = [line.rstrip() for line in printed.splitlines()]
        if LATER.search(printed):  # it is wider than "just now", and moves the columns behind it
            expected, actual = ([SPACES.sub("  ", line) for line in lines] for lines in (expected, actual))
        remaining = actual
        while expected:
            line, *expected = expected
            if line == "...":
                until = expected[0] if expected else None
                while remaining and (until is None or not self._matches(until, remaining[0])):
                    remaining = remaining[1:]
                continue
            told = f"{self.name}: $ {command}\nshould print {line!r}, and printed\n{printed}"
            assert remaining and self._matches(line, remaining[0]), told
            remaining = remaining[1:]
        assert not remaining, f"{self.name}: $ {command}\nprints more than is said: {remaining}"

    def _matches(self, expected: str, actual: str) -> bool:
        """Whether a line is what a document says; the ids in it are remembered if so."""
        pattern, groups, end = "", [], 0
        for match in VARYING.finditer(expected):
            pattern += re.escape(expected[end : match.start()])
            end = match.end()
            if match["id"]:
                known = self.ids.get(match["id"])
                digits = known or f"[0-9a-f]{{{len(match['id'])}}}"
                pattern += f"({digits})" + (".*?" if match["cut"] else "")
                groups.append(match["id"])
            else:
                pattern += SIZE if match["size"] else AGO if match["ago"] else ".*?"
        found = re.fullmatch(pattern + re.escape(expected[end:]), actual)
        if found is None:
            return False
        ids = zip(groups, found.groups(), strict=True)
        return all(self.ids.setdefault(told, seen) == seen for told, seen in ids)

    def _python(self, block: Block) -> None:
        comments = {
            token.start[0]: token.string.lstrip("# ").rstrip()
            for token in tokenize.generate_tokens(StringIO(block.text).readline)
            if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip()
        }
        for statement in ast.parse(block.text).body:
            where = f"{self.name}:{block.first_line + statement.lineno - 1}"
            # Line numbers of the document, so that tracebacks lead there.
            ast.increment_lineno(statement, block.first_line - 1)
            comment = comments.get((statement.end_lineno or 0) - block.first_line + 1)
            if isinstance(statement, ast.Expr):
                code = compile(ast.Expression(statement.value), self.name, "eval")
                value = eval(code, self.names)
                if comment is not None:
                    told = f"{where}: {ast.unparse(statement)} is {value!r}, not {comment}"
                    assert self._matches(comment, repr(value)), told
            else:
                exec(compile(ast.Module([statement], []), self.name, "exec"), self.names)


@pytest.fixture
def run_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that runs all blocks of a document in a new directory, as a user who has just begun."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    programs = Path(sys.executable).parent
    assert os.access(programs / "fsvc", os.X_OK), "fsvc is not installed beside this Python"
    for name in [name for name in os.environ if name.startswith(("FSVC_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(home),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "FSVC_AUTHOR": "Ada <ada@example.org>",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
    }.items():
        monkeypatch.setenv(name, value)

    def run(name: str, text: str) -> Run:
        running = Run(name, work, dict(os.environ))
        for block in blocks(text):
            monkeypatch.chdir(running.directory)
            running.block(block)
        return running

    yield run


@pytest.mark.parametrize("name", RUNNABLE)
def test_examples_run_and_print_what_is_said(name, run_document):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert any(block.language in ("console", "shell", "python") for block in blocks(text))
    run_document(name, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```shell\ntrue\nfalse\ntrue\n```", "ended with 1"),
        ("```console\n$ echo a\nb\n```", "should print 'b'"),
        ("```console\n$ echo a; echo b\na\n```", "prints more"),
        ("```console\n$ echo a\n...\nb\n```", "should print 'b'"),
        ("```console\n$ echo 11aa22bb 11aa22bc\n00000000 00000000\n```", "should print"),
        ("```console\n$ echo 11aa22bb\n00000000\n$ echo 11aa22bc\n00000000\n```", "should print"),
        ("```console\n$ nonsense\n```", "ended with 127"),
        ("```python\n1 + 1  # 3\n```", "is 2, not 3"),
        ("```python\nassert 1 == 2, 'no'\n```", "no"),
    ],
)
def test_a_document_that_is_wrong_fails(text, message, run_document):
    with pytest.raises(AssertionError, match=re.escape(message)):
        run_document("made-up.md", text)


def test_what_differs_from_run_to_run_may_differ(run_document):
    run_document(
        "made-up.md",
        "```console\n$ mkdir inside && cd inside\n$ echo 11aa22bb33, 1.5 kB, 3 minutes ago, and more\n"
        "00000000..., 2 kB, just now, ...\n$ pwd\n.../inside\n$ printf 'a\\nb\\nc\\n'\n...\nc\n```\n"
        "```python\nfrom pathlib import Path\nPath.cwd().name  # 'inside'\n```",
    )


# -- the first lines of the README ------------------------------------------------------------------


def test_the_readme_shows_a_working_session_in_its_first_25_lines():
    session = next(blocks((ROOT / "README.md").read_text(encoding="utf-8")))
    assert session.language == "console"
    assert session.last_line + 1 <= 25
    for command, times in {"init": 1, "commit": 2, "log": 1, "checkout": 1, "hash": 1}.items():
        assert len(re.findall(rf"\bfsvc {command}\b", session.text)) == times, command


# -- the reference of the command line --------------------------------------------------------------


def generator() -> ModuleType:
    place = importlib.util.spec_from_file_location("generate_cli", ROOT / "docs" / "generate_cli.py")
    assert place is not None and place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def test_the_reference_is_what_help_says():
    made = generator()
    written = made.REFERENCE.read_text(encoding="utf-8")
    first = made.VERSION_LINE.format(version=version("click"))
    if written.splitlines()[0] == first:
        assert written == made.reference(), "run 'make docs'"
    else:  # Another click may break lines elsewhere, but says the same.
        for name, entry in COMMANDS.items():
            loaded = entry.load()
            _, _, part = written.partition(f"\n## fsvc {name}\n")
            part = flat(part.partition("\n## ")[0])
            for text in (loaded.help or "", loaded.epilog or "", *option_texts(loaded)):
                assert flat(text) in part, (name, text)


def option_texts(loaded: click.Command) -> Iterator[str]:
    for parameter in loaded.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield parameter.help or ""
            yield from parameter.opts


def flat(text: str) -> str:
    return " ".join(text.replace("\b", " ").split())


def test_every_command_is_documented():
    headings = re.findall(r"^## fsvc (.+)$", generator().REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(COMMANDS)
    for name in ("README.md", "docs/git-users.md", "docs/concepts.md", "docs/python.md"):
        told = re.findall(r"`fsvc ([a-z][a-z-]*)\b", (ROOT / name).read_text(encoding="utf-8"))
        assert set(told) <= set(COMMANDS), name


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"completion"}))
def test_the_examples_of_help_are_command_lines(name):
    lines = [line.strip() for line in (COMMANDS[name].load().epilog or "").splitlines()]
    examples = lines[lines.index("Examples:") + 1 :]
    assert examples
    for line in examples:
        assert len(line) <= 76, "wider than help is"
        program, command, *words = shlex.split(line)
        assert (program, command) == ("fsvc", name)
        COMMANDS[name].load().make_context(
            name, words, parent=click.Context(main, obj=Context(), **main.context_settings)
        )


# -- links ------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    plain = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", match[1].lower()).strip().replace(" ", "-")
        for line in plain.splitlines()
        if (match := HEADING.fullmatch(line))
    }


@pytest.mark.parametrize("name", WRITTEN)
def test_links_lead_somewhere(name):
    path = ROOT / name
    plain = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in LINK.findall(plain):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), f"{name} links to {link}, which is not there"
        if anchor:
            assert anchor in anchors(found), f"{name} links to {link}, but there is no such heading"


def test_the_index_names_every_document():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {link.partition("#")[0] for link in LINK.findall(index)}
    missing = {path.name for path in (ROOT / "docs").glob("*.md")} - linked - {"README.md"}
    assert not missing
