"""What is due of any tokens, and how many there are of a kind: the statements tell what the rule
says of the rows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.figures import queries as figures
from projections.scim_tokens.walk import NEWEST
from projections.warnings import due, queries
from tests.conftest import new_database
from tests.projections.scim_tokens.test_token_plans import make
from tests.projections.warnings.test_due_plans import TABLES, VIEWS

AT: Final = datetime(2026, 6, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
UNUSED_AT: Final = AT - 90 * DAY
INSTANTS: Final = st.sampled_from([AT + days * DAY for days in (-91, -90, -89, -1, 0, 1, 2, 7, 8)])
"""Few, and those at which the rules turn."""
MAYBE: Final = st.none() | INSTANTS
SELDOM: Final = st.sampled_from([None] * 4 + [AT])
NOBODY: Final = UUID(int=0)
DAYS: Final = [1, 7]
KINDS: Final = ("scim_token.resumed", "scim_token.suspended", "scim_token.used")


class Token(NamedTuple):
    """A row of the view, and how it differs from others; its id is of its number."""

    number: int
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    suspended_at: datetime | None
    next_warning_at: datetime | None
    unused_since: datetime | None
    rotation_ends_at: datetime | None
    rotation_due_at: datetime | None

    @property
    def id(self) -> UUID:
        return UUID(int=self.number)

    @property
    def place(self) -> tuple[datetime, UUID]:
        return self.created_at, self.id

    @property
    def left_alone_since(self) -> datetime:
        return self.last_used_at or self.created_at

    @property
    def state(self) -> str:
        """The first that is true: what ended for good comes before what may be taken back."""
        if self.revoked_at:
            return "revoked"
        if not self.has_no_end_until(AT):
            return "expired"
        return "suspended" if self.suspended_at else "active"

    def has_no_end_until(self, at: datetime) -> bool:
        return self.expires_at is None or self.expires_at > at

    @property
    def rotation_is_to_be_told_of(self) -> bool:
        """Of one that ends with its token, the warnings of that tell."""
        return (
            self.rotation_ends_at is not None
            and self.rotation_due_at is not None
            and self.rotation_due_at <= AT
            and self.has_no_end_until(self.rotation_ends_at)
        )


class Source(NamedTuple):
    token: int
    address: int
    first_at: datetime
    is_news: bool
    told: int

    @property
    def key(self) -> bytes:
        return UUID(int=self.token).bytes + b"%d.0.2.1" % self.address


class Fact(NamedTuple):
    token: int
    kind: str
    at: datetime


TOKENS: Final = st.lists(
    st.builds(
        Token,
        st.integers(1, 5),
        INSTANTS,
        *(MAYBE, MAYBE, SELDOM, SELDOM, MAYBE, MAYBE, MAYBE, INSTANTS),
    ).map(
        lambda token: token._replace(
            rotation_due_at=token.rotation_ends_at and token.rotation_due_at
        )
    ),
    max_size=5,
    unique_by=lambda token: token.number,
)
SOURCES: Final = st.lists(
    st.builds(
        Source, st.integers(1, 2), st.integers(1, 3), INSTANTS, st.booleans(), st.integers(0, 1)
    ),
    max_size=4,
    unique_by=lambda source: source.key,
)
FACTS: Final = st.lists(
    st.builds(Fact, st.integers(1, 5), st.sampled_from(KINDS), INSTANTS), max_size=5
)
LIMITS: Final = st.integers(1, 5)


@pytest.fixture(scope="module")
def tables(server: str) -> Iterator[psycopg.Connection[Any]]:
    with new_database(server) as database, psycopg.connect(database.app) as connection:
        for view in VIEWS:
            make(connection, view)
        connection.commit()
        yield connection


def put(
    connection: psycopg.Connection[Any],
    tokens: Sequence[Token],
    sources: Sequence[Source] = (),
    facts: Sequence[Fact] = (),
) -> None:
    columns = ", ".join(Token._fields[1:])
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {TABLES['scim_tokens']} (id, {columns}, team_id, name, created_by,"
            f" updated_at, before_use, last_use, after_use)"
            f" VALUES (%s{', %s' * (len(Token._fields) - 1)}, %s, 'Okta', %s, %s, '', '', '')",
            [(token.id, *token[1:], NOBODY, NOBODY, AT) for token in tokens],
        )
        cursor.executemany(
            f"INSERT INTO {TABLES['token_sources']} (key, first_at, is_news, told)"
            " VALUES (%s, %s, %s, %s)",
            [(source.key, source.first_at, source.is_news, source.told) for source in sources],
        )
        cursor.executemany(
            f"INSERT INTO {TABLES['audit_trail']} (position, at, token_id, use_id, count, kind)"
            " VALUES (%s, %s, %s, %s, 1, %s)",
            [
                (position, fact.at, UUID(int=fact.token), NOBODY, fact.kind)
                for position, fact in enumerate(facts, start=1)
            ],
        )


def asked(
    connection: psycopg.Connection[Any], statement: str, **parameters: Any
) -> list[tuple[Any, ...]]:
    rows = connection.execute(statement.format(**TABLES).encode(), parameters).fetchall()
    assert all(is_there for is_there, *_ in rows)
    return [tuple(row) for _, *row in rows]


def assert_first(
    found: Sequence[tuple[Any, ...]], waiting: Mapping[tuple[Any, ...], datetime], limit: int
) -> None:
    """What has waited longest comes first; what waits as long, in any order."""
    assert [waiting[row] for row in found] == sorted(waiting.values())[:limit]
    assert len({*found}) == len(found)


@settings(max_examples=100)
@given(tokens=TOKENS, sources=SOURCES, limit=LIMITS)
def test_what_is_due_is_told_and_since_when(
    tables: psycopg.Connection[Any],
    *,
    tokens: list[Token],
    sources: list[Source],
    limit: int,
) -> None:
    put(tables, tokens, sources)
    ends = asked(tables, due._SQL["ends"], at=AT, limit=limit)
    rotation_ends = asked(tables, due._SQL["rotation_ends"], at=AT, limit=limit)
    news = asked(tables, due._SQL["sources"], limit=limit)
    ((oldest,),) = asked(tables, queries._SQL["oldest"], at=AT)
    tables.rollback()

    ending = {
        (token.id, token.expires_at, token.next_warning_at): token.next_warning_at
        for token in tokens
        if token.next_warning_at is not None and token.next_warning_at <= AT
    }
    assert_first(ends, ending, limit)
    rotations = [token for token in tokens if token.rotation_is_to_be_told_of]
    due_since = [token.rotation_due_at for token in rotations if token.rotation_due_at is not None]
    told = {
        (token.id, None, token.rotation_ends_at): token.rotation_due_at
        for token in rotations
        if token.rotation_due_at is not None
        and token.rotation_ends_at is not None
        and token.rotation_ends_at > AT
    }
    assert_first(rotation_ends, told, limit)
    to_be_told = [source for source in sources if source.is_news and not source.told]
    is_first = {
        source.key: source
        == min(
            (other for other in sources if other.token == source.token),
            key=lambda other: (other.first_at, other.key),
        )
        for source in to_be_told
    }
    assert_first(
        news,
        {(source.key, is_first[source.key]): source.first_at for source in to_be_told},
        limit,
    )
    since = [*ending.values(), *due_since, *(source.first_at for source in to_be_told)]
    assert oldest == min(since, default=None)


@settings(max_examples=150)
@given(tokens=TOKENS, facts=FACTS, behind=st.none() | st.integers(0, 4), limit=LIMITS)
def test_a_silence_is_told_of_whoever_could_have_used_the_token(
    tables: psycopg.Connection[Any],
    *,
    tokens: list[Token],
    facts: list[Fact],
    behind: int | None,
    limit: int,
) -> None:
    place = NEWEST
    if behind is not None and behind < len(tokens):
        place = tokens[behind].place
    put(tables, tokens, facts=facts)
    found = asked(
        tables,
        due._SQL["silences"],
        at=AT,
        unused_at=UNUSED_AT,
        created_at=place[0],
        id=place[1],
        limit=limit,
    )
    tables.rollback()

    def silence(token: Token) -> tuple[datetime | None, datetime | None]:
        """Its beginning where it is to be told, and when the token was resumed."""
        if (
            token.left_alone_since > UNUSED_AT
            or token.suspended_at is not None
            or not token.has_no_end_until(AT)
            or token.unused_since == token.left_alone_since
        ):
            return None, None
        resumed = [
            fact.at
            for fact in facts
            if fact.token == token.number and fact.kind == "scim_token.resumed"
        ]
        if resumed and resumed[-1] > UNUSED_AT:
            return None, resumed[-1]
        return token.left_alone_since, resumed[-1] if resumed else None

    walked = sorted(
        (token for token in tokens if token.revoked_at is None and token.place < place),
        key=lambda token: token.place,
        reverse=True,
    )
    assert found == [(*token.place, *silence(token)) for token in walked[:limit]]


@settings(max_examples=100)
@given(tokens=TOKENS, limit=LIMITS)
def test_tokens_are_counted_by_what_they_are_and_by_when_they_end(
    tables: psycopg.Connection[Any], *, tokens: list[Token], limit: int
) -> None:
    put(tables, tokens)
    states = asked(tables, figures._SQL["tokens"], at=AT, limit=limit)
    asking = {"at": AT, "days": DAYS, "limit": limit}
    expiring = asked(tables, queries._SQL["expiring"], **asking)
    rotations = asked(tables, queries._SQL["rotations_ending"], **asking)
    tables.rollback()

    newest = sorted(tokens, key=lambda token: token.place, reverse=True)
    revoked = [token for token in newest if token.revoked_at is not None]
    living = [token for token in newest if token.revoked_at is None]
    of_state = Counter(token.state for token in (*living[:limit], *revoked[:limit]))
    names = ("active", "suspended", "expired", "revoked")
    assert sorted(states) == sorted((name, of_state[name]) for name in names)

    def until(ends: Sequence[datetime | None]) -> list[tuple[int, int]]:
        return [
            (days, min(limit, sum(end is not None and AT < end <= AT + days * DAY for end in ends)))
            for days in DAYS
        ]

    assert sorted(expiring) == until([token.expires_at for token in living])
    good = [token for token in tokens if token.has_no_end_until(AT)]
    assert sorted(rotations) == until([token.rotation_ends_at for token in good])
