"""Warn before a certificate ends that the service's connections rely on.

The peer's certificate is read in a handshake of TLS that verifies nothing, since one that has ended
is to be told of too; nothing is sent over it. A certificate that could not be read is no trouble:
whether the peer is there the other findings say.
"""

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from api.clock_and_ids import now
from api.doctor.finding import Finding, fail, ok, warn
from api.doctor.x509 import Validity, validities, validity
from api.settings import PREFIX, Settings, shown
from domain.postgres.session import each_host

WARNED_BEFORE: Final = timedelta(days=21)
"""Programs renew a certificate of 90 days 30 days before its end: they have failed for nine days
by then, and three weeks are left for an authority that people have to ask.
"""
LAST_PART: Final = 4
"""Of a certificate that is good for less than twelve weeks its last quarter: those programs renew
one when a third of it is left.
"""
SEEN_WITHIN_S: Final = 3.0
"""All certificates together."""

_ENDS_WITHIN_S: Final = 0.5
_ASKS_FOR_TLS: Final = bytes.fromhex("0000000804d2162f")
"""PostgreSQL's SSLRequest (Protocol: SSL Session Encryption)."""
_ALPN: Final = ("postgresql",)
_OF_LIBPQ: Final = frozenset(
    {
        *("host", "hostaddr", "port"),
        *("sslmode", "sslnegotiation", "sslsni", "sslcert", "sslcertmode", "sslrootcert"),
    }
)


class Relied(NamedTuple):
    """A certificate that connections rely on.

    name: in a sentence. remedy: where it is renewed. read: raises OSError and ValueError.
    stops: whether, once it has ended, what we find working will not go on.
    """

    name: str
    remedy: str
    read: Callable[[], Validity]
    stops: bool = True


def of_https(settings: Settings) -> Iterator[Finding]:
    """Whether one of those ends that are verified by the SCIM proxy and the traces' exporter."""
    asked = (
        ("SCIM service", settings.scim_upstream_url, True),
        ("traces' collector", settings.traces_endpoint, False),
    )
    relied = []
    for name, url, stops in asked:
        parts = urlsplit(url or "")
        if parts.scheme == "https" and parts.hostname:
            read = partial(_served, parts.hostname, str(parts.port or 443), parts.hostname)
            remedy = f"renew it where the {name} serves it"
            relied.append(Relied(f"the certificate of the {name}", remedy, read, stops))
    yield from _judged("https certificates", relied)


def of_database(conninfo: str, settings: Settings) -> Iterator[Finding]:
    """Whether one of those ends that a connection to the database is made with.

    Where the service is let in: that its only host's has ended is told by the finding `database`.
    """
    named = {PREFIX + "OWNER_DATABASE_URL": settings.owner_database_url, "DATABASE_URL": conninfo}
    relied = {
        each.name: each
        for variable, given in named.items()
        if given is not None
        for each in _of_connections(variable, given)
    }
    yield from _judged("database certificates", relied.values())


def _of_connections(variable: str, conninfo: str) -> Iterator[Relied]:
    """Those of each host, of the authorities and of the client, as libpq would look for them."""
    defaults = {
        option.keyword.decode(): option.val.decode()
        for option in Conninfo.get_defaults()
        if option.val is not None
    }
    every = {**defaults, **conninfo_to_dict(conninfo)}
    given = {name: str(every[name]) for name in _OF_LIBPQ & every.keys()}
    over_tls = [parts for parts in map(_parts, each_host(make_conninfo("", **given))) if parts]
    root = _file(given.get("sslrootcert"), "root.crt")
    if over_tls and _is_verified(given, root):
        for parts in over_tls:
            yield _of_server(parts)
        if root is not None:
            name = f"the last of the authorities in {shown(root)}"
            remedy = f"add the authority that follows it to the sslrootcert of {variable}"
            yield Relied(name, remedy, partial(_last_of, root))
    own = _file(given.get("sslcert"), "postgresql.crt")
    if over_tls and own is not None and given.get("sslcertmode") != "disable":
        name = f"the client certificate {shown(own)}"
        remedy = f"renew the sslcert of {variable}: each new connection reads it"
        yield Relied(name, remedy, partial(_first_of, own), stops=False)


def _first_of(path: Path) -> Validity:
    """Of whom the file is; those behind it have signed it."""
    return validities(path)[0]


def _last_of(path: Path) -> Validity:
    """One that is good is enough: the next authority is added before the end of the one before."""
    return max(validities(path), key=lambda one: one.ends_at)


