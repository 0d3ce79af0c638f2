"""The maker of the kept ledger works on this release, so that it does on the next one."""

from pathlib import Path

import pytest

from tests.gateways.programs import require
from tests.service import COMMAND
from tests.upgrade import days_ago, kept
from tests.upgrade.make_ledger import make

pytestmark = pytest.mark.long


def test_such_a_ledger_can_be_made_anew(place: Path) -> None:
    require(days_ago.HOW)
    make(Path(COMMAND), place / "kept")
    made = {path.name for path in (place / "kept").iterdir()}
    assert made == {path.name for path in kept.THIS.iterdir()}
    assert kept.kinds_of((place / "kept" / "trail.ndjson").read_text("utf-8")) == kept.known_kinds()
