"""What an event says once an address, or what a program calls itself, is taken out of it. Pure, but
for chance.
"""

from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address
from secrets import randbits
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from domain.event import Actor
from domain.networks.plain import Network, plain_address
from domain.scim_token.events import Presentation
from domain.scim_token.warnings import FirstUsed, UsedFromNewSource

Told = TypeVar("Told", bound=msgspec.Struct)

NOBODYS: Final = IPv6Network("100::/64")
"""Addresses that nobody has, and to which nothing is sent (RFC 6666)."""
HOLD_ADDRESSES: Final = (Actor, Presentation, FirstUsed, UsedFromNewSource)
"""Structs of which `source` is an address; of a leak it is whoever found it."""


class Forgotten(NamedTuple):
    """networks: whose addresses are to be forgotten. user_agents: whole, as they are told."""

    networks: Sequence[Network]
    user_agents: Sequence[str]

    def has_address(self, source: str | None) -> bool:
        """Whether this is one of them, in whatever spelling."""
        address = None if source is None else plain_address(source)
        return address is not None and any(address in network for network in self.networks)


class Pseudonyms:
    """Of each address one that nobody has: by chance, so that nothing leads back."""

    def __init__(self) -> None:
        self._named: dict[str, str] = {}
        self._spelled: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._named)

    def of(self, source: str) -> str:
        """The same for the same. Views tell addresses apart, and the archive spellings of one: two
        stay two, by a zone, which says nothing.
        """
        if source not in self._spelled:
            address = str(ip_address(source.partition("%")[0]))
            nobodys = str(IPv6Address(int(NOBODYS[0]) + randbits(64)))
            zone = "" if source == address else f"%{len(self._spelled)}"
            self._spelled[source] = self._named.setdefault(address, nobodys) + zone
        return self._spelled[source]


def without(told: Told, *, what: Forgotten, named: Pseudonyms) -> Told:
    """The same event, or a part of one, where it tells nothing of that."""
    taken: dict[str, Any] = {}
    for name in told.__struct_fields__:
        value = getattr(told, name)
        if isinstance(value, Actor | Presentation):
            rest = without(value, what=what, named=named)
            if rest is not value:
                taken[name] = rest
        elif name == "source" and isinstance(told, HOLD_ADDRESSES) and what.has_address(value):
            taken[name] = named.of(value)
        elif name == "user_agent" and value in what.user_agents:
            taken[name] = None
    return msgspec.structs.replace(told, **taken) if taken else told
