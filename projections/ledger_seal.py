"""Seals: what all events of the ledger come to, up to one of them.

The ledger check finds what no longer fits together, and not a history that was rewritten as a
whole. Whoever keeps a seal where no owner of the database can write finds that, too: a later seal
of the same events differs where one of them was changed, taken away or put between.

The seal of no events is 32 zero bytes; of more it is SHA-256 of the seal of all but the last and of
the hash of the last. Which bytes an event has says `ledger_seal.sql`; they hold no secret, and a
seal tells nothing of them.

Of a stretch that is in the archive, the ledger keeps the seal and not all events: a seal of more
goes on from there, and one of less is checked against the files (`archive/check.py`).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Final, NamedTuple

from psycopg import Connection

from domain.eventstore.archive.stretches import stretches
from domain.postgres.sql_file import statements
from projections.kept_rows import SLICE, Damage, snapshot

_HASH_BYTES: Final = 32
_TEXT: Final = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})", re.ASCII)
_SQL: Final = statements("projections", "ledger_seal.sql")


class Seal(NamedTuple):
    """position: of the last event that it covers, 0 for none. hash: 32 bytes."""

    position: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"


OF_NOTHING: Final = Seal(0, bytes(_HASH_BYTES))


def read_seal(text: str) -> Seal:
    """A seal as it is told. Raises ValueError."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError("not a position and 64 hex digits")
    seal = Seal(int(found[1]), bytes.fromhex(found[2]))
    if seal.position == 0 and seal != OF_NOTHING:
        raise ValueError("not the seal of no events")
    return seal


def seal_ledger(connection: Connection, *, report: Callable[[int], None] = lambda _: None) -> Seal:
    """The seal of all events that there are by now.

    connection: autocommit, the app role. report: told the number of events looked at, now and then.
    """
    with snapshot(connection):
        (newest,) = connection.execute(_SQL["newest"]).fetchone() or (0,)
    return next(_seals(connection, archived(connection), [newest], report))


def sealed_up_to(connection: Connection, start: Seal, until: int) -> Seal:
    """The seal of all events up to a position, from that of those before."""
    return next(_seals(connection, start, [until], lambda _: None))


def archived(connection: Connection) -> Seal:
    """The seal of all events that are in the archive, as the ledger has it."""
    last = next(reversed(stretches(connection)), None)
    return OF_NOTHING if last is None else Seal(last.until, bytes.fromhex(last.seal))


def check_seals(
    connection: Connection, seals: Iterable[Seal], *, report: Callable[[int], None] = lambda _: None
) -> Damage | None:
    """Whether all these events are still those that were sealed; else between which two seals the
    first difference is.

    seals: in any order, one at most of each position; those of a part of what is in the archive are
    left out. connection, report: as of `seal_ledger`.
    """
    start, before = archived(connection), 0
    kept = sorted(seal for seal in seals if seal.position >= start.position)
    now = _seals(connection, start, [seal.position for seal in kept], report)
    for seal, found in zip(kept, now, strict=True):
        if (damage := difference(seal, found, before)) is not None:
            return damage
        before = seal.position
    return None


def difference(kept: Seal, now: Seal, before: int) -> Damage | None:
    """Whether the events are still those of a seal. before: the position of the seal before it."""
    if now.position != kept.position:
        return Damage(f"event {kept.position}", "it is missing, and was sealed")
    if now.hash != kept.hash:
        where = f"events {before + 1} to {kept.position}"
        return Damage(where, "they are not those that were sealed")
    return None


def _seals(
    connection: Connection, start: Seal, positions: Iterable[int], report: Callable[[int], None]
) -> Iterator[Seal]:
    """The seal up to each of these positions, which ascend, in one pass. Where there is no event at
    a position, it is that of the last one before it. start: of all events before these.
    """
    events, (last, hash_) = 0, start
    for until in positions:
        is_more = True
        while is_more:
            with snapshot(connection), connection.cursor(binary=True) as cursor:
                row = cursor.execute(_SQL["slice"], [last, until, SLICE]).fetchone()
            assert row is not None
            count, newest, hashes = row
            for place in range(0, count * _HASH_BYTES, _HASH_BYTES):
                hash_ = sha256(hash_ + hashes[place : place + _HASH_BYTES]).digest()
            last, is_more, events = newest or last, count >= SLICE, events + count
            report(events)
        yield Seal(last, hash_)
