"""Merges that race with each other and with commits, in processes: each lands once, or says why it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
from wholeness import assert_whole

import fsvc
from fsvc.engine import history

EACH = 4
PROGRAM = """
import json, sys
import pyarrow as pa
import fsvc
from fsvc.errors import Conflict

location, me, kind, each = sys.argv[1:]
repo = fsvc.open(location, author=me)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(each)):
    while True:
        try:
            if kind == "merge":
                made = repo.merge(f"{me}-{number}", fast_forward=False, message=f"{me}-{number}")
            else:
                made = repo.commit({me: pa.table({"x": [number]})}, message=f"{me}-{number}")
        except Conflict as error:
            print(json.dumps(["conflict", str(error)]), flush=True)
            continue
        print(json.dumps(["made" if made.created else "nothing", made.id]), flush=True)
        break
"""


def shared(changes: dict[int, int]) -> pa.Table:
    return pa.table({"id": range(20), "value": [changes.get(row, 0) for row in range(20)]})


def test_merges_and_commits_of_processes_land_once_each(tmp_path: Path) -> None:
    repository = fsvc.init(tmp_path / "repository")
    repository.commit({"shared": shared({})}, key="id", message="base")
    mergers = {"one": 0, "two": EACH}
    for me, first in mergers.items():
        for number in range(EACH):
            branch = f"{me}-{number}"
            repository.branch(branch, "main")
            row = first + number
            repository.commit({"shared": shared({row: row + 1})}, branch=branch, message=f"row {row}")
    kinds = {**dict.fromkeys(mergers, "merge"), "three": "commit", "four": "commit"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, repository.location, me, kind, str(EACH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me, kind in kinds.items()
    ]
    told: list[list[Any]] = []
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        told += [json.loads(line) for line in out.splitlines()]

    made = [commit for outcome, commit in told if outcome == "made"]
    assert Counter(outcome for outcome, _ in told if outcome != "conflict") == {"made": 4 * EACH}
    for outcome, sentence in told:
        assert outcome == "made" or "'shared'" in sentence or "moved" in sentence

    repository = fsvc.open(tmp_path / "repository")
    (head,) = (repository.resolve().id,)
    line = [commit for commit, _ in history.first_parents(repository.store, head)]
    assert Counter(line[:-1]) == Counter(made), "main is one line, and each is in it once"
    parents = [len(repository.resolve(commit).parents) for commit in line]
    assert sorted(parents) == [0] + [1] * 2 * EACH + [2] * 2 * EACH
    rows = range(2 * EACH)
    assert repository.snapshot("shared").to_arrow().equals(shared({row: row + 1 for row in rows}))
    assert repository.resolve().versions == {"shared": 1 + 2 * EACH, "three": EACH, "four": EACH}
    assert [repository.snapshot(f"three@v{n + 1}").to_arrow()["x"].to_pylist() for n in range(EACH)] == [
        [n] for n in range(EACH)
    ]
    assert_whole(repository)
