"""The command `scim-ledger`.

Every command prints one clear line on an error, and JSON with --json.
"""

import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.metadata import version
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
import psycopg
import structlog
from cyclopts import App, CycloptsError, Parameter, Token

from api.cli import audit, backup, repair
from api.cli import projections as cli_projections
from api.cli.console import (
    AsJson,
    DataDir,
    TokenId,
    complain,
    instant,
    operator,
    printable,
    show,
    with_ledger,
)
from api.cli.leaks.find import find_leaked
from api.cli.leaks.pattern import pattern
from api.cli.scim_tokens import policy, revocation
from api.cli.scim_tokens import token as cli_token
from api.cli.serve import serve
from api.cli.usage_errors import usage_line
from api.deployment import Keys, NotMigrated, UnsafeDatabase, migrate_given, open_store
from api.doctor.examine import examine
from api.doctor.finding import Status, lines
from api.json_logging import configure_logging
from api.server.connection_limits import TooFewDescriptors
from api.server.listening import ListenError
from api.settings import Settings, SettingsError, load
from domain.api_token import DEFAULT_LIFETIME, ApiToken, Permission
from domain.commands import NewApiToken
from domain.errors import InvalidValue, LedgerError, ProjectionStopped
from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.migrate import available
from projections.described import rfc3339
from projections.projection import UnappliableEvent

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
    psycopg.Error,
)

app = App(
    name="scim-ledger",
    help="An event-sourced ledger of SCIM bearer tokens.",
    version=version("scim-ledger"),
    suppress_keyboard_interrupt=False,
)
api_token_app = App(name="api-token", help="API tokens: who may call the administrative API.")
for command in (revocation.revoke, find_leaked, pattern):
    cli_token.app.command(command)
for sub in (api_token_app, cli_token.app, audit.app, cli_projections.app, policy.app, repair.app):
    app.command(sub)
app.command(cli_projections.verify)
app.command(backup.backup)
app.command(backup.restore)


UNSET: Final = Settings()


def _permissions(_: Any, tokens: Sequence[Token]) -> list[Permission]:
    """Permissions as the API names them; cyclopts would take the names of the enumeration alone."""
    try:
        return [Permission(token.value) for token in tokens]
    except ValueError:
        raise InvalidValue("--permission", f"must be one of {', '.join(Permission)}") from None


Teams = Annotated[  # negative: --empty-team would have meant every team
    list[UUID] | None,
    Parameter(negative="", help="A team that it may touch; repeat it for several."),
]
Permissions = Annotated[
    list[Permission] | None,
    Parameter(
        converter=_permissions,
        negative="",
        show_choices=False,
        help=f"One of {', '.join(Permission)}.",
    ),
]


def main() -> None:
    """Entry point.

    An error is one line: exit code 2 for what cannot be meant, 1 for what is refused.
    """
    configure_logging(os.environ.get("SCIM_LEDGER_LOG_LEVEL", "info").strip())
    for number in (signal.SIGTERM, signal.SIGHUP):
        # so that what was begun is ended, as after Ctrl-C
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _end)
    if sys.stdout is None:  # or a secret that is shown once would be shown to nobody
        complain("standard output is closed")
        sys.exit(1)
    sys.exit(_run())


def _run() -> int:
    try:
        result = app(result_action="return_value", exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has had enough, as `head` has
        _give_up_output()
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except CycloptsError as error:
        complain(usage_line(error))
        return 2
    except InvalidValue as error:
        complain(_as_typed(error))
        return 2 if error.pointer else 1
    except Exception as error:  # noqa: BLE001 - nobody at a terminal is helped by a traceback
        complain(_line(error))
        structlog.get_logger().debug("command failed", exc_info=True)
        try:
            sys.stdout.flush()
        except OSError:
            _give_up_output()
        return 1
    return result if isinstance(result, int) else 0


def _give_up_output() -> None:
    """What is still buffered goes nowhere; the interpreter would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command(name="serve")
def serve_command(
    *,
    host: Annotated[
        list[str] | None,
        Parameter(help=f"Address to listen on; may be repeated; {UNSET.host} unless set."),
    ] = None,
    port: Annotated[
        int | None, Parameter(help=f"Port to listen on; {UNSET.port} unless set.")
    ] = None,
    workers: Annotated[
        int | None, Parameter(help=f"HTTP processes; {UNSET.workers} unless set.")
    ] = None,
    data_dir: DataDir = None,
    migrate: Annotated[
        bool, Parameter(negative="", help="Apply pending migrations first.")
    ] = False,
) -> int:
    """Run the service: on its embedded PostgreSQL, or on the server that DATABASE_URL names."""
    hosts = ",".join(host) if host else None
    settings = load(host=hosts, port=port, workers=workers, data_dir=data_dir)
    return serve(settings, migrates=migrate)


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
    never_expires: Annotated[
        bool, Parameter(negative="", help="Good until it is revoked.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create an API token for a user; its secret is printed once.

    Without --team it may touch every team; without --permission it has every permission, or with
    --team every one but those of the whole deployment: projections:manage and api_tokens:manage.
    """
    if expires_in_days is not None and not 1 <= expires_in_days <= LIFETIME_MAX_DAYS:
        raise InvalidValue("--expires-in-days", f"must be 1 to {LIFETIME_MAX_DAYS}")
    lifetime = None if never_expires or expires_in_days is None else timedelta(days=expires_in_days)
    ask = NewApiToken(
        user, tuple(team) if team else None, tuple(permission) if permission else None, lifetime
    )
    token, secret = with_ledger(
        data_dir, lambda ledger: ledger.create_api_token(ask, by=operator())
    )
    show({**_api_token_fields(token), "token": secret.reveal()}, as_json=as_json)


@api_token_app.command(name="list")
def api_token_list(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Every API token, revoked ones included."""
    tokens = with_ledger(data_dir, lambda ledger: ledger.api_tokens())
    show([_api_token_fields(token) for token in tokens], as_json=as_json)


@api_token_app.command(name="revoke")
def api_token_revoke(
    token_id: TokenId, *, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Revoke an API token, from now on and everywhere."""
    with_ledger(data_dir, lambda ledger: ledger.revoke_api_token(token_id, by=operator()))
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
        for line in lines(findings):
            print(printable(line))
    return 1 if any(finding.status is Status.FAIL for finding in findings) else 0


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def _api_token_fields(token: ApiToken) -> Mapping[str, Any]:
    return {
        "id": str(token.id),
        "user_id": str(token.user_id),
        "teams": None if token.teams is None else [str(team) for team in token.teams],
        "permissions": [str(permission) for permission in token.permissions],
        "created_at": rfc3339(token.created_at),
        "expires_at": instant(token.expires_at),
        "revoked_at": instant(token.revoked_at),
        "last_used_at": instant(token.last_used_at),
    }


def _as_typed(error: InvalidValue) -> str:
    """By the flag, where the domain names a field of the command;
    without a name, it is none of the flags.
    """
    name = re.sub("^/", "--", error.pointer).replace("_", "-")
    return f"{name}: {error.detail}" if name else error.detail


def _line(error: Exception) -> str:
    match error:
        case ProjectionStopped():
            return (
                f"{error}; it has stopped: scim-ledger projections list says at which event and why"
            )
        case OSError(strerror=str() as reason):
            return reason if error.filename is None else f"{error.filename}: {reason}"
    said = next(iter(str(error).splitlines()), "")
    if isinstance(error, EXPECTED) and said:
        return said
    return (
        f"{type(error).__name__}: {said} (a fault of ours; SCIM_LEDGER_LOG_LEVEL=debug says where)"
    )
