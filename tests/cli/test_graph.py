"""Histories as drawings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fsvc.cli.graph import draw


def drawn(history: dict[str, str]) -> str:
    """A drawing of commits named by letters, each with its parents."""
    parents = {commit: list(above) for commit, above in history.items()}
    return "\n".join(draw(list(history), parents, [[commit] for commit in history]))


def test_a_line():
    assert drawn({"c": "b", "b": "a", "a": ""}) == "* c\n* b\n* a"


def test_a_merge():
    assert drawn({"m": "ab", "b": "r", "a": "r", "r": ""}) == "\n".join(
        ["* m", r"|\ ".rstrip(), "| * b", "* | a", "|/", "* r"]
    )


def test_two_tips():
    assert drawn({"x": "r", "y": "r", "r": ""}) == "\n".join(["* x", "| * y", "|/", "* r"])


def test_a_merge_of_three():
    assert drawn({"m": "abc", "c": "r", "b": "r", "a": "r", "r": ""}).splitlines() == [
        "* m",
        "|\\",
        "|\\ \\",
        "| | * c",
        "| * | b",
        "* | | a",
        "|_|/",
        "|/",
        "* r",
    ]


def test_a_root_frees_its_lane():
    assert drawn({"m": "ab", "a": "", "b": ""}).splitlines() == ["* m", "|\\", "* | a", " /", "* b"]


def test_parents_that_are_not_shown_end_a_lane():
    assert drawn({"c": "b"}) == "* c"


def test_further_lines_stand_beside_the_lanes():
    lines = list(draw(["b", "a"], {"b": ["a"], "a": []}, [["b", "x", ""], ["a", "y"]]))
    assert lines == ["* b", "| x", "|", "* a", "  y"]


@given(st.data())
def test_every_commit_has_one_line_with_its_star(data):
    count = data.draw(st.integers(1, 12))
    commits = [f"c{i}" for i in range(count)]
    parents = {
        commit: data.draw(st.lists(st.sampled_from(commits[i + 1 :]), unique=True, max_size=3))
        if i + 1 < count
        else []
        for i, commit in enumerate(commits)
    }
    lines = list(draw(commits, parents, [[commit] for commit in commits]))
    stars = [line for line in lines if "*" in line]
    assert [line.split()[-1] for line in stars] == commits
    assert all(line.count("*") == 1 for line in stars)
    assert all(set(line) <= set("|/\\_ ") for line in lines if "*" not in line)
