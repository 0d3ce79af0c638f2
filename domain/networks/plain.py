"""Addresses and networks as they are compared: one spelling for each. Pure."""

from collections.abc import Collection, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

_MAPPED_LENGTH: Final = 96
Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


def plain_address(text: str) -> Address | None:
    """The address that a text is; None where it is none.

    Without its zone, which means nothing elsewhere and may be any text (RFC 4007 §11); an IPv4
    address in IPv6 clothes as what it is.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def plain_network(text: str, *, is_strict: bool = False) -> Network:
    """The network that a text is, or that of one address, read as above. Raises ValueError.

    is_strict: also where an address has bits beyond the length that is given.
    """
    address, slash, length = text.partition("/")
    network = ip_network(address.partition("%")[0] + slash + length, strict=is_strict)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None:  # nor has one that is wider than all of IPv4: it begins before that
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_LENGTH))


@lru_cache(maxsize=1024)
def _network(text: str) -> Network:
    return ip_network(text)


def is_within(source: str | None, networks: Iterable[str]) -> bool:
    """Whether an address lies in one of the networks, all spelled as above; an unknown one in none.

    `record_uses` compares the same: see its contract test.
    """
    if source is None:
        return False
    address = ip_address(source)
    return any(address in _network(network) for network in networks)


def is_outside(source: str | None, networks: Collection[str]) -> bool:
    """Whether somebody at an address is refused where these networks alone are good; nobody is
    where there is none.
    """
    return bool(networks) and not is_within(source, networks)
