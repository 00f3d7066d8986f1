"""What a crash may do to a local store: nothing to what it had acknowledged, and nothing by halves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from crash import Recording, Unsynced, crash_states

from fsvc.storage.local import LocalStorage

CONTENTS = {
    "packs/one.pack": b"pack one " * 50,
    "packs/two.pack": b"pack two " * 50,
    "index/aa/1": b"an index",
    "manifests/aa/1": b"a manifest",
    "manifests/bb/2": b"another manifest",
    "commits/1": b"a commit",
    "refs/heads/main/1.json": b"the ref entry of commit 1",
    "refs/heads/main/2.json": b"the ref entry of commit 2",
}


def write_commits(recording: Recording, root: Path) -> None:
    """Do what a writer does: packs, a batch of small files, a ref entry; and another, with less."""
    store = LocalStorage(root / "repository", create=True, system=recording)
    recording.acknowledge("created")

    def put(key: str) -> None:
        store.put_if_absent(key, [CONTENTS[key][:20], CONTENTS[key][20:]])
        recording.acknowledge(key)

    def batch(*keys: str) -> None:
        store.put_batch({key: CONTENTS[key] for key in keys})
        for key in keys:
            recording.acknowledge(key)

    put("packs/one.pack")
    batch("index/aa/1", "manifests/aa/1", "manifests/bb/2", "commits/1")
    put("refs/heads/main/1.json")
    put("packs/two.pack")
    batch("commits/1", "manifests/aa/1")
    put("refs/heads/main/2.json")


def problems(recording: Recording, scratch: Path) -> tuple[list[str], int]:
    """Reopen every crash state; give what is wrong in it, and how many there were."""
    wrong: list[str] = []
    states = 0
    for state in crash_states(recording, scratch):
        states += 1
        root = state.path / "repository"
        if not root.is_dir():
            if state.acknowledged:
                wrong.append(f"{state.label}: the store is gone")
            continue
        store = LocalStorage(root, system=Unsynced())
        listed = {entry.key for entry in store.list("")}
        wrong += [f"{state.label}: {key} is damaged" for key in listed if store.get(key) != CONTENTS[key]]
        wrong += [f"{state.label}: {key} is lost" for key in set(state.acknowledged) - listed - {"created"}]
        if (
            "refs/heads/main/1.json" in listed
            and not {"packs/one.pack", "commits/1", "manifests/aa/1"} <= listed
        ):
            wrong.append(f"{state.label}: a ref leads nowhere")
        # Whatever was left behind, the next writer gets through.
        store.put_batch({key: data for key, data in CONTENTS.items() if not key.startswith("refs/")})
        if "refs/heads/main/1.json" not in listed:
            store.put_if_absent("refs/heads/main/1.json", b"")
    return wrong, states


@pytest.mark.parametrize("unnamed_files", [True, False])
def test_no_crash_loses_or_damages_anything(light_path: Path, unnamed_files: bool) -> None:
    root = light_path / "disk"
    root.mkdir()
    recording = Recording(root, unnamed_files=unnamed_files)
    write_commits(recording, root)
    wrong, states = problems(recording, light_path / "scratch")
    assert wrong == []
    assert states > 60  # otherwise too little was tried to mean anything


def test_a_recording_starts_from_what_is_there(light_path: Path) -> None:
    root = light_path / "disk"
    before = LocalStorage(root / "repository", create=True)
    before.put_if_absent("packs/one.pack", CONTENTS["packs/one.pack"])
    recording = Recording(root)
    store = LocalStorage(root / "repository", system=recording)
    recording.acknowledge("packs/one.pack")
    store.put_if_absent("packs/two.pack", CONTENTS["packs/two.pack"])
    recording.acknowledge("packs/two.pack")
    assert problems(recording, light_path / "scratch")[0] == []
    assert problems(recording, light_path / "scratch") == problems(recording, light_path / "scratch")


def test_a_deleted_key_is_whole_or_gone(light_path: Path) -> None:
    root = light_path / "disk"
    root.mkdir()
    recording = Recording(root)
    store = LocalStorage(root, system=recording)
    store.put_if_absent("a/b", b"whole")
    store.delete("a/b")
    found = set()
    for state in crash_states(recording, light_path / "scratch"):
        reopened = LocalStorage(state.path, system=Unsynced())
        found.add(tuple(reopened.get(entry.key) for entry in reopened.list("")))
    assert found == {(), (b"whole",)}


# Faults planted into the recipe: each of them must be found, or the states above prove nothing.


class ForgetsFiles(Recording):
    def sync(self, file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):
            super().sync(file)


class ForgetsDirectories(Recording):
    def sync(self, file: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{file}"):
            super().sync(file)


class ForgetsParents(Recording):
    """Syncs a directory only once it has files."""

    def sync(self, file: int) -> None:
        path = f"/proc/self/fd/{file}"
        if not os.path.isdir(path) or any(entry.is_file() for entry in os.scandir(path)):
            super().sync(file)


class NamesBeforeSync(Recording):
    """Syncs each file only after it got its name."""

    held: int | None = None

    def sync(self, file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):
            super().sync(file)
        else:
            self.held = file

    def link_unnamed(self, file: int, directory: int, name: str) -> None:
        super().link_unnamed(file, directory, name)
        super().sync(file)


class WritesInPlace(Recording):
    """Creates the file under its own name and then writes it."""

    def open_unnamed(self, directory: int) -> int:
        self.names = getattr(self, "names", 0) + 1
        return self.open_named(directory, f"file{self.names}")

    def link_unnamed(self, file: int, directory: int, name: str) -> None:
        self.rename(directory, f"file{self.names}", name)


class ForgetsTheLastByte(Recording):
    def write(self, file: int, pieces: Sequence[memoryview]) -> None:
        super().write(file, [*pieces[:-1], pieces[-1][:-1]])


@pytest.mark.parametrize(
    ("fault", "symptom"),
    [
        (ForgetsFiles, "damaged"),
        (ForgetsDirectories, "lost"),
        (ForgetsParents, "lost"),
        (NamesBeforeSync, "damaged"),
        (ForgetsTheLastByte, "damaged"),
    ],
)
def test_a_planted_fault_is_found(light_path: Path, fault: Callable[[Path], Recording], symptom: str) -> None:
    root = light_path / "disk"
    root.mkdir()
    recording = fault(root)
    write_commits(recording, root)
    wrong, _ = problems(recording, light_path / "scratch")
    assert any(symptom in problem for problem in wrong)


def test_a_file_written_under_its_own_name_is_found(light_path: Path) -> None:
    root = light_path / "disk"
    root.mkdir()
    recording = WritesInPlace(root)
    store = LocalStorage(root, system=recording)
    store.put_if_absent("a", b"whole")
    contents = set()
    for state in crash_states(recording, light_path / "scratch"):
        reopened = LocalStorage(state.path)
        contents |= {reopened.get(entry.key) for entry in reopened.list("")}
    assert {b"", b"wh", b"\0" * 5, b"whole"} <= contents
