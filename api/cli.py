"""The command `scim-ledger`. Every command prints one clear line on an error, and JSON with --json."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
import psycopg
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from api.deployment import NotMigrated, UnsafeDatabase, migrate_given, open_store
from api.doctor import examine
from api.log import configure_logging
from api.serve import open_ledger, serve
from api.server.supervisor import ListenError
from api.settings import Settings, SettingsError, load
from domain.api_token import DEFAULT_LIFETIME, ApiToken, Permission
from domain.errors import InvalidValue, LedgerError
from domain.eventstore.embedded import EmbeddedPostgresError
from domain.eventstore.migrate import available
from domain.ledger import NewApiToken, NewScimToken, Operator, TokenLedger
from domain.scim_token import ScimToken
from projections import positions
from projections.projection import UnappliableEvent
from projections.queries import TokenFilter, TokenQueries
from projections.rebuild import Progress, rebuild
from projections.registry import PROJECTIONS
from projections.scim_tokens import rfc3339

T = TypeVar("T")

EXPECTED: Final = (
    SettingsError,
    EmbeddedPostgresError,
    ListenError,
    LedgerError,
    NotMigrated,
    UnsafeDatabase,
    UnappliableEvent,
    psycopg.OperationalError,
)

app = App(name="scim-ledger", help="An event-sourced ledger of SCIM bearer tokens.")
api_token_app = App(name="api-token", help="API tokens: who may call the administrative API.")
token_app = App(name="token", help="SCIM tokens.")
projections_app = App(name="projections", help="Views: how far they are, and their rebuild.")
for sub in (api_token_app, token_app, projections_app):
    app.command(sub)

DataDir = Annotated[Path | None, Parameter(help="Directory of the embedded server.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]


def main() -> None:
    """Entry point: expected errors are one line and exit code 1."""
    configure_logging(os.environ.get("SCIM_LEDGER_LOG_LEVEL", "info"))
    try:
        result = app(result_action="return_value")
    except EXPECTED as error:
        print(f"scim-ledger: {_line(error)}", file=sys.stderr)
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)


@app.command(name="serve")
def serve_command(
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    data_dir: DataDir = None,
    migrate: Annotated[bool, Parameter(negative="", help="Apply pending migrations first.")] = False,
) -> int:
    """Run the service: on its embedded PostgreSQL, or on the server that DATABASE_URL names."""
    return serve(load(host=host, port=port, workers=workers, data_dir=data_dir), migrates=migrate)


@app.command
def migrate(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Apply pending migrations as the owner role (SCIM_LEDGER_OWNER_DATABASE_URL)."""
    settings = load(data_dir=data_dir)
    if settings.database_url is None:
        with open_store(settings):
            numbers: list[int] = []
    else:
        numbers = migrate_given(settings)
    _show({"applied": numbers, "version": max(available())}, as_json=as_json)


