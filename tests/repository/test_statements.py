"""Statements stand in files that say what they return, lock and go by, and each is true of the schema."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

import psycopg
import pytest

from domain.postgres.sql_file import Block, parse
from tests.conftest import Database

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("domain", "projections", "api")
NO_STATEMENTS: Final = ("migrations", "schema.sql")
SAID: Final = ("Returns", "Order", "Locks", "Index")
LOADED: Final = re.compile(r'^(\w+): Final = statements\(\s*"([\w.]+)", "([\w/.]+)"\s*\)', re.MULTILINE)


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


def test_every_statement_says_what_it_returns_in_which_order_what_it_locks_and_which_index_it_uses() -> None:
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


@pytest.mark.parametrize("block", [pytest.param(block, id=where) for where, _, block in blocks()])
def test_the_server_accepts_the_statement(database: Database, block: Block) -> None:
    with psycopg.connect(database.owner) as connection:
        connection.execute(f"PREPARE one AS {numbered(block.text)}".encode())


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
