"""A program that commits until it is stopped: what the tests kill, interrupt, and let race.

It is started once and told on its standard input what to do; each time it forks, so that a new process
costs milliseconds. What it says on its standard output, line by line: ``started PID``, ``committed ID
MARK`` once a commit was acknowledged, ``conflict OURS THEIRS``, ``won KIND NAME`` or ``lost KIND NAME``
after a race for a branch or tag, ``interrupted``, and ``ended PID STATUS``.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from typing import Any

from wholeness import new, opened, small

from fsvc.errors import Conflict, ConflictError
from fsvc.repository import Repository
from fsvc.storage.local import LocalStorage
from fsvc.storage.memory import MemoryStorage
from fsvc.storage.system import System

__all__ = ["Task", "Writer"]


@dataclass(frozen=True)
class Task:
    """What to do: commit ``names``, one after the other or all at once, ``commits`` times.

    With ``repack`` repack so often instead, with ``collect`` collect garbage.

    With ``refs`` make a branch and a tag of each of the names instead. ``me`` marks the commits as this
    writer's. With ``kill_at`` the process kills itself with SIGKILL before its file operation of that number.
    """

    repository: str
    names: tuple[str, ...]
    me: str
    commits: int = 1_000_000
    together: bool = False
    refs: bool = False
    repack: bool = False
    collect: bool = False
    kill_at: int = 0


class Suicidal(System):
    """Kills its process before the n-th operation that changes the disk."""

    def __init__(self, last: int) -> None:
        self._left = last

    def __getattribute__(self, name: str) -> Any:
        if name in _MUTATIONS:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__getattribute__(name)


_MUTATIONS = frozenset(
    {
        *("make_directory", "open_unnamed", "open_named", "write", "sync"),
        *("link_unnamed", "link", "rename", "close"),
    }
)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Interrupts:
    """What SIGINT does: as in every Python program, and remembered.

    An interrupt that falls into a weak reference's callback or a finaliser never reaches the program: Python
    prints it and goes on. The commit then goes on as well, and the interrupt is acknowledged after it.
    """

    def __init__(self) -> None:
        self._came = False

    def __call__(self, *_: object) -> None:
        self._came = True
        raise KeyboardInterrupt

    def acknowledge(self) -> None:
        """Say so if one has come since the last time."""
        if self._came:
            self._came = False
            say("interrupted")


interrupts = Interrupts()


def run(task: Task) -> None:
    repository = opened(
        LocalStorage(task.repository, system=Suicidal(task.kill_at) if task.kill_at else None)
    )
    if task.refs:
        make_refs(repository, task.names)
        return
    if task.repack:
        for _ in range(task.commits):
            repository.repack()
        return
    if task.collect:
        for _ in range(task.commits):
            repository.gc(delete=True)
        return
    numbers = iter(range(task.commits))
    while True:
        try:
            interrupts.acknowledge()
            for number in numbers:
                mark = f"{task.me}.{number}"
                names = task.names if task.together else (task.names[number % len(task.names)],)
                try:
                    say("committed", commit(repository, names, mark, number), mark)
                except ConflictError as error:
                    say("conflict", error.ours, error.theirs)
                interrupts.acknowledge()
            return
        except KeyboardInterrupt:
            pass  # acknowledged at the beginning of the loop, where the next one may come


def commit(repository: Repository, names: tuple[str, ...], mark: str, value: int) -> str:
    data = {name: small(value + i) for i, name in enumerate(names)}
    return repository.commit(data, message=mark, metadata={"mark": mark}, allow_empty=True, threads=1).id


def make_refs(repository: Repository, names: tuple[str, ...]) -> None:
    for name in names:
        for kind, make in (("branch", repository.branch), ("tag", repository.tag)):
            try:
                make(name)
                say("won", kind, name)
            except Conflict:
                say("lost", kind, name)


class Writer:
    """The program, started by a test, and what it said."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.committed: list[tuple[str, str]] = []
        self.conflicts: list[tuple[str, str]] = []
        self.won: list[tuple[str, str]] = []
        path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
        self._program = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._said: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Writer:
        self.wait("ready")
        return self

    def __exit__(self, *_: object) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
        assert self._program.stdin is not None and self._program.stdout is not None
        self._program.stdin.close()
        self._program.wait(30)
        self._listener.join(30)
        self._program.stdout.close()

    def start(self, task: Task) -> None:
        """Have a new process begin the task."""
        assert self._program.stdin is not None and self.pid is None
        self._program.stdin.write(json.dumps(asdict(task)) + "\n")
        self._program.stdin.flush()
        self.pid = int(self.wait("started")[0])

    def stop(self, number: signal.Signals) -> None:
        """Send the process a signal that ends it."""
        self.send(number)
        self.end()

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self.pid is not None
        os.kill(self.pid, number)

    def end(self) -> int:
        """Wait until the process has ended and give its status."""
        status = int(self.wait("ended")[1])
        self.pid = None
        return status

    def wait(self, what: str) -> list[str]:
        """Wait until the program says ``what``, and give the rest of that line."""
        while True:
            word, *rest = self._said.get(timeout=60)
            if word == "committed":
                self.committed.append((rest[0], rest[1]))
            elif word == "conflict":
                self.conflicts.append((rest[0], rest[1]))
            elif word == "won":
                self.won.append((rest[0], rest[1]))
            if word == what:
                return rest
            assert word != "failed", rest

    def _listen(self) -> None:
        assert self._program.stdout is not None
        for line in self._program.stdout:
            self._said.put(line.split())


def main() -> None:
    commit(new(MemoryStorage()), ("warm",), "up", 1)  # all that is loaded on first use is loaded here
    say("ready")
    for line in sys.stdin:
        values = json.loads(line)
        task = Task(**{**values, "names": tuple(values["names"])})
        child = os.fork()
        if child == 0:
            try:
                signal.signal(signal.SIGINT, interrupts)
                run(task)
            except BaseException as error:  # noqa: BLE001 - said, and then the process is gone
                say("failed", type(error).__name__, str(error).replace("\n", " "))
                os._exit(1)
            os._exit(0)
        say("started", child)
        _, status = os.waitpid(child, 0)
        say("ended", child, status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
