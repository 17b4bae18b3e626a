"""The pages of faults and guards list what the code has; and the table of guards fits the code, so that `make guards` means something."""

import re
from pathlib import Path

from service import failpoints
from tests.docs.test_reference import rows
from tests.guards.__main__ import misfits
from tests.guards.table import GUARDS, Change, Guard


def test_the_page_of_faults_has_every_failpoint() -> None:
    documented = rows("faults.md", "failpoint")
    assert [cells[0].strip("`") for cells in documented] == list(failpoints.NAMES)
    assert all(when and true for _, when, true in documented)


def test_the_page_of_guards_is_the_table() -> None:
    documented = [cells[0] for cells in rows("guards.md", "guard")]
    assert len(set(documented)) == len(documented)
    assert set(documented) == {guard.row for guard in GUARDS}


def test_every_test_of_the_table_stands_in_its_row() -> None:
    for cells in rows("guards.md", "guard"):
        named = set(re.findall(r"test_\w+", cells[3]))
        for guard in GUARDS:
            if guard.row == cells[0]:
                assert {test.rpartition("::")[2] for test in guard.tests} <= named, guard.name


def test_the_table_of_guards_fits_the_code() -> None:
    assert misfits() == []


def test_a_table_that_does_not_fit_is_told(tmp_path: Path) -> None:
    (tmp_path / "code.sql").write_text("FOR UPDATE; FOR UPDATE")
    (tmp_path / "test_x.py").write_text("def test_here() -> None: ...")
    guards = [
        Guard(name="twice", row="", changes=(Change("code.sql", "FOR UPDATE", ""),), tests=("test_x.py::test_here",)),
        Guard(name="gone", row="", changes=(Change("code.sql", "SHARE", ""),), tests=("test_x.py",)),
        Guard(name="gone", row="", changes=(Change("nowhere.sql", "SHARE", ""),), tests=("test_x.py::test_there", "test_y.py")),
    ]
    told = misfits(guards, tmp_path)
    assert [line.split(":")[0] for line in told] == ["twice", "gone", "gone", "gone", "gone", "gone"]
