"""One-dimensional arrays in PostgreSQL's binary form, made in one pass.

psycopg adapts a list element by element, looking for the type of each; for columns of known type
that is the largest cost of a batch. An array here is bytes that psycopg (or libpq itself) sends as
they are.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address
from itertools import chain
from struct import Struct
from typing import Any, Final, cast
from uuid import UUID

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER: Final = Struct(">iiIii")  # dimensions, has nulls, element type, length, lower bound
_length: Final = Struct(">i").pack
_INT8: Final = Struct(">q")
_INT4: Final = Struct(">i")
_HOST: Final = {
    4: bytes((2, 32, 0, 4)),
    6: bytes((3, 128, 0, 16)),
}  # family, prefix, no network, length
_NULL: Final = _length(-1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)  # PostgreSQL's
_MICROSECOND: Final = timedelta(microseconds=1)


class Array(bytes):
    """An array, ready to be sent."""

    __slots__ = ()


def _array_type(
    name: str, element_oid: int, array_oid: int
) -> Callable[[list[bytes | None]], Array]:
    """A subclass of Array with its oids, known to psycopg;
    returns its constructor from encoded elements.
    """
    cls = type(name, (Array,), {"__slots__": ()})
    dumper = type(f"{name}Dumper", (_ArrayDumper,), {"oid": array_oid})
    psycopg.adapters.register_dumper(cls, dumper)
    return partial(_pack, cls, element_oid)


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Buffer) -> Buffer:
        return obj


def _pack(cls: type[Array], element_oid: int, elements: list[bytes | None]) -> Array:
    """Each element behind its length. Without nulls no line of ours runs per element here."""
    nulls = elements.count(None)
    parts: Iterable[bytes]
    if nulls == len(elements):
        parts = (_NULL * nulls,)
    elif nulls:
        parts = (
            _NULL if element is None else _length(len(element)) + element for element in elements
        )
    else:
        known = cast("list[bytes]", elements)
        parts = chain.from_iterable(zip(map(_length, map(len, known)), known, strict=True))
    return cls(_HEADER.pack(1, nulls > 0, element_oid, len(elements), 1) + b"".join(parts))


_byteas: Final = _array_type("ByteaArray", 17, 1001)
_uuids: Final = _array_type("UuidArray", 2950, 2951)
_texts: Final = _array_type("TextArray", 25, 1009)
_bigints: Final = _array_type("BigintArray", 20, 1016)
_integers: Final = _array_type("IntegerArray", 23, 1007)
_booleans: Final = _array_type("BooleanArray", 16, 1000)
_instants: Final = _array_type("InstantArray", 1184, 1185)
_addresses: Final = _array_type("AddressArray", 869, 1041)


def byteas(values: Iterable[bytes | None]) -> Array:
    """bytea[]"""
    return _byteas(list(values))


def uuids(values: Iterable[UUID | None]) -> Array:
    """uuid[]"""
    return _uuids([None if value is None else value.int.to_bytes(16, "big") for value in values])


def texts(values: Iterable[str | None]) -> Array:
    """text[]"""
    return _texts([None if value is None else value.encode() for value in values])


def bigints(values: Iterable[int | None]) -> Array:
    """bigint[]"""
    return _bigints([None if value is None else _INT8.pack(value) for value in values])


def integers(values: Iterable[int | None]) -> Array:
    """int[]"""
    return _integers([None if value is None else _INT4.pack(value) for value in values])


def booleans(values: Iterable[bool]) -> Array:
    """bool[]"""
    return _booleans([b"\x01" if value else b"\x00" for value in values])


def instants(values: Iterable[datetime | None]) -> Array:
    """timestamptz[]"""
    return _instants([None if value is None else instant(value) for value in values])


def addresses(values: Iterable[IPv4Address | IPv6Address | None]) -> Array:
    """inet[], of hosts"""
    return _addresses(
        [None if value is None else _HOST[value.version] + value.packed for value in values]
    )


OF_TYPE: Final[Mapping[str, Callable[[Iterable[Any]], Array]]] = {
    "uuid": uuids,
    "text": texts,
    "bytea": byteas,
    "bigint": bigints,
    "integer": integers,
    "timestamptz": instants,
    "inet": addresses,
    "boolean": booleans,
}
"""By the name of the column's type."""


@lru_cache(1024)  # events that were committed together share their instant
def instant(value: datetime) -> bytes:
    """One timestamptz."""
    since = value - _EPOCH
    return _INT8.pack((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def read_instant(value: bytes) -> datetime:
    """One timestamptz, read back."""
    microseconds: int = _INT8.unpack(value)[0]
    return _EPOCH + microseconds * _MICROSECOND


def read_bigint(value: bytes) -> int:
    """One bigint."""
    number: int = _INT8.unpack(value)[0]
    return number


def read_integer(value: bytes) -> int:
    """One int."""
    number: int = _INT4.unpack(value)[0]
    return number
