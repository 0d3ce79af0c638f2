"""What ends TLS before the database of the tests, which has none itself, as a pooler does."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.api.doors.scim.wire.test_upstream_tls import certificate, server_context
from tests.conftest import Database

SSL_REQUEST: Final = bytes.fromhex("0000000804d2162f")
LONG: Final = 365.0


@contextmanager
def tls_before(database: Database, pem: Path, *, is_direct: bool = False) -> Iterator[int]:
    """The port at which the database is reached over TLS. pem: key and certificate.

    is_direct: TLS begins at once (sslnegotiation=direct).
    """
    context = server_context(pem, pem.read_bytes())
    context.set_alpn_protocols(["postgresql"])
    directory = conninfo_to_dict(database.app)["host"]
    port = conninfo_to_dict(database.app).get("port") or "5432"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = [writer]
        try:
            if not is_direct:
                while await reader.readexactly(8) != SSL_REQUEST:
                    writer.write(b"N")  # libpq asks for GSSAPI before
                writer.write(b"S")
                await writer.start_tls(context)
            back, to = await asyncio.open_unix_connection(f"{directory}/.s.PGSQL.{port}")
            opened.append(to)
            await asyncio.gather(_copied(reader, to), _copied(back, writer))
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            for each in opened:
                each.transport.abort()
            for each in opened:
                with suppress(OSError):
                    await each.wait_closed()

    async def main() -> None:
        direct = context if is_direct else None
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=direct) as listening:
            ports.append(listening.sockets[0].getsockname()[1])
            listens.set()
            await asyncio.to_thread(is_over.wait)

    ports: list[int] = []
    listens, is_over = Event(), Event()
    thread = Thread(target=asyncio.run, args=[main()], daemon=True)
    thread.start()
    assert listens.wait(10)
    try:
        yield ports[0]
    finally:
        is_over.set()
        thread.join(10)


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()


def signed(path: Path, *, for_days: float, since_days: float = LONG) -> Path:
    """A file of key and certificate of 127.0.0.1."""
    path.write_bytes(certificate(for_days=for_days, since_days=since_days))
    path.chmod(0o600)
    return path


def trusted(database: Database, *ports: int, root: Path, **more: str) -> str:
    """How the app role reaches it at these ports, and verifies who is there."""
    return make_conninfo(
        database.app,
        host=",".join(["127.0.0.1"] * len(ports)),
        port=",".join(map(str, ports)),
        **({"sslmode": "verify-full", "sslrootcert": str(root)} | more),
    )
