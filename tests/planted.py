"""Faults that are planted in a copy of the code, one by one, and the tests that have to see each: ``make planted``.

A test that no fault makes fail shows nothing. Each fault is a small change of the text, which must fit in exactly
one place; the tests that are named have to pass without it, and one of them has to fail with it. Ends with 1 where a fault
survives or does not fit any more. ``python tests/planted.py WORDS...`` plants those alone whose names hold one of these.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_SECONDS = 300


@dataclass(frozen=True)
class Fault:
    """What is done wrong, the tests that should see it, and the edits: file below fsvc/, old text, new text."""

    name: str
    tests: str
    edits: tuple[tuple[str, str, str], ...]


LOCAL, SYSTEM = "storage/local.py", "storage/system.py"
COMMIT, REFS, STORE = "engine/committing.py", "engine/refs.py", "engine/store.py"
CONDEMNED, COLLECT, REACH = "engine/condemned.py", "engine/collection.py", "engine/reachability.py"
CRASHES = "tests/storage/test_crash_local.py::test_no_crash_loses_or_damages_anything"
COMMIT_CRASHES = "tests/test_crash_points.py::test_a_crash_at_any_point_leaves_the_old_state_or_the_new"

FAULTS = (
    # Durable and atomic
    Fault("the sync of a file is dropped", CRASHES, (
        (LOCAL, "            self._sync(staged.file, key)\n            return", "            return"),
    )),
    Fault("the syncs of the files of a batch are dropped", CRASHES, (
        (LOCAL, "                self._sync(file.file, key)\n", "                pass\n"),
    )),
    Fault("the sync of a directory is dropped", CRASHES, (
        (LOCAL, "self._sync(directory, folder)  # if another writer won, it may not have come so far", "pass"),
    )),
    Fault("the syncs of the directories of a batch are dropped", CRASHES, (
        (LOCAL, "                    self._sync(directory, folder)\n                finally:\n"
                "                    self._system.close(directory)\n        except OSError as error:\n"
                "            raise self._failure(\"write\", what",
                "                    pass\n                finally:\n"
                "                    self._system.close(directory)\n        except OSError as error:\n"
                "            raise self._failure(\"write\", what"),
    )),
    Fault("the parent of a new directory is not synced", CRASHES, (
        (LOCAL, "            self._sync_directory(self._base + parent)\n", "            pass\n"),
    )),
    Fault("after a failed sync one goes on writing", "tests/storage/test_local_storage.py", (
        (LOCAL, "        if self._failed_sync is not None:\n", "        if False:\n"),
    )),
    Fault("the ref entry is written before the commit", COMMIT_CRASHES, (
        (COMMIT, "            self.store.storage.put_batch(batch)\n            if touched",
                 "            if touched"),
        (COMMIT, "            compact(self.store)\n            return Committed(record.id",
                 "            self.store.storage.put_batch(batch)\n            return Committed(record.id"),
    )),
    Fault("packs are written after the index", "tests/test_crash_points.py", (
        ("engine/objects.py", "        put_named(self._storage, pack_key(name), buffers)\n        return {",
                              "        self._late = (pack_key(name), [bytes(b) for b in buffers])\n        return {"),
        ("engine/objects.py", "            self._pool.shutdown()\n            return list(",
                              "            self._pool.shutdown(wait=False)\n"
                              "            import threading as t\n"
                              "            late = getattr(self, '_late', None)\n"
                              "            t.Timer(0.2, lambda: late and put_named(self._storage, *late)).start()\n"
                              "            return list("),
    )),
    # One of several writers wins
    Fault("a ref entry that is there is overwritten", "tests/test_refs.py tests/test_concurrency.py", (
        (REFS, "                self._storage.put_if_absent(entry.key, data)\n",
               "                self._storage.delete(entry.key)\n"
               "                self._storage.put_if_absent(entry.key, data)\n"),
    )),
    Fault("a name that is taken is taken over", "tests/storage/test_local_storage.py", (
        (SYSTEM, "        # dst_dir_fd is what makes",
                 "        if os.path.exists(f\"/proc/self/fd/{directory}/{name}\"):\n"
                 "            os.unlink(name, dir_fd=directory)\n        # dst_dir_fd is what makes"),
        (LOCAL, "won = not self._exists(key) and self._put_file", "won = self._put_file"),
    )),
    Fault("a lost reply is taken for a conflict", "tests/test_refs.py", (
        (REFS, "            if found == data:\n                return\n", ""),
    )),
    Fault("an outcome that is unknown is called a failure", "tests/test_refs.py", (
        (REFS, "        raise _unknown(entry, failure) from failure\n\n    @staticmethod",
               "        raise failure\n\n    @staticmethod"),
    )),
    Fault("a stale writer is not turned away", "tests/test_refs.py", (
        (REFS, "        if latest != sequence - 1:\n", "        if False:\n"),
    )),
    Fault("what others changed meanwhile is put back", "tests/test_concurrency.py", (
        (COMMIT, "        return next((name for name in names if theirs.get(name) != base.get(name)), None)",
                 "        return None"),
    )),
    # What is read is what was committed
    Fault("the digest of a chunk is not compared", "tests/test_runs.py tests/test_verify.py", (
        ("engine/reading.py", "    if digest(array, field) != identity.digest:\n", "    if False:\n"),
    )),
    Fault("the checksum of an object is not compared", "tests/test_corruption.py", (
        ("engine/objects.py", "    if index.checksum(entry.address, entry.digest, entry.meta, [data]) != entry.checksum:\n",
                              "    if False:\n"),
    )),
    Fault("the id of a commit is not compared", "tests/test_corruption.py", (
        ("format/commit.py", "    if blake3(data).hexdigest() != commit:\n", "    if False:\n"),
    )),
    Fault("the id of a manifest is not compared", "tests/test_corruption.py tests/test_hostile_input.py", (
        ("format/manifest.py", "    if blake3(encoded).hexdigest() != snapshot:\n", "    if False:\n"),
    )),
    Fault("the seal of a file is not compared", "tests/test_refs.py tests/test_strictjson.py", (
        ("format/strictjson.py", "    if blake3(dumps(value)).hexdigest() != proof:\n", "    if False:\n"),
    )),
    Fault("an XXH3 twin is taken for the same data", "tests/test_hostile_input.py", (
        ("engine/writing.py", "                if digest != identity.digest:\n", "                if False:\n"),
    )),
    Fault("a patch is not proven before it is stored", "tests/test_patches.py", (
        ("engine/patching.py", "        if digest(predicted, field) != identity.digest:\n            return None\n", ""),
    )),
    Fault("an extension is not proven before it is stored", "tests/test_patches.py", (
        ("engine/writing.py", "            if digest(array, self._fields[i]) == identities[i].digest\n", ""),
    )),
    Fault("a thawed chunk is believed", "tests/test_patches.py", (
        ("engine/thawing.py", "        if len(data) != size or bytes(found[:_CHECKSUM_BYTES]) != _checksum(name, data):\n",
                              "        if len(data) != size:\n"),
    )),
    # Nothing in use is deleted
    Fault("a collection does not see pins", "tests/test_gc.py::test_a_commit_that_only_one_ref_names_is_kept", (
        (REACH, "    for kind in KINDS:\n", "    for kind in (\"heads\", \"tags\"):\n"),
    )),
    Fault("a collection sees the newest entry of a log only", "tests/test_gc.py", (
        (REACH, "            for entry in store.refs.log(kind, name):\n",
                "            for entry in store.refs.log(kind, name)[:1]:\n"),
    )),
    Fault("a collection does not see deleted refs", "tests/test_gc.py", (
        (REACH, "store.refs.names(kind, deleted=True)", "store.refs.names(kind)"),
    )),
    Fault("a collection goes on where a root cannot be read", "tests/test_gc.py", (
        (REACH, "                if strict:\n                    raise\n                continue\n"
                "            self.commits.add(commit)", "                continue\n            self.commits.add(commit)"),
    )),
    Fault("what a patch stands on is collected", "tests/test_gc.py", (
        ("engine/catalogue.py", "                found[numbers] = True\n", "                pass\n"),
    )),
    Fault("the grace is not waited for", "tests/test_gc.py tests/test_repack.py", (
        (CONDEMNED, "        if _age(storage, f\"{_CONDEMNED}{name}.json\") < sentence.grace:\n            continue\n", ""),
    )),
    Fault("what is condemned is not looked at once more", "tests/test_gc.py tests/test_repack.py", (
        (CONDEMNED, "        dying = sentence.keys - frozenset(needed(sentence.keys))\n",
                    "        dying = sentence.keys\n"),
    )),
    Fault("a commit does not look at the lists of the condemned", "tests/test_gc.py tests/test_repack.py", (
        (COMMIT, "        dead = rely(storage, packs.union(others), time=time)\n", "        dead = None\n"),
    )),
    Fault("a commit does not look for the packs that it uses again", "tests/test_gc.py tests/test_repack.py", (
        (COMMIT, "                raise self._gone(key) from None\n", "                pass\n"),
        (COMMIT, "        dead = rely(storage, packs.union(others), time=time)\n",
                 "        dead = rely(storage, {*others}, time=time)\n"),
    )),
    Fault("a slow commit brings back an index file that was merged", "tests/test_repack.py", (
        (COMMIT, "                self.store.storage.size(key)\n                there[key] = data\n",
                 "                there[key] = data\n"),
    )),
    Fault("new objects stand on condemned ones", "tests/test_gc.py::test_what_is_condemned_is_stored_again_and_goes_all_the_same", (
        ("engine/writing.py", "                if entry is not None and entry.pack in self.objects.condemned_packs:\n",
                              "                if False:\n"),
    )),
    Fault("what is young is collected", "tests/test_gc.py", (
        (COLLECT, "        old = {key for key in others - listed if self._age(key) >= young}\n",
                  "        old = {key for key in others - listed}\n"),
    )),
    # Other processes, other users, clocks
    Fault("a lock stays held in a forked child", "tests/test_processes.py", (
        ("engine/forks.py", "        lock._lock = threading.Lock()\n", "        pass\n"),
    )),
    Fault("a child removes its parent's directories", "tests/test_processes.py", (
        ("engine/forks.py", "    if os.getpid() == process:\n", "    if process:\n"),
    )),
    Fault("a child closes its parent's databases", "tests/test_processes.py", (
        ("query/connection.py", "os.register_at_fork(after_in_child=_leave_alone)\n", ""),
    )),
    Fault("whatever lies in the place is unpickled", "tests/test_processes.py", (
        (STORE, "    if store.info.instance != instance:\n", "    if False:\n"),
    )),
    Fault("directories are for their maker alone", "tests/test_permissions.py", (
        (SYSTEM, "        os.mkdir(path)\n", "        os.mkdir(path, 0o700)\n"),
    )),
    Fault("a read asks for the right to write", "tests/cli/test_readonly_commands.py", (
        (STORE, "        self.refs = Refs(storage)\n",
                "        self.refs = Refs(storage)\n"
                "        if storage.cache_directory:\n"
                "            open(storage.cache_directory + \".lock\", \"a\").close()\n"),
    )),
    Fault("history is ordered by times", "tests/test_clocks.py tests/test_history.py", (
        ("engine/history.py", "            if children[parent] == 0:\n", "            if parent in records:\n"),
    )),
)  # fmt: skip


def plant(fault: Fault, tree: Path) -> str | None:
    """Make the edits of a fault in a tree; what is wrong with it where one does not fit exactly once."""
    for file, old, new in fault.edits:
        path = tree / "fsvc" / file
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            return f"{file} has it {text.count(old)} times: {old.strip().splitlines()[0]}"
        path.write_text(text.replace(old, new), encoding="utf-8")
    return None


def passes(tree: Path, tests: str) -> tuple[bool, str]:
    """Whether tests pass in a tree, and the line of the one that did not. A run that takes too long has failed."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "--timeout",
        "100",
        *tests.split(),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "CI": "1"}
    try:
        ran = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False, "it took too long"
    failed = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if ran.returncode not in (0, 1) and not failed:
        return False, f"pytest ended with {ran.returncode}: {(ran.stderr or ran.stdout).strip()[-200:]}"
    return ran.returncode == 0, failed[0].split(" - ")[0].removeprefix("FAILED ") if failed else ""


