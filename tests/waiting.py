"""Waiting for a process of its own to get somewhere."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable


def wait_until(there: Callable[[], bool], process: subprocess.Popen[bytes], said: Callable[[], str]) -> None:
    """Wait until a process got somewhere; fail, with what it ``said``, where it ends before or takes minutes."""
    deadline = time.monotonic() + 240
    while not there():
        if process.poll() is not None or time.monotonic() > deadline:
            state = "takes too long" if process.poll() is None else f"ended with {process.returncode}"
            raise AssertionError(f"{process.args!r} {state}:\n{said()}")
        time.sleep(0.05)
