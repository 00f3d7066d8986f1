"""Rough use: what people do by accident, and machines to people. One sentence, the right exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fsvc as library
from fsvc.cli.rows import _fitting
from fsvc.query.interrupts import interruptible
from fsvc.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-c", "from fsvc.cli import main; main()"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def sentences(err: str) -> list[str]:
    """The lines of an error; a traceback, or an error that nobody put into words, is none."""
    assert "Traceback" not in err and "unexpected" not in err
    return err.splitlines()


# -- places ------------------------------------------------------------------------------------------


def test_an_empty_location_is_not_the_current_directory(history):
    assert "--repo is empty" in history("log", "--repo", "", code=2).err
    assert "empty" in history("init", "", code=2).err


def test_a_file_is_not_a_repository(history, place):
    (place / "note.txt").write_text("x")
    assert "is a file, not a repository" in history("log", "--repo", "note.txt", code=4).err
    assert "note.txt is a file" in history("init", "note.txt", code=5).err
    assert (place / "note.txt").read_text() == "x"


def test_a_repository_that_was_moved_is_attached_anew(fsvc, place, tmp_path, table, monkeypatch):
    elsewhere, moved = tmp_path / "store", tmp_path / "moved"
    fsvc("init", "--attach", str(elsewhere))
    pq.write_table(table, "a.parquet")
    fsvc("commit", "a.parquet", "-m", "m")
    fsvc("switch", "-c", "side")
    elsewhere.rename(moved)
    lost = fsvc("log", code=4)
    assert "any more" in lost.err and "--attach" in lost.err
    assert "there is no repository" in fsvc("init", "--attach", str(tmp_path / "no"), code=4).err
    assert not (tmp_path / "no").exists()
    fsvc("init", "--attach", str(moved))
    assert fsvc("status", "--json").document["branch"] == "side"
    # The repository may be another one: no file is overwritten for being in it.
    pq.write_table(table.slice(1), "a.parquet")
    assert "a.parquet" in fsvc("checkout", code=5).err
    assert "is a workspace already" in fsvc("init", "--attach", str(moved), code=5).err
    (place / ".fsvc" / "pointer.json").write_text("{")
    assert "--attach" in fsvc("log", code=6).err
    fsvc("init", "--attach", str(moved))
    assert len(fsvc("log", "--json").document["commits"]) == 1


def test_a_repository_without_its_file_is_damaged_and_not_absent(history, place):
    (place / ".fsvc" / "repository" / "repository.json").unlink()
    ran = history("log", code=6)
    assert "repository.json is missing" in ran.err
    assert "init" not in ran.err


def test_damage_points_to_verify(history, place):
    (commit,) = list((place / ".fsvc/repository/commits").iterdir())[:1]
    commit.write_bytes(commit.read_bytes()[:-9])
    assert "fsvc verify" in history("log", code=6).err


@pytest.mark.skipif(sys.platform != "linux", reason="a directory in use can be removed there")
def test_a_directory_that_is_gone(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    program = (
        f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
        "from fsvc.cli import main; main(['log'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "the current directory is gone" in sentences(run.stderr)[0]


# -- streams -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["log"], ["log", "--json"], ["--help"], ["show", "nope", "--json"]])
def test_output_on_a_full_disk(history, words):
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [*PROGRAM, *words],
            env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert run.returncode in (1, 4)
    assert sentences(run.stderr)[0].startswith("fsvc: ")


def test_closed_streams(history):
    for closing in (">&-", "2>&-", "<&-", ">&- 2>&-"):
        line = f'"$0" -c "from fsvc.cli import main; main()" log {closing}'
        run = subprocess.run(
            ["sh", "-c", line, sys.executable], env=environment(), capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, closing
        assert sentences(run.stderr) == []


def test_a_wide_table_fits_on_a_terminal(fsvc, place):
    fsvc("init")
    pq.write_table(pa.table({f"column_{i}": [i] for i in range(300)}), "wide.parquet")
    fsvc("commit", "wide.parquet", "-m", "m")
    leader, follower = pty.openpty()
    run = subprocess.Popen(
        [*PROGRAM, "head", "wide"], env=environment(COLUMNS="60", LINES="20", TERM="xterm"),
        stdout=follower, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert run.stderr is not None
    told = run.stderr.read()
    run.stderr.close()
    assert run.wait(60) == 0
    assert b"column_0" in shown and b"column_299" not in shown
    assert "more columns" in told and "--json" in told
    assert "column_299" in fsvc("head", "wide").out


def test_columns_that_fit():
    assert _fitting(None, ["a" * 50, "b"], []) == 2
    assert _fitting(10, ["a" * 50, "b"], []) == 1
    assert _fitting(10, ["abcd", "efgh"], [["1", "2"]]) == 2
    assert _fitting(10, ["abcd", "efgh"], [["1", "long value"]]) == 1
    assert _fitting(10, [], []) == 0


def test_no_rows_are_no_empty_row(fsvc):
    fsvc("init")
    pq.write_table(pa.table({"a": pa.array([], pa.int8())}), "none.parquet")
    fsvc("commit", "none.parquet", "-m", "m")
    assert fsvc("head", "none").out == "a\n"


# -- names and texts ---------------------------------------------------------------------------------


def test_names_are_checked_before_files_are_read(fsvc, place):
    fsvc("init")
    (place / "v3.csv").write_text("a\n1\n")
    ran = fsvc("commit", "v3.csv", "-m", "m", code=2)
    assert sentences(ran.err) == [
        "fsvc: a feature set cannot be called 'v3': v and a number is a version",
        "hint: choose another one: NAME=v3.csv",
    ]
    assert "hint" not in fsvc("commit", "v3=v3.csv", "-m", "m", code=2).err


@pytest.mark.parametrize(
    "words", [["-m", "a\udcff"], ["-m", "m", "--meta", "k=\udcff"], ["-m", "m", "--author", "\udcff"]]
)
def test_texts_that_are_not_utf8(fsvc, place, words):
    fsvc("init")
    (place / "a.csv").write_text("a\n1\n")
    assert "is not in UTF-8" in sentences(fsvc("commit", "a.csv", *words, code=2).err)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there")
def test_file_names_that_are_not_utf8(fsvc, place):
    fsvc("init")
    for suffix, content in ((b"csv", b"a\n1\n"), (b"jsonl", b'{"a":1}\n')):
        name = b"n\xff." + suffix
        (place / os.fsdecode(name)).write_bytes(content)
        ran = fsvc("commit", "x=" + os.fsdecode(name), "-m", "m", code=1)
        assert "is not in UTF-8" in sentences(ran.err)[0]


def test_links_to_nowhere_say_so(fsvc, place):
    fsvc("init")
    os.symlink("loop.parquet", "loop.parquet")
    os.symlink("nowhere.parquet", "dangling.parquet")
    for name, to in (("loop", "loop"), ("dangling", "nowhere")):
        ran = fsvc("commit", f"{name}.parquet", "-m", "m", code=1)
        assert sentences(ran.err) == [
            f"fsvc: {name}.parquet is a link to {to}.parquet, where nothing can be read"
        ]


def test_json_that_mixes_kinds_names_the_file(fsvc, place):
    fsvc("init")
    (place / "t.jsonl").write_text('{"a":1}\n{"a":"x"}\n')
    assert "t.jsonl cannot be read: column 'a' mixes" in fsvc("commit", "t.jsonl", "-m", "m", code=1).err


def test_a_word_that_means_nothing_might_have_been_a_feature_set(history):
    ran = history("show", "zzzz", code=4)
    assert "no version, branch, tag, commit or feature set" in ran.err and "fsvc ls" in ran.err
    assert "did you mean 'rates'?" in history("show", "ratess", code=4).err


def test_a_column_asked_for_twice_is_wrong_use(history):
    assert "twice" in history("head", "customers", "--columns", "id,id", code=2).err


# -- many --------------------------------------------------------------------------------------------


def test_many_feature_sets_are_recorded_at_once_and_told_briefly(fsvc, place, monkeypatch):
    fsvc("init")
    files = []
    for i in range(30):
        files.append(f"t{i:02}.parquet")
        pq.write_table(pa.table({"a": [i]}), files[-1])
    reads = 0
    real = Workspace._load

    def counting(self):
        nonlocal reads
        reads += 1
        return real(self)

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "_load", counting)
        fsvc("commit", *files, "-m", "many")
    assert reads < 10
    (line,) = fsvc("log").out.splitlines()
    assert "t07 v1" in line and "t08" not in line and "and 22 more feature sets" in line
    assert "t29" in fsvc("log", "--long").out
    status = fsvc("status", "--all", "--json").document["files"]
    assert {(file["feature_set"], file["state"]) for file in status} == {
        (name.removesuffix(".parquet"), "unchanged") for name in files
    }
    pq.write_table(pa.table({"a": [99]}), files[0])
    fsvc("commit", files[0], "-m", "one")
    assert "and 9 more" in fsvc("show").out


def test_a_commit_stands_where_the_workspace_cannot_note_it(fsvc, table, monkeypatch):
    from fsvc.errors import StorageError

    fsvc("init")
    pq.write_table(table, "a.parquet")

    def failing(self, files):
        raise StorageError("the lock cannot be written")

    monkeypatch.setattr(Workspace, "record_all", failing)
    ran = fsvc("commit", "a.parquet", "-m", "m")
    assert "the workspace could not note what was committed: the lock" in ran.err
    assert library.open().snapshot("a").to_arrow().equals(table)


def test_case_twins_are_found_among_new_and_known(fsvc, place):
    fsvc("init")
    (place / "a.csv").write_text("a\n1\n")
    assert "differ only in case" in fsvc("commit", "x=a.csv", "X=a.csv", "-m", "m", code=2).err
    fsvc("commit", "x=a.csv", "-m", "m")
    assert "'X' and 'x' differ only in case" in fsvc("commit", "X=a.csv", "-m", "m", code=2).err


# -- Ctrl-C ------------------------------------------------------------------------------------------


def test_an_interrupted_query_is_an_interrupt():
    import duckdb

    for error in (RuntimeError("Query interrupted"), duckdb.InterruptException("stop")):
        with pytest.raises(KeyboardInterrupt), interruptible():
            raise error
    with pytest.raises(RuntimeError, match="other"), interruptible():
        raise RuntimeError("other")


def test_ctrl_c_while_duckdb_parses(fsvc, place):
    fsvc("init")
    with open("big.csv", "w") as file:
        file.write("a,b\n")
        file.writelines("12345.678,some text that takes a while to parse\n" * 25_000 for _ in range(40))
    program = """
