"""Where a request comes from: the peer, or what a trusted proxy in front says (X-Forwarded-*).

Only the peer's address is known for sure. A forwarded address is believed when the proxies that handed it on
are named in the settings; of the list they hand on, the right-most address that is not theirs counts: all to
the left of it was written by the client. RFC 7239 `Forwarded` is never read.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple, TypeAlias

from litestar.types import HTTPScope

MAX_HOPS: Final = 16
Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


class Origin(NamedTuple):
    """How the client reached us, as far as it is known. scheme: "http" or "https"; host: with its port."""

    address: str | None
    scheme: str
    host: str | None


class ClientSources:
    """Tells clients' addresses. trusted: the networks of the proxies in front of the service."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        # Peers are few and their headers repeat; parsing them anew costs more than a decision may.
        self._address = lru_cache(maxsize=4096)(self._find)

    @property
    def is_told(self) -> bool:
        """Whether proxies are named at all: without them an address may be that of any proxy in between."""
        return bool(self._trusted)

    def address(self, scope: HTTPScope, *, is_relayed: bool = False) -> str | None:
        """The client's address, None where it is not known.

        is_relayed: the peer is a gateway that asks for somebody else, so that its own address says nothing.
        """
        peer = _peer(scope)
        if not self._trusted or peer is None:
            return None if is_relayed else peer
        return self._address(peer, _joined(scope, b"x-forwarded-for"), is_relayed)

    def origin(self, scope: HTTPScope) -> Origin:
        """What to tell a service behind us about the client."""
        scheme, host = scope["scheme"], _first(scope, b"host")
        peer = _peer(scope)
        if peer is not None and self._is_trusted(_parsed(peer)):
            named = _first(scope, b"x-forwarded-proto")
            scheme = named if named in {"http", "https"} else scheme
            host = _first(scope, b"x-forwarded-host") or host
        return Origin(self.address(scope), scheme, host)

    def _find(self, peer: str, forwarded: bytes, is_relayed: bool) -> str | None:
        address = _parsed(peer)
        if not self._is_trusted(address):
            return None if is_relayed else _text(address)
        found = None if is_relayed else address
        for hop in reversed(forwarded.split(b",")[-MAX_HOPS:]):
            address = _parsed(hop.decode("latin-1").strip())
            if address is None:
                return None if hop.strip() else _text(found)
            found = address
            if not self._is_trusted(address):
                break
        return _text(found)

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def _peer(scope: HTTPScope) -> str | None:
    client = scope["client"]
    return None if client is None else client[0]


def _joined(scope: HTTPScope, wanted: bytes) -> bytes:
    return b",".join(value for name, value in scope["headers"] if name == wanted)


def _first(scope: HTTPScope, wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), None)


def _text(address: Address | None) -> str | None:
    return None if address is None else str(address)


def _parsed(text: str) -> Address | None:
    """An address, with or without a port, an IPv4 one in IPv6 clothes as what it is."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
