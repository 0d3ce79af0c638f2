"""A certificate that connections rely on is told of weeks before its end."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Final

import pytest

from api.doctor import certificates
from api.doctor.finding import Finding, Status
from api.settings import Settings
from tests.api.doctor.certificates.tls import LONG, signed, tls_before, trusted
from tests.api.doctor.test_doctor import found
from tests.api.doors.scim.wire.test_upstream_tls import server_context
from tests.conftest import Database
from tests.stopwatch import Stopwatch

WHAT: Final = "database certificates"
FAILS, WARNS, IS_OK = Status.FAIL, Status.WARN, Status.OK


def of_database(conninfo: str, **settings: str) -> Finding | None:
    return next(certificates.of_database(conninfo, Settings(**settings)), None)  # type: ignore[arg-type]


def of_https(**settings: str) -> Finding | None:
    return next(certificates.of_https(Settings(**settings)), None)  # type: ignore[arg-type]


def day(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


@pytest.mark.parametrize("is_direct", [False, True])
def test_a_servers_certificate_that_ends_soon_is_told_before_it_does(
    database: Database, tmp_path: Path, *, is_direct: bool
) -> None:
    """The whole doctor, connected over TLS as the service would be."""
    more = {"sslnegotiation": "direct"} if is_direct else {}
    seen = []
    for days in (60.5, 20.5):
        pem = signed(tmp_path / f"{days}.pem", for_days=days)
        with tls_before(database, pem, is_direct=is_direct) as port:
            conninfo = trusted(database, port, root=pem, **more)
            findings = found(database, database_url=conninfo)
        assert findings["tls"].found == "the connection is encrypted"
        seen.append(findings[WHAT])
    sound, warned = seen
    assert (sound.status, sound.found) == (IS_OK, "none ends soon")
    assert warned.status is WARNS
    assert warned.found == (
        f"the certificate of the database server 127.0.0.1:{port} ends on {day(20.5)}, in 20 "
        f"day(s); the last of the authorities in {pem} ends on {day(20.5)}, in 20 day(s)"
    )
    assert warned.remedy == (
        "renew it on the server, and let that read it (pg_ctl reload); add the authority that "
        "follows it to the sslrootcert of DATABASE_URL"
    )


def test_one_of_several_hosts_that_is_let_in_no_more_fails(
    database: Database, tmp_path: Path
) -> None:
    """A switch to it would be the end of the service, which goes on with the other until then."""
    good, over = signed(tmp_path / "good", for_days=LONG), signed(tmp_path / "over", for_days=-0.5)
    root = tmp_path / "root"
    root.write_bytes(good.read_bytes() + over.read_bytes())
    with tls_before(database, good) as first, tls_before(database, over) as second:
        findings = found(database, database_url=trusted(database, first, second, root=root))
        assert findings["hosts"].status is IS_OK
        assert (findings[WHAT].status, findings[WHAT].found) == (
            FAILS,
            f"the certificate of the database server 127.0.0.1:{second} ended on {day(-0.5)}",
        )


def test_that_the_only_hosts_has_ended_is_told_once(database: Database, tmp_path: Path) -> None:
    pem = signed(tmp_path / "pem", for_days=-0.5)
    with tls_before(database, pem) as port:
        findings = found(database, database_url=trusted(database, port, root=pem))
    assert WHAT not in findings
    assert "renew it if it has expired" in str(findings["database"].remedy)


def test_a_certificate_that_nobody_verifies_is_none_to_warn_of(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless libpq finds an authority where it looks for one, and verifies it after all."""
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    pem = signed(tmp_path / "pem", for_days=3)
    with tls_before(database, pem) as port:
        conninfo = trusted(database, port, root=Path(), sslmode="require", sslrootcert="")
        assert WHAT not in found(database, database_url=conninfo)
        signed(home / ".postgresql" / "root.crt", for_days=LONG).write_bytes(pem.read_bytes())
        finding = found(database, database_url=conninfo)[WHAT]
    assert (finding.status, finding.found.count(" ends on ")) == (WARNS, 2)


