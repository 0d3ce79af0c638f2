"""Only what failed while the host took the processors away is run again, and only once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.turns import by_turns

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
CONFTEST = "from tests.second_chance import *\n"
GIVEN = """
from pathlib import Path
from tests import second_chance

RUNS = Path("runs")
stolen_s = second_chance.stolen_s

def test_it():
    RUNS.write_text(RUNS.read_text() + "x" if RUNS.exists() else "x")
    second_chance.stolen_s = lambda: stolen_s() + {stolen_s}
    {then}
"""


@pytest.mark.parametrize(
    ("stolen_s", "then", "runs", "told"),
    by_turns(
        [
            (1000, 'assert RUNS.read_text() == "xx"', 2, "1 passed, 1 run again"),
            (1000, "assert False", 2, "1 failed, 1 run again"),
            (-1000, "assert False", 1, "1 failed in"),
            (1000, "pass", 1, "1 passed in"),
        ],
        one_of=4,
    ),
    ids=["once", "twice", "without-that", "never"],
)
def test_who_gets_a_second_chance(
    tmp_path: Path, stolen_s: int, then: str, runs: int, told: str
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_given.py").write_text(GIVEN.format(stolen_s=stolen_s, then=then))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_given.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert told in done.stdout.splitlines()[-1]
    assert len((tmp_path / "runs").read_text()) == runs
    assert done.returncode == ("failed" in told)