import os, signal, threading
from fsvc.cli import main
from fsvc.query.textfiles import TextFiles
real = TextFiles.rows_of
def interrupted(self, *args):
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    return real(self, *args)
TextFiles.rows_of = interrupted
main(["commit", "big.csv", "-m", "never"])
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (run.returncode, sentences(run.stderr)) == (130, ["fsvc: interrupted; the repository is whole"])
    assert fsvc("log", "--json").document == {"commits": []}


def test_an_interrupted_demo_is_no_fault(tmp_path):
    program = """
import os, signal
from fsvc.cli import main
from fsvc.storage.local import LocalStorage
def interrupted(self, *args, **options):
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError("still here")
LocalStorage.put_batch = interrupted
main(["demo"])
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (130, "fsvc: interrupted; the repository is whole\n")


# -- every command as JSON ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["init"], 5), (["status"], 0), (["log", "--graph"], 0), (["log", "--long"], 0), (["log", "no"], 4),
        (["show"], 0), (["show", "rates"], 0), (["show", "no"], 4), (["ls"], 0), (["ls", "no"], 4),
        (["head", "rates"], 0), (["head", "rates", "-n", "-1"], 2), (["hash", "rates.csv"], 0), (["hash"], 2),
        (["hash", "no"], 1), (["branch"], 0), (["branch", "-d", "no"], 4), (["tag"], 0), (["reflog"], 0),
        (["checkout"], 0), (["checkout", "rates", "--columns", "no", "-o", "x.csv"], 4), (["verify"], 0),
        (["verify", "--deep"], 0), (["stats"], 0), (["completion", "zsh"], 0), (["switch", "no"], 4),
        (["commit", "no.csv", "-m", "m"], 1), (["commit"], 2), (["no"], 2), (["demo", "--keep", "."], 5),
    ],
)  # fmt: skip
def test_every_command_gives_one_document(history, words, code):
    document = json.loads(history(*words, "--json", code=code).out)
    assert isinstance(document, dict)
    assert ("error" in document) == (code != 0)


def test_a_file_that_goes_away_before_it_is_parsed(place):
    from fsvc.errors import UnreadableInput
    from fsvc.query.textfiles import CsvFiles

    path = place / "a.csv"
    path.write_text("a\n1\n")
    files = CsvFiles([path])
    path.unlink()
    with pytest.raises(UnreadableInput, match="was removed while it was read"):
        list(files.read())
    files.close()


def test_the_module_runs_as_the_command():
    ran = subprocess.run(
        [sys.executable, "-m", "fsvc", "log", "--nothing"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "fsvc: no such option '--nothing'" in ran.stderr
