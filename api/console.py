"""What the commands share: how they reach the ledger's database, and how they print."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

from cyclopts import Parameter
from psycopg import Connection
from rich.console import Console
from rich.table import Table

from api.deployment import open_store
from api.settings import Settings, load
from domain.eventstore.connection import open_connection
from projections.positions import ensure_live
from projections.registry import PROJECTIONS
from projections.runner import Runner

DataDir = Annotated[Path | None, Parameter(help="Directory of the embedded server.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]
LIST_MAX: Final = 1000
TokenId = Annotated[UUID, Parameter(help="Its id; no command asks for a secret.")]


@contextmanager
def connection(data_dir: Path | None) -> Iterator[Connection]:
    """The app role's, in autocommit mode, beside a running service or on a server started for it."""
    with open_store(load(data_dir=data_dir)) as settings:
        assert settings.database_url is not None
        with open_connection(settings.database_url) as opened:
            yield opened


@contextmanager
def caught_up(data_dir: Path | None) -> Iterator[Settings]:
    """Settings of a ledger whose views know all that is recorded by now, also where no service runs."""
    with open_store(load(data_dir=data_dir)) as settings:
        assert settings.database_url is not None
        with open_connection(settings.database_url) as opened:
            for projection in PROJECTIONS:
                ensure_live(opened, projection)
            Runner(settings.database_url, PROJECTIONS).catch_up(opened)
        yield settings


def show(found: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """One object as lines, several as a table; or JSON, for scripts."""
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    elif isinstance(found, Mapping):
        for name, value in found.items():
            print(f"{name}: {_text(value)}")
    else:
        table = Table(box=None, pad_edge=False)
        for name in found[0] if found else ():
            table.add_column(name, overflow="fold", no_wrap=name == "id")  # ids are copied whole
        for row in found:
            table.add_row(*(_text(value) for value in row.values()))
        Console(width=None if sys.stdout.isatty() else 200).print(table, markup=False)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
