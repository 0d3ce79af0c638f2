"""`scim-ledger serve`: open the store, start the workers and the projection process."""

import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from api.cli.api_token import first
from api.deployment import Keys, Schema, embedded, open_store
from api.doctor.before_start import NEEDS
from api.process import check_descriptor_limit
from api.server.heartbeat import Pulse
from api.server.listening import listen_on, url_of
from api.server.supervisor import Program, Supervisor
from api.server.worker_process import worker_argv
from api.settings import PLAIN, PREFIX, Settings, hosts
from api.telemetry.log_lines import log_without_waiting
from api.telemetry.logs import configure_logging
from api.telemetry.pages import new_pages
from domain.errors import EventsLost, HeadFileUnusable
from domain.eventstore.commit_turn import new_commit_turn
from domain.postgres.connection import open_connection
from projections.rebuild.shapes import prepare
from projections.registry import PROJECTIONS

_KEEP_EVERY_S: Final = 0.5
_KEPT_HERE: Final = {
    "owner_database_url",
    "data_dir",
    "first_token_file",
    "host",
    "port",
    "worker_number",
}
"""Settings that no child has a use for."""

logger = structlog.get_logger()


def serve(settings: Settings, *, schema: Schema) -> int:
    """Run the service until SIGTERM or SIGINT; returns the exit code."""
    log_without_waiting()
    configure_logging(settings.log_level, settings.log_format)
    try:
        return _serve(settings, schema)
    except (KeyboardInterrupt, SystemExit):  # told to end before the supervisor listened to signals
        return 0


def _serve(settings: Settings, schema: Schema) -> int:
    check_descriptor_limit()
    for need in NEEDS.values():
        need(settings)
    with (
        open_store(settings, keys=Keys.RECORDED, schema=schema) as ready,
        _kept_running(settings),
    ):
        listeners = listen_on(hosts(ready), ready.port)
        ledger = _prepare_views(ready)
        if settings.database_url is None:
            ledger = f"embedded in {embedded(settings).base_dir}"
        with suppress(EventsLost, HeadFileUnusable):  # which the workers answer with, and the log
            first.hand_over(ready, url=url_of(listeners[0]))
        supervisor = Supervisor(
            listeners=listeners, on_listening=partial(_tell_listening, listeners)
        )
        programs = _programs(ready, supervisor, listeners)
        print(f"scim-ledger serves the ledger {ledger}", file=sys.stderr, flush=True)
        return supervisor.run(programs)


def _tell_listening(listeners: Sequence[socket.socket]) -> None:
    for listener in listeners:
        print(f"scim-ledger listens on {url_of(listener)}", file=sys.stderr, flush=True)


def _programs(
    settings: Settings, supervisor: Supervisor, listeners: Sequence[socket.socket]
) -> list[Program]:
    """The projection process and the workers, and what they share."""
    wake_read, wake_write = os.pipe()
    turn_fd = new_commit_turn() if settings.workers > 1 else None
    metrics_fd = new_pages(settings.workers)
    _export(
        msgspec.structs.replace(
            settings, wake_fd=wake_write, turn_fd=turn_fd, metrics_fd=metrics_fd
        )
    )
    listen_fds = [listener.fileno() for listener in listeners]
    shared = (*listen_fds, wake_write, turn_fd, metrics_fd)
    inherited = tuple(fd for fd in shared if fd is not None)
    pulse, lifeline_fd = Pulse(), supervisor.lifeline_fd
    views = (
        *(sys.executable, "-m", "api.server.projector", "--wake-fd", str(wake_read)),
        *("--lifeline-fd", str(lifeline_fd), "--beat-fd", str(pulse.beat_fd)),
    )
    views_fds = tuple(fd for fd in (wake_read, metrics_fd) if fd is not None)
    # Reads that the workers still answer wait for their view.
    programs = [Program("projections", views, pass_fds=views_fds, pulse=pulse, is_last=True)]
    for number in range(1, settings.workers + 1):
        pulse = Pulse()
        argv = worker_argv(
            "api.app:create_app",
            listen_fds=listen_fds,
            lifeline_fd=lifeline_fd,
            beat_fd=pulse.beat_fd,
            worker_number=number,
        )
        programs.append(Program(f"worker-{number}", argv, pass_fds=inherited, pulse=pulse))
    return programs


def _prepare_views(settings: Settings) -> str:
    """Returns the database and the server that has it; nothing of the connection string else."""
    assert settings.database_url is not None
    with open_connection(settings.database_url) as connection:
        for projection in PROJECTIONS:
            prepare(connection, projection)
        return f"{connection.info.dbname} on {connection.info.host}:{connection.info.port}"


def _export(settings: Settings) -> None:
    """What the children are told, through the environment that they inherit:
    what they need and no more.

    Whoever reads a worker's memory or environment shall not find the owner of the ledger there.
    """
    told = {
        name: value
        for name, value in msgspec.structs.asdict(settings).items()
        if name not in _KEPT_HERE
    }
    names = {field.name: field.encode_name for field in msgspec.structs.fields(Settings)}
    for name in (name for name in list(os.environ) if name.startswith(PREFIX) or name in PLAIN):
        del os.environ[name]
    for name, value in told.items():
        if value is not None:
            os.environ[PREFIX + names[name]] = (
                str(value).lower() if isinstance(value, bool) else str(value)
            )


@contextmanager
def _kept_running(settings: Settings) -> Iterator[None]:
    """Start the embedded server again whenever it has died."""
    if settings.database_url is not None:
        yield
        return
    server, stopping = embedded(settings), threading.Event()

    def keep() -> None:
        while not stopping.wait(_KEEP_EVERY_S):
            try:
                if not server.is_running:
                    logger.error("embedded server died", data_dir=str(Path(server.base_dir)))
                    server.start()
            except Exception as error:  # noqa: BLE001 - a full disk, for instance: it is tried again
                said = next(iter(str(error).splitlines()), type(error).__name__)
                logger.error("embedded server did not start", reason=said)  # noqa: TRY400

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        keeper.join()
        server.stop()  # it counts as a user of its own once it has started the server
