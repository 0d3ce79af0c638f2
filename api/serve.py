"""`scim-ledger serve`: the store, the first API token, then workers and the projection process."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
import psycopg
import structlog

from api.deployment import Keys, embedded, open_store
from api.server.accepting import new_counts
from api.server.supervisor import Program, Supervisor, listen
from api.server.worker import worker_argv
from api.settings import PREFIX, Settings, pepper_keys
from api.sources import SOURCES
from domain.api_token import DEFAULT_LIFETIME, ApiToken, Permission
from domain.eventstore.embedded import EmbeddedPostgresError
from domain.eventstore.turn import new_turn
from domain.ledger import NewApiToken, TokenLedger
from domain.secret import Pepper, Secret
from projections.rebuild import prepare
from projections.registry import PROJECTIONS

_KEEP_EVERY_S: Final = 0.5

logger = structlog.get_logger()


def serve(settings: Settings, *, migrates: bool) -> int:
    """Run the service until SIGTERM or SIGINT; returns the exit code."""
    with open_store(settings, migrates=migrates, keys=Keys.RECORDED) as ready, _kept_running(settings):
        listener = listen(ready.host, ready.port)
        host, port = listener.getsockname()[:2]
        _prepare_views(ready)
        first = asyncio.run(_first_api_token(ready))
        if first is not None:
            _welcome(*first, url=f"http://{host}:{port}")
        wake_read, wake_write = os.pipe()
        turn_fd = new_turn() if ready.workers > 1 else None
        counts_fd = new_counts(ready.workers) if ready.workers > 1 else None
        _export(msgspec.structs.replace(ready, wake_fd=wake_write, turn_fd=turn_fd))
        supervisor = Supervisor()
        lifeline_fd, listen_fd = supervisor.lifeline_fd, listener.fileno()
        views = ("-m", "api.projector", "--wake-fd", str(wake_read), "--lifeline-fd", str(lifeline_fd))
        programs = [Program("projections", (sys.executable, *views), pass_fds=(wake_read,))]
        inherited = tuple(fd for fd in (listen_fd, wake_write, turn_fd, counts_fd) if fd is not None)
        for number in range(1, ready.workers + 1):
            argv = worker_argv(
                "api.app:create_app",
                listen_fd=listen_fd,
                lifeline_fd=lifeline_fd,
                counts_fd=counts_fd,
                worker_number=number,
            )
            programs.append(Program(f"worker-{number}", argv, pass_fds=inherited))
        print(f"scim-ledger listens on http://{host}:{port}", file=sys.stderr, flush=True)
        return supervisor.run(programs)


def open_ledger(settings: Settings) -> TokenLedger:
    """A ledger for one command of this process."""
    assert settings.database_url is not None
    return TokenLedger(
        settings.database_url,
        pepper=Pepper(pepper_keys(settings)),
        sources=SOURCES,
        is_live=settings.environment == "live",
    )


def _prepare_views(settings: Settings) -> None:
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        for projection in PROJECTIONS:
            prepare(connection, projection)


async def _first_api_token(settings: Settings) -> tuple[ApiToken, Secret] | None:
    """An API token for everything, on an empty ledger only."""
    async with open_ledger(settings) as ledger:
        async with ledger.reads.connection() as connection:
            row = await (await connection.execute("SELECT EXISTS (SELECT FROM ledger.events)")).fetchone()
        if row == (True,):
            return None
        ask = NewApiToken(
            user_id=uuid4(),
            teams=None,
            permissions=tuple(Permission),
            lifetime=timedelta(DEFAULT_LIFETIME.days),
        )
        return await ledger.create_api_token(ask)


def _welcome(api_token: ApiToken, secret: Secret, *, url: str) -> None:
    print(
        f"""
This ledger is new. Its first API token is shown once, now, and cannot be retrieved later:

  {secret.reveal()}

It acts for user {api_token.user_id} and expires in {DEFAULT_LIFETIME.days} days. Create a SCIM token with it:

  curl -X POST {url}/scim-token -H 'Authorization: Bearer {secret.reveal()}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"team_id": "05daecaf-4365-42e8-8370-8127de5dd717", "name": "Okta provisioning"}}'
""",
        flush=True,
    )


def _export(settings: Settings) -> None:
    """What the children are told, through the environment that they inherit."""
    names = {field.name: field.encode_name for field in msgspec.structs.fields(Settings)}
    for name, value in msgspec.structs.asdict(settings).items():
        if value is not None and not isinstance(value, bool):
            os.environ[PREFIX + names[name]] = str(value)
    os.environ.pop("DATABASE_URL", None)


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
            except EmbeddedPostgresError as error:
                logger.error("embedded server did not start", reason=str(error).splitlines()[0])  # noqa: TRY400

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        keeper.join()
