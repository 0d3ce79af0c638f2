"""Check what lies between the service and its database, and between it and its clients."""

from ipaddress import ip_address
from time import monotonic
from typing import Final

from psycopg import Connection

from api.doctor.finding import Finding, fail, ok, warn
from api.settings import Settings, trusted_networks
from domain.postgres.connection import open_connection
from domain.postgres.session import COMMAND
from domain.postgres.sql_file import statements

FAR_MS: Final = 20.0
TOO_FAR_MS: Final = 100.0
"""A use takes one exchange, and waits for one that is under way; a page takes three and more: so
far away some were answered 503, and at 50 ms none was.
"""
_ROUND_TRIPS: Final = 5
_SQL: Final = statements("api.doctor", "ledger.sql")


def tls(connection: Connection) -> Finding:
    """Whether passwords, digests and names cross a network in the clear."""
    if connection.pgconn.ssl_in_use:
        return ok("tls", "the connection is encrypted")
    if not is_remote(connection.info.host, connection.info.hostaddr):
        return ok("tls", "not needed: the server is on this machine")
    return warn(
        "tls",
        "the connection to another machine is not encrypted",
        "set sslmode=verify-full and sslrootcert in DATABASE_URL",
    )


def is_remote(host: str, hostaddr: str) -> bool:
    """Whether a connection leaves the machine.

    host: a name, an address, or the directory of a socket.
    """
    if host.startswith(("/", "@")):
        return False
    try:
        return not ip_address(hostaddr or host).is_loopback
    except ValueError:
        return host not in {"", "localhost"}


def round_trip(connection: Connection) -> Finding:
    """How far away the database is: the shortest of a few exchanges."""
    shortest_ms = min(_exchange_ms(connection) for _ in range(_ROUND_TRIPS))
    found = f"an exchange with the database takes {shortest_ms:.1f} ms"
    remedy = "run the service beside the database, in the same data centre"
    if shortest_ms >= TOO_FAR_MS:
        return fail("round trip", f"{found}: some requests are answered 503", remedy)
    if shortest_ms >= FAR_MS:
        return warn("round trip", f"{found}: a call takes two to three of them", remedy)
    return ok("round trip", found)


def _exchange_ms(connection: Connection) -> float:
    began_at = monotonic()
    connection.execute("SELECT 1", prepare=False)
    return (monotonic() - began_at) * 1000


def allowed_networks(conninfo: str, settings: Settings) -> Finding:
    """Whether tokens are restricted to networks while clients' addresses are not known, or are
    what they say.

    Looked for where it matters alone, and for as long as it takes: no index tells. Raises
    StoreUnavailable.
    """
    what, trusted = "allowed networks", trusted_networks(settings)
    if trusted and all(network.prefixlen for network in trusted):
        return ok(what, "proxies are trusted: they tell the addresses of clients")
    with open_connection(conninfo, session=COMMAND, is_examined=True) as patient:
        if patient.execute(_SQL["is_restricted"]).fetchone() != (True,):
            return ok(what, "no token is restricted to networks")
    if trusted:
        return warn(
            what,
            "tokens are restricted to networks, and every address is trusted as a proxy's: whoever "
            "says in X-Forwarded-For that a request comes from elsewhere is believed",
            "name your proxies alone in SCIM_LEDGER_TRUSTED_PROXIES "
            "(docs/how-to/restrict-to-networks.md)",
        )
    return warn(
        what,
        "tokens are restricted to networks, and no proxy is trusted: behind a gateway or a load "
        "balancer no address of a client is known, and they let nobody in",
        "set SCIM_LEDGER_TRUSTED_PROXIES, if there is one (docs/how-to/restrict-to-networks.md)",
    )
