"""The command `scim-ledger`. Every command prints one clear line on an error, and JSON with --json."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
import psycopg
from cyclopts import App, Parameter, Token

from api import cli_audit, cli_backup, cli_projections, cli_repair
from api.console import LIST_MAX, AsJson, DataDir, TokenId, caught_up, show
from api.deployment import Keys, NotMigrated, UnsafeDatabase, migrate_given, open_ledger, open_store
from api.doctor.examine import examine
from api.doctor.finding import Status, lines
from api.log import configure_logging
from api.serve import serve
from api.server.listening import ListenError
from api.server.places import TooFewDescriptors
from api.settings import Settings, SettingsError, load
from api.sources import operator_name
from domain.api_token import DEFAULT_LIFETIME, ApiToken, Permission
from domain.errors import InvalidValue, LedgerError, ProjectionStopped
from domain.eventstore.embedded import EmbeddedPostgresError
from domain.eventstore.migrate import available
from domain.ledger import NewApiToken, NewScimToken, Operator, TokenLedger
from domain.scim_token import NAME_MAX_LENGTH, ScimToken
from projections.head import HeadWatch
from projections.projection import UnappliableEvent
from projections.queries import TokenFilter, TokenQueries
from projections.scim_tokens import rfc3339

T = TypeVar("T")

LIFETIME_MAX_DAYS: Final = 36_500
EXPECTED: Final = (
    SettingsError,
    EmbeddedPostgresError,
    ListenError,
    TooFewDescriptors,
    LedgerError,
    NotMigrated,
    UnsafeDatabase,
    UnappliableEvent,
    psycopg.OperationalError,
)

app = App(name="scim-ledger", help="An event-sourced ledger of SCIM bearer tokens.")
api_token_app = App(name="api-token", help="API tokens: who may call the administrative API.")
token_app = App(name="token", help="SCIM tokens.")
for sub in (api_token_app, token_app, cli_audit.app, cli_projections.app, cli_repair.app):
    app.command(sub)
app.command(cli_projections.verify)
app.command(cli_backup.backup)
app.command(cli_backup.restore)
token_app.command(cli_audit.history)


UNSET: Final = Settings()


def _permissions(_: Any, tokens: Sequence[Token]) -> list[Permission]:
    """Permissions as the API names them; cyclopts would take the names of the enumeration alone."""
    try:
        return [Permission(token.value) for token in tokens]
    except ValueError:
        raise InvalidValue("--permission", f"must be one of {', '.join(Permission)}") from None


Teams = Annotated[  # negative: --empty-team would have meant every team
    list[UUID] | None, Parameter(negative="", help="A team that it may touch; repeat it for several.")
]
Permissions = Annotated[
    list[Permission] | None,
    Parameter(
        converter=_permissions, negative="", show_choices=False, help=f"One of {', '.join(Permission)}."
    ),
]


def main() -> None:
    """Entry point: expected errors are one line and exit code 1."""
    configure_logging(os.environ.get("SCIM_LEDGER_LOG_LEVEL", "info").strip())
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that what was begun is ended, as after Ctrl-C
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _end)
    try:
        result = app(result_action="return_value")
    except EXPECTED as error:
        print(f"scim-ledger: {_line(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    sys.exit(result if isinstance(result, int) else 0)


@app.command(name="serve")
def serve_command(
    *,
    host: Annotated[
        list[str] | None, Parameter(help=f"Address to listen on; may be repeated; {UNSET.host} unless set.")
    ] = None,
    port: Annotated[int | None, Parameter(help=f"Port to listen on; {UNSET.port} unless set.")] = None,
    workers: Annotated[int | None, Parameter(help=f"HTTP processes; {UNSET.workers} unless set.")] = None,
    data_dir: DataDir = None,
    migrate: Annotated[bool, Parameter(negative="", help="Apply pending migrations first.")] = False,
) -> int:
    """Run the service: on its embedded PostgreSQL, or on the server that DATABASE_URL names."""
    return serve(
        load(host=",".join(host) if host else None, port=port, workers=workers, data_dir=data_dir),
        migrates=migrate,
    )


@app.command
def migrate(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Apply pending migrations as the owner role (SCIM_LEDGER_OWNER_DATABASE_URL)."""
    settings = load(data_dir=data_dir)
    if settings.database_url is None:
        with open_store(settings, keys=Keys.RECORDED):
            numbers: list[int] = []
    else:
        numbers = migrate_given(settings)
    show({"applied": numbers, "version": max(available())}, as_json=as_json)


