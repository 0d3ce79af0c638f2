"""Whatever the database says about a session, an archive is made and compared, views are made anew,
and addresses are forgotten.
"""

from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql

from tests.api.cli.test_commands import TEAM, USER, run, told
from tests.conftest import Database
from tests.domain.postgres.test_session import DANGEROUS, FIRST_OF_ALL, is_known, set_to
from tests.projections.archive.archiving import HOUR, facts
from tests.projections.history import given
from tests.turns import by_turns

pytestmark = pytest.mark.long

USES: Final = 30
SAID: Final = {
    "archive DIR --older-than-days 400 --remove": f"removed: {USES - 2}\n",
    "verify --seals DIR/seals --archive DIR": f"damage: -\narchived: {USES - 2}\n",
    "projections verify": "True",
    "repair forget --source 192.0.2.0/24 --confirm": "events: 2\n",
    "projections rebuild --all --accept-difference": "token_sources",
    "repair states --confirm": "is_done: True\n",
    "verify": "damage: -\n",
}
"""What the owner does one after another, and a part of the answer."""


@pytest.mark.parametrize(
    ("name", "value"), by_turns(DANGEROUS, one_of=4, is_kept=lambda name, _: name in FIRST_OF_ALL)
)
def test_it_is_the_same(database: Database, tmp_path: Path, name: str, value: str) -> None:
    if not is_known(database, name):
        pytest.skip(f"this PostgreSQL has no {name}")
    given(database, *facts([(0, "used", HOUR, "192.0.2.1", 2)] * USES))
    told(database.app, "token", "create", "--team", TEAM, "--user", USER, "--name", "Okta")
    with psycopg.connect(database.owner, autocommit=True) as owner:
        target = sql.SQL("ALTER DATABASE {} ").format(sql.Identifier(owner.info.dbname))
        owner.execute(target + set_to(name, value))
    (tmp_path / "seals").write_text(run(database.app, "seal").stdout)
    for words, said in SAID.items():
        line = words.replace("DIR", str(tmp_path)).split()
        done = run(database.app, *line, SCIM_LEDGER_OWNER_DATABASE_URL=database.owner)
        assert done.exit_code == 0, (words, done.stdout, done.stderr)
        assert said in done.stdout, words
