"""The upstream behind TLS: what is cut off does not look whole, and the log says what to mend."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
import structlog.testing
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api.doors.client_address import ClientAddresses
from api.doors.scim.proxy import Upstream
from api.settings import Settings
from tests.api.doors.scim.test_upstream_framing import Request, send
from tests.conftest import Run

LOOPS: Final = [asyncio.new_event_loop, uvloop.new_event_loop]
RESETS: Final = struct.pack("ii", 1, 0)
WITH_LENGTH: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody"
CHUNKED: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
TO_THE_END: Final = b"HTTP/1.1 200 OK\r\n\r\nbody"
NAME: Final = "scim.test"
AUTHORITY: Final = "authority.test"

Serve = Callable[[socket.socket], None]


@cache
def _key(_: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def certificate(
    name: str = "127.0.0.1", *, by: str | None = None, for_days: float = 1, since_days: float = 9
) -> bytes:
    """Key and certificate of an address or a name (PEM). Days before now, and after.

    by: who signed it; None for itself.
    """
    subject, issuer = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, by or name)
    )
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(_key(name).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=since_days))
        .not_valid_after(now + timedelta(days=for_days))
        .add_extension(x509.SubjectAlternativeName([_general_name(name)]), False)
        .sign(_key(by or name), hashes.SHA256())
    )
    return _key(name).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + made.public_bytes(serialization.Encoding.PEM)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """One connection on a free port."""

    def run() -> None:
        with suppress(OSError):
            accepted, _ = listener.accept()
            with closing(accepted):
                accepted.settimeout(5)
                serve(accepted)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.close()
        thread.join(10)


def answering(answer: bytes, ends: str, context: ssl.SSLContext | None = None) -> Serve:
    """Answer a request, then end the connection: in order, by TCP alone, or by a reset."""

    def serve(accepted: socket.socket) -> None:
        peer = accepted if context is None else context.wrap_socket(accepted, server_side=True)
        with peer:
            asked = b""
            while b"\r\n\r\n" not in asked:
                piece = peer.recv(1000)
                if not piece:
                    return
                asked += piece
            peer.sendall(answer)
            if ends == "in order" and isinstance(peer, ssl.SSLSocket):
                with peer.unwrap():
                    pass
            if ends == "reset":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)

    return serve


def server_context(
    path: Path, pem: bytes, *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    path.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.maximum_version = version
    return context


async def asked(url: str) -> tuple[list[Any], list[str]]:
    """What a client is sent, and what the log says why."""
    settings = Settings(scim_upstream_url=url, upstream_connect_timeout_s=0.3)
    upstream = Upstream(settings, ClientAddresses())
    with structlog.testing.capture_logs() as logged:
        sent = await send(upstream, Request([], 0, "", "GET"), "x")
    await upstream.aclose()
    return sent, [line["reason"] for line in logged]


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("ends", ["in order", "by TCP", "reset"])
@pytest.mark.parametrize("answer", [WITH_LENGTH, CHUNKED, TO_THE_END])
def test_an_answer_is_whole_when_its_own_end_has_come(
    *,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    version: ssl.TLSVersion | None,
    ends: str,
    answer: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RFC 9112 §9.8. Who cuts a connection off on the way must not shorten a list of users."""
    trusted = tmp_path / "trusted.pem"
    context = server_context(trusted, certificate(), version=version) if version else None
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    is_in_order = ends == "in order" or (ends == "by TCP" and version is None)
    with (
        serving(answering(answer, ends, context)) as port,
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        scheme = "http" if version is None else "https"
        (start, *pieces), reasons = runner.run(asked(f"{scheme}://127.0.0.1:{port}"))
    if start["status"] != 200:
        assert ends == "reset", "it overtook the answer"
        return
    is_whole = bool(pieces) and not pieces[-1]["more_body"]
    assert is_whole == (is_in_order or answer != TO_THE_END) or ends == "reset"
    assert not is_whole or answer != TO_THE_END or is_in_order
    assert is_whole == (not reasons)


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize(
    ("pem", "is_trusted", "reason"),
    [
        *(
            (pem, False, "SSL_CERT_FILE names the authorities to trust, and is read at the start")
            for pem in (
                certificate(),
                certificate(by=AUTHORITY),
                certificate(by=AUTHORITY) + certificate(AUTHORITY),
            )
        ),
        (certificate("127.0.0.9"), True, "SCIM_UPSTREAM_URL needs a name that the certificate has"),
        (certificate(for_days=-1), True, "certificate has expired"),
    ],
)
def test_a_certificate_that_is_not_good_is_told_with_the_remedy(
    *,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    pem: bytes,
    is_trusted: bool,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = server_context(tmp_path / "its.pem", pem)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "its.pem"))
    with (
        serving(answering(WITH_LENGTH, "in order", context)) as port,
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        (start, *_), (told,) = runner.run(asked(f"https://127.0.0.1:{port}"))
    assert start["status"] == 502
    assert told.startswith("its certificate is not good: ")
    assert told.endswith(reason)


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize(
    ("has", "is_good"), [(NAME, True), ("other.scim.test", False), ("127.0.0.1", False)]
)
def test_a_certificate_is_good_for_the_name_that_was_asked_and_for_no_address_that_it_led_to(
    *,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    has: str,
    is_good: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever answers for a name in the network may say any address; and the upstream is told which
    of its names is meant (RFC 6066 §3).
    """
    context, meant = server_context(tmp_path / "its.pem", certificate(has)), []
    context.sni_callback = lambda _, name, __: meant.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "its.pem"))

    async def story(port: int) -> tuple[list[Any], list[str]]:
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def found(_: str, port: int, **options: Any) -> list[Any]:
            return await resolve("127.0.0.1", port, **options)

        monkeypatch.setattr(loop, "getaddrinfo", found)
        return await asked(f"https://{NAME}:{port}")

    with (
        serving(answering(WITH_LENGTH, "in order", context)) as port,
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        (start, *_), reasons = runner.run(story(port))
    assert start["status"] == (200 if is_good else 502)
    assert [reason.rpartition("; ")[2] for reason in reasons] == (
        [] if is_good else ["SCIM_UPSTREAM_URL needs a name that the certificate has"]
    )
    assert meant == [NAME]


def _reads_and_hangs_up(peer: socket.socket) -> None:
    peer.recv(10_000)


def _stays_silent(peer: socket.socket) -> None:
    while peer.recv(10_000):
        pass


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize(
    ("serve", "status", "reason"),
    [
        (
            lambda peer: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            502,
            "it speaks no TLS; without TLS, SCIM_UPSTREAM_URL begins with http://",
        ),
        (_reads_and_hangs_up, 502, "it hung up in the handshake of TLS"),
        (
            _stays_silent,
            504,
            "it accepted no connection, or ended no handshake of TLS, in time",
        ),
    ],
)
def test_where_no_session_comes_about_the_log_says_why(
    new_loop: Callable[[], asyncio.AbstractEventLoop], serve: Serve, status: int, reason: str
) -> None:
    with serving(serve) as port, asyncio.Runner(loop_factory=new_loop) as runner:
        (start, *_), reasons = runner.run(asked(f"https://127.0.0.1:{port}"))
    assert start["status"] == status
    assert reasons == [reason]


def test_an_upstream_that_wants_a_certificate_is_told_as_that(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = tmp_path / "trusted.pem"
    context = server_context(trusted, certificate())
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with serving(answering(WITH_LENGTH, "in order", context)) as port:
        (start, *_), reasons = run(asked(f"https://127.0.0.1:{port}"))
    assert start["status"] == 502
    assert reasons == ["it wants a client's certificate, and there is none here"]
