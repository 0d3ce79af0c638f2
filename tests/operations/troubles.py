"""Troubles of a service, each caused for real; what `/metrics` tells before it and in it."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import httpx
import psycopg
from litestar.testing import TestClient

from api.app import build
from api.edge import Edge
from api.server.protocol import StrictHttpProtocol
from api.settings import Settings
from api.telemetry.pages import new_pages, warnings_since
from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import ClockAndIds, NewScimToken
from domain.errors import NotFound
from domain.eventstore.known_head.head_file import HeadFile
from domain.eventstore.peppers.fingerprints import record_pepper
from domain.ledger import TokenLedger
from domain.losses.declared import KnownEvent
from domain.scim_token.events import Presentation
from domain.secret import SecretKind, mint
from projections.warnings.teller import Teller
from tests.api.server.serving import connect, serving
from tests.conftest import CLOCK_AND_IDS, PEPPER, Database, catch_up, now, open_ledger
from tests.domain.eventstore.hand_clock import HandClock, believing_any_clock
from tests.domain.scenario import created
from tests.projections.given_events import record
from tests.service import PEPPER_KEY, RunningService, running_service, until

DOOR: Final = "/gateway/forward"
APPEND_LOCK: Final = "SELECT pg_advisory_xact_lock(7239075814)"
DAY: Final = timedelta(days=1)


class Told(NamedTuple):
    """What was answered before and during; None for nothing."""

    before: str | None
    during: str | None


@dataclass(frozen=True)
class Place:
    """Where troubles are made: a ledger of their own."""

    database: Database

    def settings(self, **more: object) -> Settings:
        """Of a process without views' process; metrics are for everybody."""
        given = {"database_url": self.database.app, "pepper": PEPPER_KEY, "public_metrics": True}
        return Settings(**(given | more))  # type: ignore[arg-type]

    def command(self, ask: Callable[[TokenLedger], object]) -> None:
        """One command or a few."""

        async def run() -> None:
            async with open_ledger(self.database.app) as ledger:
                await ask(ledger)  # type: ignore[misc]

        asyncio.run(run())


def scrape(client: TestClient[Edge] | httpx.Client) -> str:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return answer.text


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def unknown() -> str:
    return mint(SecretKind.SCIM_LIVE, os.urandom(32)).reveal()


@contextmanager
def held(database: Database, statement: str, work: Callable[[], object]) -> Iterator[None]:
    """Somebody else's transaction for the block, and work that begins in it and ends after it."""
    thread = threading.Thread(target=work)
    with psycopg.connect(database.owner) as other:
        other.execute(statement.encode())
        thread.start()
        yield
        other.rollback()
    thread.join()


# Of a process alone.


def database_away(place: Place) -> Told:
    settings = place.settings(database_url="postgresql://127.0.0.1:1/none")
    with TestClient(build(settings)) as client:
        before = scrape(client)
        for _ in range(20):
            assert client.get(DOOR, headers=bearer(unknown())).status_code == 503
        return Told(before, scrape(client))


def read_only(place: Place) -> Told:
    with psycopg.connect(place.database.owner, autocommit=True) as owner:
        name = owner.info.dbname
        set_to = f'ALTER DATABASE "{name}" SET default_transaction_read_only = '
        owner.execute(f"{set_to}on".encode())
        try:
            with TestClient(build(place.settings())) as client:
                return Told(None, scrape(client))
        finally:
            owner.execute(b"SET default_transaction_read_only = off")
            owner.execute(f"{set_to}off".encode())


def pepper_missing(place: Place) -> Told:
    with psycopg.connect(place.database.owner, autocommit=True) as owner:
        record_pepper(owner, PEPPER)
    with TestClient(build(place.settings(pepper="another" * 6))) as client:
        return Told(None, scrape(client))


def events_lost(place: Place) -> Told:
    with TemporaryDirectory() as directory:
        path = Path(directory, "head.json")
        HeadFile(path).write(KnownEvent(9, UUID(int=1), 1, UUID(int=2)))
        with TestClient(build(place.settings(head_file=path))) as client:
            return Told(None, scrape(client))


