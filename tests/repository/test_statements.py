"""Statements stand in files that say what they return, lock and go by;
each is true of the schema.
"""

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import psycopg
import pytest

from domain.postgres.sql_file import Block, parse, with_names
from projections.usage.queries import DAYS
from tests.conftest import APP_ROLE, Database
from tests.turns import by_turns

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("domain", "projections", "api")
NO_STATEMENTS: Final = ("migrations", "schema.sql")
SAID: Final = ("Returns", "Order", "Locks", "Index")
LOADED: Final = re.compile(
    r'^(\w+): Final = statements\(\s*"([\w.]+)", "([\w/.]+)"\s*\)', re.MULTILINE
)
VERBS: Final = (
    "ALTER BEGIN COPY CREATE DELETE DROP GRANT INSERT REVOKE SELECT SET TRUNCATE UPDATE WITH"
)
STATEMENT: Final = re.compile(rf"\s*\(*(?:{'|'.join(VERBS.split())})\s")
NOT_PREPARED: Final = re.compile(r"(?:ALTER|CREATE|GRANT|REVOKE|RESET|SET)\s")
"""Utility statements, which PostgreSQL does not prepare; a test executes them."""
NAMES: Final[dict[str, str | tuple[str, str]]] = {
    "audit_trail": ("views", "audit_trail_v1"),
    "scim_tokens": ("views", "scim_tokens_v1"),
    "role": APP_ROLE,
    "sequence": ("ledger", "events_notification_id_seq"),
    "column": "uses",
    "token_sources": ("views", "token_sources_v1"),
    "table": ("views", "usage_v1"),
    "usage": ("views", "usage_v1"),
    "live": ("views", "usage_v1"),
    "new": ("views", "usage_v1"),
    "key": "key",
    "kept": ("ledger", "stream_heads"),
}
"""What a test fills in for a name that is known only at run time."""
NEWEST: Final = "SELECT * FROM views.scim_tokens_v1"
"""What stands for the tokens that a request asks for."""
IN_CODE: Final = {
    "domain/eventstore/peppers/fingerprints.py": "sent with a session's settings, unparameterised",
    "domain/eventstore/library/recorder.py": "composed of what the library selects",
    "projections/audit_trail/statement.py": "composed of what a request asks for",
    "projections/kinds/row_per_stream.py": "made of the columns that a view declares",
    "projections/projection.py": "made of the columns that a view declares",
    "projections/scim_tokens/lifetimes.py": "composed of what a request asks for",
    "projections/scim_tokens/matching.py": "composed of what a request asks for",
    "projections/scim_tokens/queries.py": "composed of what a request asks for",
    "projections/scim_tokens/walk.py": "composed of what a request asks for",
    "projections/view_reader.py": "composed of what a view is asked for",
    "api/doctor/server.py": "a remedy names statements",
}
"""Modules that keep statements of more than a line, and why."""


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def files() -> list[Path]:
    found = chain.from_iterable((ROOT / package).rglob("*.sql") for package in PACKAGES)
    return sorted(path for path in found if not set(path.parts) & set(NO_STATEMENTS))


def blocks() -> Iterator[tuple[str, str, Block]]:
    """File, header and block of every statement."""
    for path in files():
        header, found = parse(path.read_text())
        for name, block in found.items():
            yield f"{path.relative_to(ROOT)}:{name}", header, block


def test_every_statement_says_what_it_returns_in_which_order_with_which_locks_and_index() -> None:
    silent = {
        where: missing
        for where, header, block in blocks()
        if (missing := [word for word in SAID if f"-- {word}: " not in header + block.comment])
    }
    assert silent == {}


def test_every_statement_is_used_and_every_one_that_is_used_exists() -> None:
    used = set()
    for path in modules():
        code = path.read_text()
        for variable, package, file in LOADED.findall(code):
            where = f"{package.replace('.', '/')}/{file}"
            names = re.findall(rf'\b{variable}\["(\w+)"\]', code)
            used |= {f"{where}:{name}" for name in names}
    assert used == {where for where, _, _ in blocks()}


def test_no_line_of_a_statement_is_longer_than_a_hundred_columns() -> None:
    long = [path.name for path in files() if max(map(len, path.read_text().splitlines())) > 100]
    assert long == []


def test_a_statement_of_more_than_a_line_stands_in_a_file() -> None:
    found = {str(path.relative_to(ROOT)) for path in modules() if any(long_statements(path))}
    assert found == IN_CODE.keys()


def long_statements(path: Path) -> Iterator[int]:
    """Lines on which a statement begins that goes on to the next."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case (
                ast.Constant(value=str() as text)
                | ast.JoinedStr(values=[ast.Constant(value=str() as text), *_])
            ):
                if node.end_lineno != node.lineno and STATEMENT.match(text):
                    yield node.lineno


@pytest.mark.parametrize(
    "block",
    by_turns([(block,) for _, _, block in blocks()], one_of=4),
    ids=[where for where, *_ in blocks()],
)
def test_the_server_accepts_the_statement(database: Database, block: Block) -> None:
    text = block.text.replace("{newest}", NEWEST).replace("{rotating}", NEWEST)
    text = text.replace("{days}", DAYS)
    names = {name: NAMES[name] for name in re.findall(r"\{(\w+)\}", text)}
    statement = with_names(text, **names) if names else text
    with psycopg.connect(database.owner) as connection:
        if NOT_PREPARED.match(statement):
            connection.execute(statement)
        else:
            connection.execute(f"PREPARE one AS {numbered(statement)}".encode())


def numbered(statement: str) -> str:
    """psycopg's placeholders as the server's: `%s` in turn, `%(name)s` by name."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        name = found[1] or f"#{len(names)}"
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return re.sub(r"%(?:\((\w+)\))?s|%%", number, statement)