def test_what_the_environment_says_to_libpq_counts(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = signed(tmp_path / "pem", for_days=3)
    with tls_before(database, pem) as port:
        monkeypatch.setenv("PGSSLMODE", "verify-ca")
        monkeypatch.setenv("PGSSLROOTCERT", str(pem))
        finding = of_database(f"host=127.0.0.1 port={port}")
    assert finding is not None
    assert finding.status is WARNS


def test_a_socket_of_this_machine_has_none(database: Database, tmp_path: Path) -> None:
    pem = signed(tmp_path / "pem", for_days=3)
    for host in ("", "/run/postgresql", "@abstract"):
        conninfo = f"host='{host}' sslmode=verify-full sslrootcert={pem} sslcert={pem}"
        assert of_database(conninfo) is None
    assert of_database(database.app, owner_database_url=database.owner) is None


@pytest.mark.parametrize(
    ("days", "status", "said"), [(60.5, IS_OK, "soon"), (3.5, WARNS, "ends"), (-1, WARNS, "ended")]
)
def test_a_clients_certificate(
    database: Database, tmp_path: Path, days: float, status: Status, said: str
) -> None:
    """One that has ended while we are let in is asked for by nobody, so it is no failure."""
    good, own = signed(tmp_path / "pem", for_days=LONG), signed(tmp_path / "own", for_days=days)
    with tls_before(database, good) as port:
        conninfo = trusted(database, port, root=good, sslcert=str(own), sslkey=str(own))
        finding = found(database, database_url=conninfo)[WHAT]
        again = of_database(database.app, owner_database_url=conninfo)
        unsent = of_database(f"{conninfo} sslcertmode=disable")
    assert (finding.status, said in finding.found) == (status, True), finding
    assert again is not None
    assert again.found == finding.found
    assert status is IS_OK or f"the client certificate {own}" in finding.found
    assert status is IS_OK or "the sslcert of SCIM_LEDGER_OWNER_DATABASE_URL" in str(again.remedy)
    assert unsent is not None
    assert unsent.status is IS_OK


def test_what_cannot_be_seen_is_said_and_ends_nothing(tmp_path: Path) -> None:
    own, root = tmp_path / "own", tmp_path / "root"
    own.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    root.write_bytes(b"\xff")
    finding = of_database(
        f"host=127.0.0.1 port=1 sslmode=verify-ca sslrootcert={root} sslcert={own}"
    )
    assert finding is not None
    assert finding.status is IS_OK
    assert finding.found == (
        "none that could be seen ends soon; "
        "the certificate of the database server 127.0.0.1:1 could not be seen; "
        f"the last of the authorities in {root} could not be seen; "
        f"the client certificate {own} could not be seen"
    )


@contextmanager
def https(tmp_path: Path, *, for_days: float) -> Iterator[str]:
    """One connection."""
    pem = signed(tmp_path / f"{for_days}.pem", for_days=for_days)
    context = server_context(pem, pem.read_bytes())

    def serve() -> None:
        accepted, _ = listening.accept()
        with (
            accepted,
            context.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False) as peer,
        ):
            assert peer.recv(1) == b"", "something was sent over it"
            peer.unwrap().close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


@pytest.mark.parametrize(
    ("days", "status", "said"),
    [(60.5, IS_OK, "none ends soon"), (3.5, WARNS, "ends on"), (-1, FAILS, "ended on")],
)
def test_that_of_the_scim_service(
    database: Database, tmp_path: Path, days: float, status: Status, said: str
) -> None:
    with https(tmp_path, for_days=days) as url:
        finding = found(database, scim_upstream_url=url)["https certificates"]
    assert (finding.status, said in finding.found) == (status, True), finding
    assert finding.remedy in (None, "renew it where the SCIM service serves it")


def test_that_of_the_collector_of_traces_stops_nothing(tmp_path: Path) -> None:
    with https(tmp_path, for_days=-1) as url:
        finding = of_https(traces_endpoint=url, scim_upstream_url="http://127.0.0.1")
    assert finding is not None
    assert finding.status is WARNS
    assert of_https(scim_upstream_url="http://127.0.0.1") is None


def _drips(peer: socket.socket) -> None:
    """A record of TLS whose bytes come one by one, each in time, and which comes to no end."""
    with peer, suppress(OSError):
        peer.sendall(b"S" + bytes.fromhex("1603034000"))
        while True:
            peer.sendall(b"\2")
            sleep(0.2)


def test_peers_that_say_nothing_or_come_to_no_end_take_seconds_together() -> None:
    with ExitStack() as opened:
        peers = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        ports = ",".join(str(each.getsockname()[1]) for each in peers)
        Thread(target=lambda: _drips(peers[0].accept()[0]), daemon=True).start()
        watch = Stopwatch()
        finding = of_database(f"host=127.0.0.1 port={ports} sslmode=verify-ca")
        assert watch.read_s() < certificates.SEEN_WITHIN_S + 1
    assert finding is not None
    assert finding.found.count("could not be seen") == len(peers)


@pytest.mark.parametrize(
    ("life_days", "left_days", "is_told"),
    [
        (90, 30, False),
        (90, 21.1, False),
        (90, 20.9, True),
        (3650, 21.1, False),
        (3650, 20.9, True),
        (47, 15.6, False),
        (47, 11, True),
        (6, 2, False),
        (6, 1.4, True),
        (1, 0.33, False),
        (1, 0.2, True),
    ],
)
def test_how_long_before(
    tmp_path: Path, life_days: float, left_days: float, *, is_told: bool
) -> None:
    """Who renews when a third is left, as programs do, is never told before that failed."""
    own = signed(tmp_path / "own", for_days=left_days, since_days=life_days - left_days)
    finding = of_database(f"host=127.0.0.1 port=1 sslcert={own}")
    assert finding is not None
    assert (finding.status is WARNS) is is_told