def copied(source: Path, tree: Path) -> Path:
    """Make a copy of what the tests need."""
    for folder in ("fsvc", "tests"):
        shutil.copytree(source / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(source / file, tree / file)
    return tree


def main(words: list[str]) -> int:
    """Plant every fault, or those whose names hold one of some words, and say what became of it."""
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    counts = {"caught": 0, "survived": 0, "does not fit": 0}
    with tempfile.TemporaryDirectory(prefix="fsvc-planted-") as name:
        clean = copied(ROOT, Path(name) / "clean")
        for tests in sorted({file for fault in chosen for file in fault.tests.split()}):
            good, what = passes(clean, tests)
            if not good:
                print(f"without any fault {tests} fails: {what}")
                return 1
        print(f"without faults all tests pass; {len(chosen)} faults follow", flush=True)
        for number, fault in enumerate(chosen):
            tree = copied(clean, Path(name) / str(number))
            begun = time.monotonic()
            problem = plant(fault, tree)
            survived, seen = (False, "") if problem else passes(tree, fault.tests)
            word = "does not fit" if problem else "survived" if survived else "caught"
            counts[word] += 1
            seconds = time.monotonic() - begun
            print(f"{word:12}  {fault.name} ({problem or seen or fault.tests}; {seconds:.0f} s)", flush=True)
            shutil.rmtree(tree)
    print(", ".join(f"{count} {word}" for word, count in counts.items()))
    return 0 if counts["caught"] == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
