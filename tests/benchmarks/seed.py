"""Large ledgers in little time: COPY into the ledger, indexes made afterwards,
the views by their rebuild.

What is stored is what the domain would have stored. Events and states come from its own decisions,
folds and encoders; only the way in is another. `check` proves it on a sample.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection, sql

from domain.commands import ClockAndIds
from domain.event import Actor, Recorded
from domain.eventstore import append
from domain.eventstore.aggregates import decode_state, encode_state, evolve, kind_of
from domain.eventstore.event_registry import REGISTRY
from domain.eventstore.peppers.fingerprints import record_pepper
from domain.ledger import TokenLedger
from domain.scim_token.events import Presentation, Used
from domain.scim_token.token import ScimToken
from domain.secret import Digest, Pepper, Secret, SecretKind, mint
from projections.projection import LogEntry
from projections.rebuild.run import rebuild
from projections.rebuild.shapes import drop_old
from projections.registry import PROJECTIONS

TEAM_SIZE: Final = 200
_AGE: Final = timedelta(days=30)
_COMMIT: Final = 100
"""Events that share a commit, and so an instant, as the gate's do under load."""
_STEP: Final = timedelta(milliseconds=_COMMIT)
_CHUNK: Final = 50_000
_IDP: Final = Presentation(
    door="scim",
    source="192.0.2.1",
    user_agent="Okta SCIM Client 1.0.0",
    method="GET",
    path_class="Users",
)

_EVENTS: Final = "ledger.events"
_COLUMNS: Final = {
    _EVENTS: ["int8", "uuid", "int8", "text", "timestamptz", "uuid", "bytea"],
    "ledger.stream_heads": ["uuid", "int8", "timestamptz", "int8", "int8"],
    "ledger.aggregates": ["uuid", "text", "bytea"],
    "ledger.secrets": ["bytea", "uuid", "uuid", "timestamptz", "text", "inet[]"],
}
"""The tables of the ledger, and the types of their columns in order."""

_INDEXES: Final = """
    SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', c.conrelid::regclass, c.conname),
        format('ALTER TABLE %%s ADD CONSTRAINT %%I ', c.conrelid::regclass, c.conname)
            || pg_get_constraintdef(c.oid)
    FROM pg_constraint c WHERE conrelid = ANY(%(tables)s::regclass[]) AND contype IN ('p', 'u')
    UNION ALL
    SELECT format('DROP INDEX %%s', indexrelid::regclass), pg_get_indexdef(indexrelid)
    FROM pg_index WHERE indrelid = ANY(%(tables)s::regclass[])
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""


CLOCK_AND_IDS: Final = ClockAndIds(
    clock=lambda: datetime.now(UTC), new_id=uuid4, entropy=lambda: os.urandom(32)
)


@dataclass(frozen=True, slots=True)
class Seeded:
    """What a seed put into the ledger.

    events: how many. secrets: known ones, of tokens spread evenly over it, oldest first.
    """

    events: int
    token_ids: Sequence[UUID]
    team_ids: Sequence[UUID]
    secrets: Sequence[Secret]


def seed(
    owner: str, *, pepper: Pepper, tokens: int, uses_each: int = 0, secrets: int = 10_000
) -> Seeded:
    """Add tokens of teams of 200, each used `uses_each` times, in turn;
    returns when all is vacuumed.

    owner: connection string of the owner of the ledger. The views are brought along.
    secrets: how many tokens get a secret that is returned; the others get a digest that nothing
    leads to. Instants lie in the past month, a thousand events a second, after whatever the ledger
    holds already.
    """
    known = [mint(SecretKind.SCIM_LIVE, os.urandom(32)) for _ in range(min(tokens, secrets))]
    every = tokens // len(known)
    digests = {number * every: pepper.digest(secret) for number, secret in enumerate(known)}
    with psycopg.connect(owner) as connection:
        connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
        connection.execute(append.LOCK)
        record_pepper(connection, pepper)  # as the start of a service does that finds no ledger
        history = _history(connection, tokens=tokens, uses_each=uses_each, digests=digests)
        with _without_indexes(connection, list(_COLUMNS)):
            # An entry has more than the columns of its row.
            columns = _COLUMNS[_EVENTS]
            _copy(connection, _EVENTS, columns, (entry[: len(columns)] for entry in history.log()))
            step = max(1, _CHUNK // (1 + uses_each))
            for start in range(0, tokens, step):
                _copy_states(connection, history, range(start, min(start + step, tokens)))
        head = history.last_position
        connection.execute(
            "SELECT setval(pg_get_serial_sequence(%s, 'notification_id'), %s)", [_EVENTS, head]
        )
        connection.execute(
            "UPDATE ledger.projection_positions SET position = %s WHERE role = 'live'", [head]
        )
    _rebuild_views(owner)
    _settle(owner)
    return Seeded(tokens * (1 + uses_each), history.token_ids, history.team_ids, known)


def check(app: str, *, pepper: Pepper, token_ids: Iterable[UUID]) -> None:
    """Assert that each token's state row equals the replay of its stream."""
    ledger = TokenLedger(app, pepper=pepper, clock_and_ids=CLOCK_AND_IDS)
    try:
        with psycopg.connect(app) as connection:
            for token_id in token_ids:
                row = connection.execute(append.LOAD, [[token_id]]).fetchone()
                assert row is not None, token_id
                _, kind, state, version, last_used_at, uses = row
                stored = decode_state(
                    kind, state, version=version, last_used_at=last_used_at, uses=uses
                )
                assert ledger.replay(token_id) == stored, token_id
    finally:
        ledger.close()