@api_token_app.command(name="create")
def api_token_create(
    *,
    user: UUID,
    team: list[UUID] | None = None,
    permission: list[Permission] | None = None,
    expires_in_days: int | None = DEFAULT_LIFETIME.days,
    never_expires: Annotated[bool, Parameter(negative="")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create an API token for a user; its secret is printed once.

    Without --team it may touch every team; without --permission it has every permission.
    """
    lifetime = None if never_expires or expires_in_days is None else timedelta(days=expires_in_days)
    ask = NewApiToken(user, tuple(team) if team else None, tuple(permission or Permission), lifetime)
    token, secret = _with_ledger(data_dir, lambda ledger: ledger.create_api_token(ask))
    _show({**_api_token_fields(token), "token": secret.reveal()}, as_json=as_json)


@api_token_app.command(name="list")
def api_token_list(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Every API token, revoked ones included."""
    tokens = _with_ledger(data_dir, lambda ledger: ledger.api_tokens())
    _show([_api_token_fields(token) for token in tokens], as_json=as_json)


@api_token_app.command(name="revoke")
def api_token_revoke(token_id: UUID, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Revoke an API token, from now on and everywhere."""
    _with_ledger(data_dir, lambda ledger: ledger.revoke_api_token(token_id))
    _show({"id": str(token_id)}, as_json=as_json)


@token_app.command(name="create")
def token_create(
    *,
    team: UUID,
    name: str,
    user: UUID,
    expires_at: datetime | None = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a SCIM token for a team on behalf of a user; its secret is printed once."""
    if expires_at is not None and expires_at.tzinfo is None:
        raise InvalidValue("--expires-at", "needs a time zone, such as a Z at the end")
    ask = NewScimToken(team, name, expires_at)
    token, secret = _with_ledger(data_dir, lambda ledger: ledger.create_scim_token(ask, by=Operator(user)))
    _show({**_scim_token_fields(token), "token": secret.reveal()}, as_json=as_json)


@token_app.command(name="list")
def token_list(
    *,
    team: UUID | None = None,
    status: str = "active",
    limit: int = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The newest SCIM tokens."""
    if status not in {"active", "revoked", "expired", "all"}:
        raise InvalidValue("--status", "must be active, revoked, expired or all")

    async def ask(ledger: TokenLedger) -> Sequence[str]:
        narrow = TokenFilter(None if team is None else (team,), status=status)
        at = ledger.sources.clock()
        page = await TokenQueries(ledger.reads).page(narrow, after=None, limit=limit, at=at, head=0)
        return page.documents

    _show([json.loads(document) for document in _with_ledger(data_dir, ask)], as_json=as_json)


@token_app.command(name="show")
def token_show(token_id: UUID, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """One SCIM token, as its own events tell it."""

    async def ask(ledger: TokenLedger) -> ScimToken:
        found = ledger.replay(token_id)
        if not isinstance(found, ScimToken):
            raise InvalidValue("id", "is not a SCIM token")
        return found

    _show(_scim_token_fields(_with_ledger(data_dir, ask)), as_json=as_json)


@token_app.command(name="revoke")
def token_revoke(
    token_id: UUID,
    *,
    user: UUID | None = None,
    reason: str | None = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a SCIM token, from now on and everywhere."""
    by = Operator(user)
    _with_ledger(data_dir, lambda ledger: ledger.revoke_scim_token(token_id, by=by, reason=reason))
    _show({"id": str(token_id)}, as_json=as_json)


@projections_app.command(name="list")
def projections_list(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Every view: version, position, lag, state."""
    with _connection(data_dir) as connection:
        found = positions.all_positions(connection)
    _show(
        [
            {
                "name": at.name,
                "version": at.version,
                "state": at.state,
                "position": at.position,
                "head": at.head,
                "lag": at.lag,
                "error": at.error,
            }
            for at in found
        ],
        as_json=as_json,
    )


@projections_app.command(name="rebuild")
def projections_rebuild(name: str, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Build a view anew from the first event, beside the live one, and switch to it."""
    known = {projection.name: projection for projection in PROJECTIONS}
    if name not in known:
        raise InvalidValue("name", f"must be one of {', '.join(known)}")

    def report(progress: Progress) -> None:
        if not as_json:
            print(f"{name}: {progress.position} of {progress.head}", file=sys.stderr)

    with _connection(data_dir) as connection:
        version = rebuild(connection, known[name], report=report)
    _show({"name": name, "version": version}, as_json=as_json)


@app.command
def doctor(*, data_dir: DataDir = None, as_json: AsJson = False) -> int:
    """Say what is wrong with the set-up, and how to mend it. Exit code 1 when something is."""
    findings = examine(lambda: load(data_dir=data_dir))
    _show([msgspec.structs.asdict(finding) for finding in findings], as_json=as_json)
    return 0 if all(finding.is_good for finding in findings) else 1


def _with_ledger(data_dir: Path | None, ask: Callable[[TokenLedger], Awaitable[T]]) -> T:
    """Run one command on the ledger, beside a running service or on a server started for it."""

    async def run(settings: Settings) -> T:
        async with open_ledger(settings) as ledger:
            return await ask(ledger)

    with open_store(load(data_dir=data_dir)) as settings:
        return asyncio.run(run(settings))


@contextmanager
def _connection(data_dir: Path | None) -> Iterator[psycopg.Connection]:
    with open_store(load(data_dir=data_dir)) as settings:
        assert settings.database_url is not None
        with psycopg.connect(settings.database_url, autocommit=True) as connection:
            yield connection


def _api_token_fields(token: ApiToken) -> Mapping[str, Any]:
    return {
        "id": str(token.id),
        "user_id": str(token.user_id),
        "teams": None if token.teams is None else [str(team) for team in token.teams],
        "permissions": [str(permission) for permission in token.permissions],
        "created_at": rfc3339(token.created_at),
        "expires_at": _optional(token.expires_at),
        "revoked_at": _optional(token.revoked_at),
        "last_used_at": _optional(token.last_used_at),
    }


def _scim_token_fields(token: ScimToken) -> Mapping[str, Any]:
    return {
        "id": str(token.id),
        "team_id": str(token.team_id),
        "name": token.name,
        "created_by": str(token.created_by),
        "last_used_at": _optional(token.last_used_at),
        "created_at": rfc3339(token.created_at),
        "updated_at": rfc3339(token.updated_at),
        "expires_at": _optional(token.expires_at),
        "revoked_at": _optional(token.revoked_at),
    }


def _optional(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def _show(found: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """One object as lines, several as a table; or JSON, for scripts."""
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    elif isinstance(found, Mapping):
        for name, value in found.items():
            print(f"{name}: {_text(value)}")
    else:
        table = Table(box=None, pad_edge=False)
        for name in found[0] if found else ():
            table.add_column(name, overflow="fold")
        for row in found:
            table.add_row(*(_text(value) for value in row.values()))
        Console(width=None if sys.stdout.isatty() else 200).print(table, markup=False)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
