"""What every test shares: Hypothesis profiles, and counts that long tests report at the end of a run."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Examples read and write files on machines that are shared: how long one takes says nothing.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("ordinary", parent=_PATIENT, max_examples=50)
settings.register_profile(
    "ci", parent=_PATIENT, max_examples=50, derandomize=True, database=None, print_blob=True
)
settings.register_profile("soak", parent=_PATIENT, max_examples=5_000, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "ordinary")

_MEMORY = "/dev/shm"

# These need MLflow, which has an environment of its own: see the Makefile.
collect_ignore = [] if importlib.util.find_spec("mlflow") else ["models"]


@pytest.fixture
def light_path() -> Iterator[Path]:
    """An empty directory in memory where the system has one: for tests that make thousands of small files."""
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="fsvc-test-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Return a function of a label and a number; sums by label are shown when the run ends."""

    def add(label: str, number: int = 1) -> None:
        record_property(f"count: {label}", number)

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, number in report.user_properties:
                if name.startswith("count: "):
                    counts[name.removeprefix("count: ")] += int(str(number))
    if counts:
        terminalreporter.section("counts")
        width = max(len(f"{number:,}") for number in counts.values())
        for label, number in sorted(counts.items()):
            terminalreporter.write_line(f"{number:>{width},}  {label}")
