"""B4: a database in another encoding than UTF-8 is neither migrated nor opened,
and told what to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Final
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from domain.errors import WrongEncoding
from domain.postgres.migrate import migrate
from tests.api.cli.test_commands import refused
from tests.conftest import APP_ROLE
from tests.turns import by_turns

SERVER_ENCODINGS: Final = (
    "SELECT pg_encoding_to_char(number) FROM generate_series(0, 34) AS number ORDER BY number"
)
"""Those that a database may be in; the ones above are for clients alone."""
REMEDY: Final = (
    "the database's encoding is {}, in which names are garbled or refused: "
    "create another, CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
)


@contextmanager
def database_in(server: str, encoding: str) -> Iterator[str]:
    """The owner's connection string of an empty database."""
    name = f"test_{uuid4().hex}"
    create = sql.SQL(
        "CREATE DATABASE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' "
        "TEMPLATE template0 STRATEGY FILE_COPY"
    )
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(create.format(sql.Identifier(name), sql.Literal(encoding)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.long
def test_of_all_encodings_utf8_alone_is_migrated(server: str) -> None:
    with psycopg.connect(server) as admin:
        encodings = [encoding for (encoding,) in admin.execute(SERVER_ENCODINGS)]
    assert len(encodings) == 35
    for encoding in encodings:
        with database_in(server, encoding) as owner:
            if encoding == "UTF8":
                assert migrate(owner, app_role=APP_ROLE)
                continue
            with pytest.raises(WrongEncoding) as refusal:
                migrate(owner, app_role=APP_ROLE)
            assert str(refusal.value) == REMEDY.format(encoding)


@pytest.mark.parametrize(
    ("encoding", "command"),
    by_turns(
        product(
            ["SQL_ASCII", "LATIN1", "MULE_INTERNAL", "EUC_TW"],
            [("serve", "--port", "0"), ("migrate",), ("token", "list")],
        ),
        one_of=5,
    ),
)
def test_every_start_says_so(server: str, encoding: str, command: tuple[str, ...]) -> None:
    with database_in(server, encoding) as owner:
        assert refused(owner, *command) == REMEDY.format(encoding)