def head_file_not_kept(place: Place) -> Told:
    with TemporaryDirectory() as directory:
        path = Path(directory, "head.json")
        path.write_text("another file's content")
        with TestClient(build(place.settings(head_file=path))) as client:
            return Told(None, scrape(client))


def feed_beyond(place: Place) -> Told:
    with _service(place) as service:
        collector = service.api_token(Permission.AUDIT_READ)
        before = scrape(service.client)
        for _ in range(30):  # a collector asks again and again
            answer = service.client.get("/events", auth=collector, params={"after": 2**40})
            assert answer.status_code == 400
        return Told(before, scrape(service.client))


def clock_wrong(place: Place) -> Told:
    skewed = ClockAndIds(
        clock=lambda: now() + timedelta(hours=1),
        new_id=CLOCK_AND_IDS.new_id,
        entropy=CLOCK_AND_IDS.entropy,
    )
    with TestClient(build(place.settings(), clock_and_ids=skewed)) as client:
        return Told(None, scrape(client))


def as_it_is(place: Place) -> Told:
    """What the ledger holds is the trouble."""
    with TestClient(build(place.settings())) as client:
        return Told(None, scrape(client))


def view_lags(place: Place) -> Told:
    record(place.database, created(now() - timedelta(minutes=5)))
    return as_it_is(place)


def view_stopped(place: Place) -> Told:
    with psycopg.connect(place.database.owner, autocommit=True) as owner:
        owner.execute(
            "UPDATE ledger.projection_positions SET stopped_at = 1, error = 'KeyError on it' "
            "WHERE name = 'usage'"
        )
    return as_it_is(place)


def warnings_not_told(place: Place) -> Told:
    record(place.database, created(now() - DAY, expires_at=now() + 20 * DAY))
    catch_up(place.database)
    return as_it_is(place)


def warnings_fail(place: Place) -> Told:
    """For hours nothing can be decided about one of the tokens that a walk finds."""
    token_id = record(place.database, created(now() - 100 * DAY))
    catch_up(place.database)
    with psycopg.connect(place.database.owner) as owner:
        owner.execute("DELETE FROM ledger.aggregates WHERE originator_id = %s", [token_id])
    fd, clock = new_pages(1), HandClock(now() - timedelta(hours=4))
    assert fd is not None

    async def fail() -> None:
        since, conninfo = warnings_since(fd), believing_any_clock(place.database)
        async with Teller(conninfo, clock.clock_and_ids, since=since) as teller:
            teller.rounds.lead()
            with suppress(NotFound):
                await teller.round()
            clock.now = now()
            with suppress(NotFound):
                await teller.round()

    asyncio.run(fail())
    try:
        with TestClient(build(place.settings(metrics_fd=fd))) as client:
            return Told(None, scrape(client))
    finally:
        os.close(fd)


def tokens_expire(place: Place) -> Told:
    record(place.database, created(now() - timedelta(seconds=1), expires_at=now() + 6 * DAY))
    catch_up(place.database)
    return as_it_is(place)


def old_secret_used(place: Place) -> Told:
    async def rotate(ledger: TokenLedger) -> None:
        anybody = Operator(uuid4())
        token, old = await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=anybody)
        await ledger.rotate_scim_token(token.id, overlap=timedelta(hours=12), by=anybody)
        await ledger.authenticate(old, Presentation("scim"))

    place.command(rotate)
    catch_up(place.database)
    return as_it_is(place)


def unknown_tokens(place: Place) -> Told:
    with TestClient(build(place.settings())) as client:
        before = scrape(client)
        for _ in range(90):
            assert client.get(DOOR, headers=bearer(unknown())).status_code == 401
        return Told(before, scrape(client))


def ended_tokens(place: Place) -> Told:
    return _refused(place, lambda ledger, id_, by: ledger.revoke_scim_token(id_, by=by))


def other_networks(place: Place) -> Told:
    theirs = ["192.0.2.0/24"]
    return _refused(place, lambda ledger, id_, by: ledger.allow_networks(id_, theirs, by=by))