def _parts(host: str) -> dict[str, str] | None:
    """Of one host's connection string; None where its connections have no TLS."""
    parts = {name: str(value) for name, value in conninfo_to_dict(host).items() if value}
    place = parts.get("hostaddr") or parts.get("host", "")
    has_tls = place and not place.startswith(("/", "@")) and parts.get("sslmode") != "disable"
    return parts if has_tls else None


def _file(given: str | None, default: str) -> Path | None:
    """What libpq would read; None for nothing."""
    if given == "system":
        return None
    try:
        path = Path(given) if given else Path.home() / ".postgresql" / default
        return path if path.exists() else None
    except (OSError, RuntimeError):  # no home, or a directory that may not be looked into
        return None


def _is_verified(given: dict[str, str], root: Path | None) -> bool:
    """Whether a server's certificate is looked at: else none relies on its end."""
    mode = given.get("sslmode", "prefer")
    is_required = mode == "require" and root is not None
    return (
        is_required or mode in {"verify-ca", "verify-full"} or given.get("sslrootcert") == "system"
    )


def _of_server(parts: dict[str, str]) -> Relied:
    place = parts.get("hostaddr") or parts["host"]
    name, port = parts.get("host") or place, parts.get("port") or "5432"
    is_direct = parts.get("sslnegotiation") == "direct"
    read = partial(
        _served,
        place,
        port,
        name if parts.get("sslsni") != "0" else None,
        asks=b"" if is_direct else _ASKS_FOR_TLS,
        protocols=_ALPN,
    )
    remedy = "renew it on the server, and let that read it (pg_ctl reload)"
    return Relied(f"the certificate of the database server {name}:{port}", remedy, read)


def _served(
    place: str, port: str, name: str | None, *, asks: bytes = b"", protocols: Sequence[str] = ()
) -> Validity:
    """Of the certificate that a server shows.

    name: whom it is asked for. asks: sent before TLS begins. Raises OSError and ValueError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    with socket.create_connection((place, int(port)), timeout=SEEN_WITHIN_S) as plain:
        plain.sendall(asks)
        if asks and plain.recv(1) != b"S":
            raise OSError("it offers no TLS")
        with context.wrap_socket(plain, server_hostname=name) as peer:
            found = validity(peer.getpeercert(binary_form=True) or b"")
            peer.settimeout(_ENDS_WITHIN_S)
            with suppress(OSError):  # cut off, it would be in the log of the server
                peer.unwrap().close()
            return found


def _seen(relied: Iterable[Relied]) -> list[tuple[Relied, Validity | None]]:
    """Each with what was read of it within the time; None for what was not."""
    read: dict[str, Validity] = {}

    def look(one: Relied) -> None:
        try:
            read[one.name] = one.read()
        except (OSError, ValueError):
            return

    looking = [(one, Thread(target=look, args=[one], daemon=True)) for one in relied]
    for _, thread in looking:
        thread.start()
    ends_at = monotonic() + SEEN_WITHIN_S
    for _, thread in looking:
        thread.join(max(0.0, ends_at - monotonic()))
    return [(one, read.get(one.name)) for one, _ in looking]


def _judged(what: str, relied: Iterable[Relied]) -> Iterator[Finding]:
    """One finding, or none where nothing is relied on."""
    seen, at = _seen(relied), now()
    if not seen:
        return
    troubles = [(one, found) for one, found in seen if found and _is_near(found, at)]
    unseen = [f"{one.name} could not be seen" for one, found in seen if not found]
    if not troubles:
        sound = ["none that could be seen ends soon"] if unseen else ["none ends soon"]
        yield ok(what, "; ".join([*sound, *unseen]))
        return
    told = "; ".join([*(_told(one.name, found, at) for one, found in troubles), *unseen])
    remedy = "; ".join(dict.fromkeys(one.remedy for one, _ in troubles))
    is_over = any(found.ends_at <= at and one.stops for one, found in troubles)
    yield (fail if is_over else warn)(what, told, remedy)


def _is_near(found: Validity, at: datetime) -> bool:
    life = found.ends_at - found.begins_at
    return found.ends_at - at <= min(WARNED_BEFORE, life / LAST_PART)


def _told(name: str, found: Validity, at: datetime) -> str:
    day = found.ends_at.date().isoformat()
    if found.ends_at <= at:
        return f"{name} ended on {day}"
    return f"{name} ends on {day}, in {(found.ends_at - at).days} day(s)"