@api_token_app.command(name="create")
def api_token_create(
    *,
    user: Annotated[UUID, Parameter(help="The user who will act through it.")],
    team: Teams = None,
    permission: Permissions = None,
    expires_in_days: Annotated[
        int | None, Parameter(help=f"How long it is good, 1 to {LIFETIME_MAX_DAYS} days.")
    ] = DEFAULT_LIFETIME.days,
    never_expires: Annotated[bool, Parameter(negative="", help="Good until it is revoked.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create an API token for a user; its secret is printed once.

    Without --team it may touch every team; without --permission it has every permission, or with --team every
    one but those of the whole deployment: projections:manage and api_tokens:manage.
    """
    if expires_in_days is not None and not 1 <= expires_in_days <= LIFETIME_MAX_DAYS:
        raise InvalidValue("--expires-in-days", f"must be 1 to {LIFETIME_MAX_DAYS}")
    lifetime = None if never_expires or expires_in_days is None else timedelta(days=expires_in_days)
    ask = NewApiToken(
        user, tuple(team) if team else None, tuple(permission) if permission else None, lifetime
    )
    token, secret = _with_ledger(data_dir, lambda ledger: ledger.create_api_token(ask, by=_operator()))
    show({**_api_token_fields(token), "token": secret.reveal()}, as_json=as_json)


@api_token_app.command(name="list")
def api_token_list(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Every API token, revoked ones included."""
    tokens = _with_ledger(data_dir, lambda ledger: ledger.api_tokens())
    show([_api_token_fields(token) for token in tokens], as_json=as_json)


@api_token_app.command(name="revoke")
def api_token_revoke(token_id: TokenId, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Revoke an API token, from now on and everywhere."""
    _with_ledger(data_dir, lambda ledger: ledger.revoke_api_token(token_id, by=_operator()))
    show({"id": str(token_id)}, as_json=as_json)


@token_app.command(name="create")
def token_create(
    *,
    team: Annotated[UUID, Parameter(help="The team that will own it.")],
    name: Annotated[str, Parameter(help=f"What it is for, 1 to {NAME_MAX_LENGTH} characters.")],
    user: Annotated[UUID, Parameter(help="The user on whose behalf it is made.")],
    expires_at: Annotated[
        datetime | None, Parameter(help="Its end, with a time zone; without it, none.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a SCIM token for a team on behalf of a user; its secret is printed once."""
    if expires_at is not None and expires_at.tzinfo is None:
        raise InvalidValue("--expires-at", "needs a time zone, such as a Z at the end")
    ask = NewScimToken(team, name, expires_at)
    by = _operator(user)
    token, secret = _with_ledger(data_dir, lambda ledger: ledger.create_scim_token(ask, by=by))
    show({**_scim_token_fields(token), "token": secret.reveal()}, as_json=as_json)


@token_app.command(name="list")
def token_list(
    *,
    team: Annotated[UUID | None, Parameter(help="Only this team's.")] = None,
    status: Annotated[str, Parameter(help="active, revoked, expired or all.")] = "active",
    limit: Annotated[int, Parameter(help=f"How many at most, 1 to {LIST_MAX}.")] = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """The newest SCIM tokens."""
    if status not in {"active", "revoked", "expired", "all"}:
        raise InvalidValue("--status", "must be active, revoked, expired or all")
    if not 1 <= limit <= LIST_MAX:
        raise InvalidValue("--limit", f"must be 1 to {LIST_MAX}")

    async def ask(ledger: TokenLedger) -> Sequence[str]:
        narrow = TokenFilter(None if team is None else (team,), status=status)
        at, head = await ledger.time(), await HeadWatch(ledger.reads).now()
        page = await TokenQueries(ledger.reads).page(narrow, after=None, limit=limit, at=at, head=head)
        return page.documents

    with caught_up(data_dir) as settings:
        documents = asyncio.run(_asked(settings, ask))
    show([json.loads(document) for document in documents], as_json=as_json)


@token_app.command(name="show")
def token_show(token_id: TokenId, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """One SCIM token, as its own events tell it."""

    async def ask(ledger: TokenLedger) -> ScimToken:
        found = ledger.replay(token_id)
        if not isinstance(found, ScimToken):
            raise InvalidValue("id", "is not a SCIM token")
        return found

    show(_scim_token_fields(_with_ledger(data_dir, ask)), as_json=as_json)


@token_app.command(name="revoke")
def token_revoke(
    token_id: TokenId,
    *,
    user: Annotated[UUID | None, Parameter(help="The user on whose behalf; the trail names them.")] = None,
    reason: Annotated[str | None, Parameter(help="Why, for the trail.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a SCIM token, from now on and everywhere."""
    by = _operator(user)
    _with_ledger(data_dir, lambda ledger: ledger.revoke_scim_token(token_id, by=by, reason=reason))
    show({"id": str(token_id)}, as_json=as_json)


@app.command
def doctor(*, data_dir: DataDir = None, as_json: AsJson = False) -> int:
    """Say what is wrong with the set-up, and how to mend it. Exit code 1 when something fails.

    Each finding is ok, a warning, or a failure.
    """
    findings = examine(lambda: load(data_dir=data_dir))
    if as_json:
        show([msgspec.structs.asdict(finding) for finding in findings], as_json=True)
    else:
        print(*lines(findings), sep="\n")
    return 1 if any(finding.status is Status.FAIL for finding in findings) else 0


def _with_ledger(data_dir: Path | None, ask: Callable[[TokenLedger], Awaitable[T]]) -> T:
    """Run one command on the ledger, beside a running service or on a server started for it."""

    with open_store(load(data_dir=data_dir)) as settings:
        return asyncio.run(_asked(settings, ask))


async def _asked(settings: Settings, ask: Callable[[TokenLedger], Awaitable[T]]) -> T:
    async with open_ledger(settings) as ledger:
        return await ask(ledger)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def _operator(user_id: UUID | None = None) -> Operator:
    """Whoever gives the command, on behalf of a user if one is named."""
    return Operator(user_id, operator_name())


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


def _line(error: Exception) -> str:
    if isinstance(error, ProjectionStopped):
        return f"{error}; it has stopped: scim-ledger projections list says at which event and why"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