def _refused(
    place: Place, command: Callable[[TokenLedger, UUID, Operator], Awaitable[object]]
) -> Told:
    """A token is presented after a command that keeps us out."""
    secrets: list[str] = []

    async def keep_out(ledger: TokenLedger) -> None:
        anybody = Operator(uuid4())
        token, secret = await ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=anybody)
        await command(ledger, token.id, anybody)
        secrets.append(secret.reveal())

    place.command(keep_out)
    with TestClient(build(place.settings())) as client:
        before = scrape(client)
        for _ in range(3):
            assert client.get(DOOR, headers=bearer(secrets[0])).status_code == 401
        return Told(before, scrape(client))


def limits_refuse(place: Place) -> Told:
    secret = unknown()
    with TestClient(build(place.settings(rate_per_token=1.0))) as client:
        before = scrape(client)
        answers = [client.get(DOOR, headers=bearer(secret)).status_code for _ in range(60)]
        assert answers.count(429) > 40
        return Told(before, scrape(client))


class Small(StrictHttpProtocol):
    max_connections = 16


def connections_full(place: Place) -> Told:
    with serving(Small, build(place.settings()), lifespan="on") as address:
        opened = [connect(address).__enter__() for _ in range(13)]
        try:
            with httpx.Client(base_url=f"http://{address[0]}:{address[1]}") as client:
                return Told(None, scrape(client))
        finally:
            for each in opened:
                each.close()


# Of a whole service.


def down(place: Place) -> Told:
    with _service(place) as service:
        before = scrape(service.client)
        url = service.url
    try:
        httpx.get(f"{url}/metrics", trust_env=False)
    except httpx.TransportError:
        return Told(before, None)
    raise AssertionError("it is still there")


@contextmanager
def _service(place: Place) -> Iterator[RunningService]:
    settings = {
        "SCIM_LEDGER_PUBLIC_METRICS": "true",
        "SCIM_LEDGER_RATE_PER_TOKEN": "0",
        "SCIM_LEDGER_RATE_PER_SOURCE": "0",
    }
    with running_service(place.database, environment=settings) as service:
        yield service


def _token(service: RunningService) -> str:
    anybody = Operator(uuid4())
    _, secret = service.command(
        lambda ledger: ledger.create_scim_token(NewScimToken(uuid4(), "Okta"), by=anybody)
    )
    return secret.reveal()


def _at_once(service: RunningService, asks: int, path: str, headers: dict[str, str]) -> list[int]:
    """Ask on as many connections, and wait for all of the answers."""

    async def ask_all() -> list[int]:
        limits = httpx.Limits(max_connections=asks)
        async with httpx.AsyncClient(
            base_url=service.url, limits=limits, timeout=10, trust_env=False
        ) as client:
            answers = await asyncio.gather(
                *(client.get(path, headers=headers) for _ in range(asks))
            )
            return [answer.status_code for answer in answers]

    return asyncio.run(ask_all())


def lock_waits(place: Place) -> Told:
    """The doors answer late, for somebody holds the append lock for a while."""
    with _service(place) as service:
        secret = _token(service)
        before = scrape(service.client)
        for _ in range(3):
            with held(
                place.database, APPEND_LOCK, lambda: _at_once(service, 3, DOOR, bearer(secret))
            ):
                time.sleep(0.33)
        return Told(before, scrape(service.client))


def queue_grows(place: Place) -> Told:
    with _service(place) as service:
        secret = _token(service)
        before = scrape(service.client)
        found: list[str] = []

        def has_grown() -> bool:
            found.append(scrape(service.client))
            return _queued(found[-1]) > 200

        for _ in range(5):  # a busy machine may send them too slowly for one holding of the lock
            with held(
                place.database, APPEND_LOCK, lambda: _at_once(service, 400, DOOR, bearer(secret))
            ):
                _wait_for(has_grown)
            if _queued(found[-1]) > 200:
                break
        return Told(before, found[-1])


