"""The frame: help, errors and exit codes, who signs, which repository is meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fsvc import errors
from fsvc.cli import COMMANDS, main
from fsvc.cli.context import Context, command
from fsvc.cli.group import Entry, LazyGroup

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-c", "from fsvc.cli import main; main()"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def test_every_command_is_there_and_says_of_itself_what_the_help_says():
    for name, entry in COMMANDS.items():
        loaded = entry.load()
        assert loaded.name == name
        assert (loaded.help or "").startswith(entry.summary.rstrip("."))
        options = {option for parameter in loaded.params for option in parameter.opts}
        assert {"--json", "--repo"} <= options, name


def test_help_lists_all_commands_and_exit_codes(fsvc):
    text = fsvc("--help").out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert "6  corruption" in text
    assert fsvc().out == text


def naming_heavy_imports(words: list[str], where: Path, *heavy: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, which names those of the libraries on stderr that it has imported."""
    program = (
        "import sys, atexit; from fsvc.cli import main\n"
        f"atexit.register(lambda: print(*[name for name in {heavy!r} if name in sys.modules], file=sys.stderr))\n"
        f"main({words!r})"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=where, env=environment(), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--json", "--version"]])
def test_help_imports_no_heavy_library(words, tmp_path):
    run = naming_heavy_imports(words, tmp_path, "pyarrow", "duckdb", "numpy", "rich")
    assert run.stdout and run.stderr.strip() == ""


@pytest.mark.parametrize("command", ["log", "branch", "reflog"])
def test_looking_at_history_imports_no_heavy_library(fsvc, place, command):
    (place / "t.csv").write_text("id\n1\n")
    fsvc("init")
    fsvc("commit", "t.csv", "-m", "one")
    run = naming_heavy_imports([command], place, "pyarrow", "duckdb", "numpy", "pandas")
    assert run.stderr.strip() == ""


def test_an_unknown_command_suggests_the_nearest(fsvc):
    ran = fsvc("comit", code=2)
    assert "there is no command 'comit'" in ran.err
    assert "did you mean 'fsvc commit'?" in ran.err
    assert "fsvc --help" in fsvc("help", code=2).err


def test_wrong_options_are_usage(fsvc):
    ran = fsvc("log", "--nonsense", code=2)
    assert ran.out == ""
    assert ran.err.startswith("fsvc: no such option")
    assert "see 'fsvc log --help'" in ran.err


def raising(error: BaseException) -> LazyGroup:
    """The program with a command that raises."""

    @command("boom")
    @click.option("--what")
    def boom(context: Context, what: str | None) -> None:
        raise error

    class Made(Entry):
        def load(self) -> click.Command:
            return boom

    group = LazyGroup(commands_by_name={"boom": Made("X", "", "")}, name="fsvc")
    group.params = main.params
    group.callback = main.callback
    return group


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidUse("m"), 2),
        (errors.InvalidName("m"), 2),
        (errors.InvalidRevision("m"), 2),
        (errors.NotFound("m"), 4),
        (errors.Conflict("m"), 5),
        (errors.ConflictError("m", ours="a", theirs="b"), 5),
        (errors.Corruption("m"), 6),
        (errors.StorageError("m"), 1),
        (errors.KeyAbsent("m"), 1),
        (errors.UnsupportedData("m"), 1),
        (errors.KeyViolation("m"), 1),
        (errors.UnknownFormat("m"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError("m"), 1),
        (MemoryError(), 1),
        (BrokenPipeError(), 141),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_become_sentences_and_exit_codes(error, code, as_json, place, capfd):
    if isinstance(error, errors.FsvcError):
        error.hint = "do that"
    with pytest.raises(SystemExit) as ended:
        raising(error).main(["boom", *(["--json"] if as_json else [])])
    out, err = capfd.readouterr()
    assert ended.value.code == code
    if isinstance(error, BrokenPipeError):
        assert (out, err) == ("", "")
        return
    assert err.startswith("fsvc: ")
    assert "Traceback" not in err
    if isinstance(error, errors.FsvcError):
        assert err == "fsvc: m\nhint: do that\n"
    if as_json:
        document = json.loads(out)["error"]
        assert set(document) == {"kind", "message", "hint"}
        if isinstance(error, errors.FsvcError):
            assert document == {"kind": type(error).__name__, "message": "m", "hint": "do that"}
    else:
        assert out == ""


def test_debug_shows_the_traceback(place, capfd, monkeypatch):
    monkeypatch.setenv("FSVC_DEBUG", "1")
    with pytest.raises(SystemExit):
        raising(RuntimeError("boom")).main(["boom"])
    assert "Traceback" in capfd.readouterr().err


def test_control_characters_in_errors_reach_no_terminal(place, capfd):
    with pytest.raises(SystemExit):
        raising(errors.NotFound("\x1b[31mred", hint="\x07")).main(["boom"])
    assert capfd.readouterr().err == "fsvc: \\x1b[31mred\nhint: \\x07\n"


def test_the_repository_is_named_anywhere(history, place, monkeypatch, tmp_path):
    known = history("log", "--json").document
    monkeypatch.chdir(tmp_path)
    assert history("log", code=4).err.startswith("fsvc: there is no fsvc repository")
    assert history("--repo", str(place), "log", "--json").document == known
    assert history("log", "--json", "--repo", str(place)).document == known
    assert history("--json", "--repo", str(place / ".fsvc" / "repository"), "log").document == known
    monkeypatch.setenv("FSVC_REPOSITORY", str(place))
    assert history("log", "--json").document == known
    assert history("log", "--repo", str(tmp_path / "no"), code=4).err


def commit_author(fsvc, *words: str) -> str:
    number = time.monotonic_ns()
    pq.write_table(pa.table({"x": [number]}), "t.parquet")
    author = fsvc("commit", "t.parquet", "-m", "m", "--json", *words).document["author"]
    assert isinstance(author, str)
    return author


def test_who_signs(fsvc, monkeypatch, tmp_path):
    fsvc("init")
    assert commit_author(fsvc) == "Ada <ada@example.org>"
    assert commit_author(fsvc, "--author", "Bob <b@example.org>") == "Bob <b@example.org>"
    monkeypatch.delenv("FSVC_AUTHOR")
    account = commit_author(fsvc)
    config = tmp_path / "config" / "fsvc" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[user]\nname = "Eve"\nemail = "eve@example.org"\n')
    assert commit_author(fsvc) == "Eve <eve@example.org>" != account
    config.write_text("[user\n")
    assert "is not TOML" in fsvc("commit", "t.parquet", "-m", "m", code=2).err
    config.write_text("user = 3\n")
    assert "[user]" in fsvc("commit", "t.parquet", "-m", "m", code=2).err


def test_the_time_of_commits_can_be_set(fsvc, monkeypatch):
    fsvc("init")
    pq.write_table(pa.table({"x": [1]}), "t.parquet")
    for bad, why in (("yesterday", "not a time"), ("2026-01-02T03:04", "no zone")):
        monkeypatch.setenv("FSVC_DATE", bad)
        assert why in fsvc("commit", "t.parquet", "-m", "m", code=2).err
    monkeypatch.setenv("FSVC_DATE", "2026-01-02T03:04+01:00")
    assert fsvc("commit", "t.parquet", "-m", "m", "--json").document["time"] == "2026-01-02T02:04:00.000000Z"


def test_completion_is_printed_and_completes(fsvc, tmp_path):
    for shell in ("zsh", "fish"):
        assert "_FSVC_COMPLETE" in fsvc("completion", shell).out
    run = subprocess.run(
        PROGRAM, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        env=environment(_FSVC_COMPLETE="bash_complete", COMP_WORDS="fsvc chec", COMP_CWORD="1"),
    )  # fmt: skip
    assert run.stdout.split() == ["plain,checkout"]


def test_a_closed_pipe_is_no_error(history):
    run = subprocess.Popen(
        [*PROGRAM, "show", "--json"], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert run.stdout is not None and run.stderr is not None
    run.stdout.close()
    assert run.wait(60) == 141
    assert run.stderr.read() == b""
    run.stderr.close()


@pytest.mark.parametrize(
    "place_in_code",
    [
        "fsvc.engine.writing:Cutter.find",
        "fsvc.storage.local:LocalStorage.put_batch",
        "fsvc.engine.refs:Refs.append",
    ],
)
def test_an_interrupted_commit_leaves_the_repository_whole(history, place_in_code, table):
    module, _, name = place_in_code.partition(":")
    owner, _, method = name.partition(".")
    program = f"""
import os, signal
from fsvc.cli import main
from {module} import {owner} as owner
real = owner.{method}
def interrupted(*args, **options):
    os.kill(os.getpid(), signal.SIGINT)
    return real(*args, **options)
owner.{method} = interrupted
main(["commit", "customers.parquet", "-m", "never"])
"""
    pq.write_table(table.slice(2), "customers.parquet")
    before = history("log", "--json").document
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (130, "fsvc: interrupted; the repository is whole\n")
    assert history("log", "--json").document == before
    assert history("verify", "--json").document["ok"]
    assert history("commit", "customers.parquet", "-m", "again", "--json").document["created"]