@dataclass(frozen=True)
class _History:
    """Every event of a seed by arithmetic: all creations first,
    then one use of each token after another.

    used: instant and stored bytes of a use, by commit; made once, because that is where the time
    goes.
    """

    first_position: int
    salt: int
    token_ids: Sequence[UUID]
    team_ids: Sequence[UUID]
    digests: Sequence[Digest]
    used: Sequence[tuple[datetime, bytes]]
    uses_each: int

    @property
    def last_position(self) -> int:
        return self.first_position + len(self.token_ids) * (1 + self.uses_each) - 1

    def log(self) -> Iterator[LogEntry]:
        """In the order of the ledger."""
        numbers = range(len(self.token_ids))
        for number in numbers:
            yield _entry(self.first_position + number, self.created(number))
        for round_ in range(1, self.uses_each + 1):
            for number in numbers:
                yield self.use(number, round_)

    def created(self, number: int) -> Recorded:
        """The first event of a token."""
        at, _ = self.used[number // _COMMIT]
        creation = ScimToken.create(
            team_id=self.team_ids[number // TEAM_SIZE],
            name=f"Okta provisioning {number}",
            created_by=Actor(user_id=UUID(int=self.salt), api_token_id=None),
            digest=self.digests[number],
            expires_at=None,
            at=at,
        )
        return Recorded(self.token_ids[number], 1, at, UUID(int=self.salt + number), creation[0])

    def use(self, number: int, round_: int) -> LogEntry:
        """The use of a token in one round, from 1."""
        after = round_ * len(self.token_ids) + number
        at, state = self.used[after // _COMMIT]
        command_id = UUID(int=self.salt + after)
        return LogEntry(
            self.first_position + after,
            self.token_ids[number],
            1 + round_,
            Used.topic,
            at,
            command_id,
            state,
        )


def _history(
    connection: Connection, *, tokens: int, uses_each: int, digests: dict[int, Digest]
) -> _History:
    row = connection.execute(
        "SELECT coalesce(max(notification_id), 0), max(at) FROM ledger.events"
    ).fetchone()
    assert row is not None
    head, last_at = row
    now = datetime.now(UTC).replace(microsecond=0)
    start_at = now - _AGE if last_at is None else last_at + _STEP
    instants = [
        start_at + number * _STEP for number in range(tokens * (1 + uses_each) // _COMMIT + 1)
    ]
    assert instants[-1] < now, "the ledger's future is not ours to write"
    token_ids = [uuid4() for _ in range(tokens)]
    return _History(
        first_position=head + 1,
        salt=uuid4().int >> 1,
        token_ids=token_ids,
        team_ids=[uuid4() for _ in range(0, tokens, TEAM_SIZE)],
        digests=[
            digests.get(number) or Digest(sha256(token_id.bytes).digest(), 1)
            for number, token_id in enumerate(token_ids)
        ],
        used=[
            (at, REGISTRY.encode(Used(count=1, first_at=at, presentation=_IDP))) for at in instants
        ],
        uses_each=uses_each,
    )


def _entry(position: int, recorded: Recorded) -> LogEntry:
    return LogEntry(
        position,
        recorded.originator_id,
        recorded.originator_version,
        recorded.event.topic,
        recorded.at,
        recorded.command_id,
        REGISTRY.encode(recorded.event),
    )


def _copy_states(connection: Connection, history: _History, numbers: range) -> None:
    """States and secrets of some tokens: their uses move the heads alone, as the gate has it."""
    heads, aggregates, secrets = [], [], []
    for number in numbers:
        created = history.created(number)
        last_used_at = history.use(number, history.uses_each).at if history.uses_each else None
        token = evolve(None, created)
        version = token.version + history.uses_each
        heads.append((token.id, version, last_used_at, history.uses_each, version >> 6))
        aggregates.append((token.id, kind_of(created).name, encode_state(token)))
        # Text, because "infinity" has no Python value.
        secrets += [
            (row.digest, token.id, token.stream_team, "infinity", None, None)
            for row in token.secret_rows()
        ]
    for table, rows in (("ledger.stream_heads", heads), ("ledger.aggregates", aggregates)):
        _copy(connection, table, _COLUMNS[table], rows)
    _copy(connection, "ledger.secrets", None, secrets)


def _copy(
    connection: Connection, table: str, types: Sequence[str] | None, rows: Iterable[Sequence[Any]]
) -> None:
    """types: of the columns, for the binary format; None for text."""
    statement = sql.SQL("COPY {} FROM STDIN {}").format(
        sql.Identifier(*table.split(".")), sql.SQL("" if types is None else "(FORMAT binary)")
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        if types is not None:
            copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def _rebuild_views(owner: str) -> None:
    """As the role that the views belong to; the live ones, which know nothing of it, differ."""
    with psycopg.connect(owner, autocommit=True) as connection:
        row = connection.execute(
            "SELECT tableowner FROM pg_tables WHERE schemaname = 'views'"
        ).fetchone()
        assert row is not None
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(row[0])))
        for projection in PROJECTIONS:
            rebuild(connection, projection, accepts_difference=True)
        drop_old(connection, PROJECTIONS)


@contextmanager
def _without_indexes(connection: Connection, tables: Sequence[str]) -> Iterator[None]:
    indexes = connection.execute(_INDEXES, {"tables": list(tables)}).fetchall()
    for drop, _ in indexes:
        connection.execute(drop)
    yield
    for _, create in indexes:
        connection.execute(create)


def _settle(owner: str) -> None:
    """Leave no work for later: hint bits, statistics, dirty pages."""
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
