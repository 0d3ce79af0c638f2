"""Read and remember client addresses, in the form that the views keep.

Identity providers come from few addresses, so each is parsed once.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address


@lru_cache(maxsize=65536)
def address_of(source: str | None) -> Address | None:
    """A presenter's address; None where none was told, or what was told is not one."""
    if source is None:
        return None
    try:
        return ip_address(source.partition("%")[0])  # PostgreSQL knows no scope of an address
    except ValueError:
        return None


@lru_cache(maxsize=65536)
def address_text(source: str | None) -> str:
    """The same in its one spelling; empty for None."""
    address = address_of(source)
    return "" if address is None else str(address)
