"""Find a request's client address: the peer, or what a trusted proxy says (X-Forwarded-*).

Only the peer's address is known for sure. A forwarded address is believed when the proxies that
handed it on are named in the settings; of the list they hand on, the right-most address that is not
theirs counts: all to the left of it was written by the client. Of scheme and host the last element
counts, the peer's own word. RFC 7239 `Forwarded` is never read.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from domain.networks.plain import Address, Network, plain_address

if TYPE_CHECKING:  # the command line asks for networks only, and starts without the framework
    from litestar.types import HTTPScope

MAX_HOPS: Final = 16
REMEMBERED_BYTES: Final = 1024
"""A longer list is no proxy's of ours; whoever sends many of them must not fill the memory."""
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[([0-9A-Fa-f:.]+)\])(?::\d{1,5})?")


class Origin(NamedTuple):
    """Our own origin as the client knows it, as far as it is known.

    scheme: "http" or "https"; host: with its port, None where the client told none, or none that
    could stand in an address.
    """

    scheme: str
    host: str | None

    @property
    def url(self) -> str:
        """Our address as the client knows it, such as https://scim.example.com; empty where it
        told none.
        """
        return "" if self.host is None else f"{self.scheme}://{self.host}"


class ClientAddresses:
    """Tells clients' addresses. trusted: the networks of the proxies in front of the service."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        # Peers are few and their headers repeat; parsing them anew costs more than a decision may.
        self._address = lru_cache(maxsize=4096)(self._find)

    def address(self, scope: "HTTPScope", *, is_relayed: bool = False) -> str | None:
        """The client's address, None where it is not known.

        is_relayed: the peer is a gateway that asks for somebody else, so that its own address says
        nothing.
        """
        peer = _peer(scope)
        if peer is None:
            return None
        forwarded = _list(scope, b"x-forwarded-for") if self._trusted else b""
        find = self._address if len(forwarded) <= REMEMBERED_BYTES else self._find
        return find(peer, forwarded, is_relayed)

    def origin(self, scope: "HTTPScope") -> Origin:
        """The scheme and the host that the client asked for."""
        scheme, host = scope["scheme"], first_field(scope, b"host")
        peer = _peer(scope)
        if peer is not None and self._is_trusted(_parsed(peer)):
            named = _nearest(scope, b"x-forwarded-proto")
            scheme = named if named in {"http", "https"} else scheme
            host = _nearest(scope, b"x-forwarded-host") or host
        is_told = host is not None and is_host(host)
        return Origin(scheme, host if is_told else None)

    def base_url(self, scope: "HTTPScope") -> str:
        """Our address as the client knows it; where it told none, the one that it reached."""
        origin = self.origin(scope)
        return origin.url or f"{origin.scheme}://{reached(scope)}"

    def _find(self, peer: str, forwarded: bytes, is_relayed: bool) -> str | None:
        address = _parsed(peer)
        if not self._is_trusted(address):
            return None if is_relayed else _text(address)
        found = None if is_relayed else address
        for hop in islice(_elements(forwarded), MAX_HOPS):
            address = _parsed(hop)
            if address is None:
                return None
            found = address
            if not self._is_trusted(address):
                break
        return _text(found)

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def reached(scope: "HTTPScope") -> str:
    """Host and port that a request came to: where HTTP/1.0 says none, the client knows no other."""
    host, port = scope["server"] or ("localhost", None)
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def is_host(text: str) -> bool:
    """Whether a text is a host, with or without a port, that may stand in an address of ours."""
    found = _HOST.fullmatch(text)
    return found is not None and (found[1] is None or is_ipv6(found[1]))


@lru_cache(maxsize=64)
def is_ipv6(text: str) -> bool:
    """Whether a text is what may stand in brackets (RFC 3986 §3.2.2): the address alone, for of
    later versions there is none.
    """
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _peer(scope: "HTTPScope") -> str | None:
    client = scope["client"]
    return None if client is None else client[0]


def _list(scope: "HTTPScope", wanted: bytes) -> bytes:
    """All lines of a name as the one list that they are (RFC 9110 §5.3)."""
    return b",".join(value for name, value in scope["headers"] if name == wanted)


def _nearest(scope: "HTTPScope", wanted: bytes) -> str | None:
    """What the peer says, which adds it to whatever its own client has written there."""
    return next(_elements(_list(scope, wanted)), None)


def _elements(list_: bytes) -> Iterator[str]:
    """The elements of a list, last first. Empty ones are none (RFC 9110 §5.6.1.2)."""
    for element in reversed(list_.split(b",")):
        stripped = element.strip(b" \t")
        if stripped:
            yield stripped.decode("latin-1")


def first_field(scope: "HTTPScope", wanted: bytes) -> str | None:
    """The value of a field, in its first line; None where there is none."""
    return next(
        (value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None
    )


def _text(address: Address | None) -> str | None:
    return None if address is None else str(address)


@lru_cache(maxsize=4096)
def site_of(text: str) -> str:
    """An IPv6 address stands for its /64: whoever has one has all of them."""
    address = plain_address(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), 64), strict=False))
    return text if address is None else str(address)


def _parsed(text: str) -> Address | None:
    """An address as proxies write it: quoted or not, in brackets or not, with or without a port."""
    host = text.strip('"')
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    return plain_address(host)