def _queued(text: str) -> float:
    line = 'scim_ledger_append_queue{lane="uses"} '
    return float(text.partition(line)[2].partition("\n")[0])


def _wait_for(is_done: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 1.5
    while not is_done() and time.monotonic() < ends_at:
        time.sleep(0.01)


def reads_fail(place: Place) -> Told:
    """A view has stopped before the newest event."""
    with _service(place) as service:
        admin = service.api_token()
        with psycopg.connect(place.database.owner, autocommit=True) as owner:
            owner.execute(
                "UPDATE ledger.projection_positions SET stopped_at = position + 1, "
                "error = 'KeyError on it' WHERE name = 'scim_tokens'"
            )
        _token(service)
        before = scrape(service.client)
        answers = _at_once(service, 12, "/scim-token", bearer(admin.secret))
        assert set(answers) == {503}
        return Told(before, scrape(service.client))


def reads_wait(place: Place) -> Told:
    """Somebody locks a view's table for a while."""
    with _service(place) as service:
        admin = service.api_token()
        (table,) = service.query(
            "SELECT format('views.scim_tokens_v%%s', version) FROM ledger.projection_positions "
            "WHERE name = 'scim_tokens' AND role = 'live'"
        )[0]
        before = scrape(service.client)
        for _ in range(2):
            with held(
                place.database,
                f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
                lambda: _at_once(service, 12, "/scim-token", bearer(admin.secret)),
            ):
                time.sleep(0.7)
        return Told(before, scrape(service.client))


def worker_dies(place: Place) -> Told:
    with _service(place) as service:
        before = scrape(service.client)
        os.kill(service.program_pids()["worker-1"], signal.SIGKILL)
        found: list[str] = []

        def is_back() -> bool:
            try:
                found.append(scrape(service.client))
            except httpx.TransportError:
                return False
            return "scim_ledger_worker_starts_total 2\n" in found[-1]

        until(is_back, what="another worker")
        return Told(before, found[-1])


def calm(place: Place) -> Told:
    """No trouble: a service in use."""
    with _service(place) as service:
        secret = _token(service)
        before = scrape(service.client)
        for _ in range(20):
            assert service.client.get(DOOR, headers=bearer(secret)).status_code == 200
        return Told(before, scrape(service.client))


TROUBLES: Final[dict[str, Callable[[Place], Told]]] = {
    "ScimLedgerDown": down,
    "ScimLedgerNotReady": database_away,
    "ScimLedgerDatabaseDown": database_away,
    "ScimLedgerDatabaseReadOnly": read_only,
    "ScimLedgerPepperMissing": pepper_missing,
    "ScimLedgerEventsLost": events_lost,
    "ScimLedgerHeadFileNotKept": head_file_not_kept,
    "ScimLedgerFeedBeyond": feed_beyond,
    "ScimLedgerClockWrong": clock_wrong,
    "ScimLedgerDoorsFail": database_away,
    "ScimLedgerErrors": reads_fail,
    "ScimLedgerDoorsSlow": lock_waits,
    "ScimLedgerLimitsRefuse": limits_refuse,
    "ScimLedgerConnectionsFull": connections_full,
    "ScimLedgerQueueGrows": queue_grows,
    "ScimLedgerLockWait": lock_waits,
    "ScimLedgerReadsTimeOut": reads_fail,
    "ScimLedgerReadsWait": reads_wait,
    "ScimLedgerViewLags": view_lags,
    "ScimLedgerViewStopped": view_stopped,
    "ScimLedgerWarningsNotTold": warnings_not_told,
    "ScimLedgerWarningsFail": warnings_fail,
    "ScimLedgerWorkersDie": worker_dies,
    "ScimLedgerTokensExpire": tokens_expire,
    "ScimLedgerOldSecretUsed": old_secret_used,
    "ScimLedgerUnknownTokens": unknown_tokens,
    "ScimLedgerEndedTokens": ended_tokens,
    "ScimLedgerOtherNetworks": other_networks,
}
"""What makes each alert fire."""
