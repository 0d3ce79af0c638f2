"""The schema that the migrations lead to, as `pg_dump` writes it, ordered for a reader.

    python -m tests.domain.postgres.schema     writes domain/eventstore/schema.sql anew

A table stands together with its keys, indexes and comments; then views, foreign keys, functions,
triggers.
What a dump says of itself, of owners and of rights is left out; `test_migrate.py` is about rights.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from psycopg.conninfo import make_conninfo

from domain.postgres.embedded.server import EmbeddedPostgres
from domain.postgres.migrate import migrate
from tests import postgres_programs

FILE: Final = Path(__file__).parents[3] / "domain/eventstore/schema.sql"
HEADER: Final = """\
-- What the migrations lead to, for readers: nothing runs this file. A test compares it with them.
-- Made by `python -m tests.domain.postgres.schema`.
"""
ENTRY: Final = re.compile(
    r"^--\n-- Name: (?P<name>.+); Type: (?P<type>[A-Z ]+); Schema: .+; Owner: -\n--\n\n",
    re.MULTILINE,
)
TABLE: Final = re.compile(r"(?:TABLE(?: ONLY)?|INDEX \w+ ON|COMMENT ON COLUMN) ledger\.(\w+)")
VIEW: Final = re.compile(r"VIEW ledger\.(\w+)")
QUALIFIED: Final = re.compile(r"\b(?!ledger\b)\w+\.(?=\w)")
"""PostgreSQL 15 writes the name of a view's table before each column."""
COLUMN_VERSION: Final = re.compile(
    r"^ALTER TABLE (?:ONLY )?\S+ ALTER COLUMN \S+ SET \(pg_attver=\d+\);\n", re.MULTILINE
)
"""What PostgreSQL 15.20 notes of each column by itself, another number in each database."""
ORDER: Final = ("SCHEMA", "TABLE", "VIEW", "FK CONSTRAINT", "FUNCTION", "TRIGGER")


def schema(conninfo: str) -> str:
    """That of a migrated database, without the views.

    conninfo: of a role that may read all of it.
    """
    dump = subprocess.run(
        [
            postgres_programs.directory() / "pg_dump",
            "--schema-only",
            "--no-owner",
            "--no-privileges",
            "--exclude-schema=public",
            make_conninfo(conninfo),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    return HEADER + "".join(f"\n{text}\n" for text in ordered(dump))


def ordered(dump: str) -> Iterator[str]:
    """The entries of a dump, each table with what belongs to it."""
    groups: dict[tuple[int, str], list[str]] = {}
    _, *parts = ENTRY.split(COLUMN_VERSION.sub("", dump))
    for name, kind, part in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        # Behind an entry stand settings for the next ones, and the end of the dump.
        text = re.split(r"\n\n\n(?:SET |--\n-- PostgreSQL database dump complete)", part)[0].strip()
        table = None if kind in {"FUNCTION", "FK CONSTRAINT", "TRIGGER"} else TABLE.search(text)
        view = None if kind == "FUNCTION" else VIEW.search(text)
        if table:
            key = ORDER.index("TABLE"), table[1]
        elif view:
            key = ORDER.index("VIEW"), view[1]
            text = QUALIFIED.sub("", text)
        else:
            key = ORDER.index(kind), name
        groups.setdefault(key, []).append(text)
    for _, texts in sorted(groups.items()):
        yield "\n".join(texts)


def main() -> None:
    """Write the file anew, from a server of its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        server = EmbeddedPostgres(Path(directory), is_durable=False)
        server.start()
        try:
            conninfo = server.conninfo(user="postgres", dbname="postgres")
            migrate(conninfo, app_role=None)
            FILE.write_text(schema(conninfo))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
