"""The faults of ``make planted`` fit the code as it is, each edit in exactly one place."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import FAULTS, ROOT, Fault, copied, plant


def test_every_fault_has_a_name_and_tests_that_are_there() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 12
    for fault in FAULTS:
        for test in fault.tests.split():
            file, _, name = test.partition("::")
            assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(ROOT, tmp_path_factory.mktemp("planted") / "tree")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fits(fault: Fault, tree: Path) -> None:
    files = {tree / "fsvc" / file for file, _, _ in fault.edits}
    before = {path: path.read_bytes() for path in files}
    try:
        assert plant(fault, tree) is None
        for path in files:
            compile(path.read_bytes(), str(path), "exec")
            assert path.read_bytes() != before[path]
    finally:
        for path, data in before.items():
            path.write_bytes(data)


def test_a_fault_that_fits_nowhere_or_twice_is_named(tree: Path) -> None:
    for old in ("this is nowhere\n", "import"):
        assert plant(Fault("f", "", (("storage/local.py", old, ""),)), tree) is not None
