"""The command `scim-ledger`.

Every command prints one clear line on an error, and JSON with --json.
"""

import re
import signal
import sys
from importlib.metadata import version
from typing import Annotated, Final

import msgspec
import psycopg
import structlog
from cyclopts import App, CycloptsError, Parameter

from api.cli import audit, backup, keys, repair
from api.cli import projections as cli_projections
from api.cli.api_token import verbs as api_tokens
from api.cli.console import (
    AsJson,
    DataDir,
    complain,
    printable,
    show,
)
from api.cli.ending import end_when_told
from api.cli.installation import config, recipes
from api.cli.leaks.find import find_leaked
from api.cli.leaks.pattern import pattern
from api.cli.leaks.report import report_leak
from api.cli.ledger import verify
from api.cli.ledger.archive import archive
from api.cli.recover import recover
from api.cli.scim_tokens import (
    change,
    handover,
    networks,
    policy,
    revocation,
    rotation,
    suspension,
)
from api.cli.scim_tokens import token as cli_token
from api.cli.serve import serve
from api.cli.usage_errors import AS_TYPED, usage_line
from api.deployment import (
    Keys,
    NotMigrated,
    Schema,
    UnsafeDatabase,
    empty_store,
    migrate_store,
    open_store,
    owner_as_given,
)
from api.doctor.examine import examine
from api.doctor.finding import Status, lines
from api.process import TooFewDescriptors, let_readers_leave, to_nobody
from api.server.listening import ListenError
from api.settings import Settings, SettingsError, load
from api.telemetry.logs import configure_logging, logging_given
from domain.errors import (
    ClockSkewed,
    InvalidValue,
    LedgerError,
    ProjectionStopped,
    StoreUnavailable,
)
from domain.eventstore.ledger_clock import skew_of
from domain.postgres.connection import open_connection
from domain.postgres.embedded.error import EmbeddedPostgresError
from domain.postgres.migrate import applied
from domain.postgres.trouble.unusable_reasons import is_lost, reason
from projections.projection import UnappliableEvent

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
    default_parameter=AS_TYPED,
    suppress_keyboard_interrupt=False,
)
for command in (
    rotation.rotate,
    rotation.complete_rotation,
    rotation.cancel_rotation,
    rotation.secrets,
    revocation.revoke,
    revocation.revoke_many,
    change.change,
    suspension.suspend,
    suspension.resume,
    handover.setup_link,
    handover.show_setup_link,
    handover.end_setup_link,
    networks.networks,
    networks.allow_networks,
    networks.allow_any_network,
    find_leaked,
    report_leak,
    pattern,
):
    cli_token.app.command(command)
for sub in (
    api_tokens.app,
    cli_token.app,
    audit.app,
    cli_projections.app,
    policy.app,
    repair.app,
    keys.app,
    config.app,
    recipes.app,
):
    app.command(sub)
app.command(verify.verify)
app.command(verify.seal)
app.command(archive)
app.command(backup.backup)
app.command(backup.restore)
app.command(recover)


UNSET: Final = Settings()


def main() -> None:
    """Entry point.

    An error is one line: exit code 2 for what cannot be meant, 1 for what is refused.
    """
    let_readers_leave()
    configure_logging(*logging_given())
    end_when_told()
    if sys.stdout is None:  # or a secret that is shown once would be shown to nobody
        complain("standard output is closed")
        sys.exit(1)
    sys.exit(_run())


def _run() -> int:
    try:
        result = app(result_action="return_value", exit_on_error=False, print_error=False)
        sys.stdout.flush()
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
            to_nobody(sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0


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
    migrate: Annotated[bool, Parameter(help="Apply pending migrations first.")] = False,
) -> int:
    """Run the service: on its embedded PostgreSQL, or on the server that DATABASE_URL names."""
    hosts = ",".join(host) if host else None
    settings = load(host=hosts, port=port, workers=workers, data_dir=data_dir)
    return serve(settings, schema=Schema.MIGRATED if migrate else Schema.REQUIRED)


@app.command
def migrate(*, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Apply pending migrations as the owner role (SCIM_LEDGER_OWNER_DATABASE_URL)."""
    settings = load(data_dir=data_dir)
    with empty_store(settings):
        numbers = migrate_store(settings)
        if settings.database_url is None:
            with open_store(settings, keys=Keys.RECORDED):  # an embedded ledger has its pepper, too
                pass
        version = _version(owner_as_given(settings))
    show({"applied": numbers, "version": version}, as_json=as_json)


def _version(conninfo: str) -> int:
    """The last migration that the database has, which may be of a later release that only added."""
    with open_connection(conninfo) as connection:
        return max(applied(connection))


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
        case OSError(strerror=str() as said):
            return said if error.filename is None else f"{error.filename}: {said}"
        case _ if is_lost(error) or type(error) is StoreUnavailable:
            said = reason(error)
            return f"{said}; then repeat it" if ": " in said else f"{said}: repeat it"
    skew = skew_of(error) if isinstance(error, psycopg.Error) else error
    if isinstance(skew, ClockSkewed):
        return f"{skew}: synchronise both clocks (NTP), then repeat it"
    said = next(iter(str(error).splitlines()), "")
    if isinstance(error, EXPECTED) and said:
        return said
    return (
        f"{type(error).__name__}: {said} (a fault of ours; SCIM_LEDGER_LOG_LEVEL=debug says where)"
    )
