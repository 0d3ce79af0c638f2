"""B6: a service starts with the keys of its ledger,
and says which one is wrong before it refuses anybody.
"""

import asyncio
from collections.abc import Iterator, Sequence
from threading import Timer
from typing import Final
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewApiToken, NewScimToken
from domain.errors import PepperMismatch, TokenUnknown
from domain.eventstore.peppers.fingerprints import has_pepper, record_pepper, require_pepper
from domain.eventstore.peppers.newer_keys import GOOD_FOR_S
from domain.ledger import TokenLedger
from domain.postgres.connection import open_connection
from domain.postgres.session import SERVING
from domain.scim_token.events import Presentation
from domain.secret import Pepper, SecretKind, mint
from tests.conftest import CLOCK_AND_IDS, Database
from tests.domain.scenario import created
from tests.projections.given_events import record

KEYS: Final = [letter * 32 for letter in (b"a", b"b", b"c", b"d")]
Keys = list[bytes]


@pytest.fixture
def connection(database: Database) -> Iterator[psycopg.Connection]:
    """The app role's, in a transaction: each example begins with a ledger that knows no key."""
    with psycopg.connect(database.app) as opened:
        yield opened


@pytest.fixture
def owner(database: Database) -> Iterator[psycopg.Connection]:
    """The owner's, who alone says that a key is retired; in a transaction likewise."""
    with psycopg.connect(database.owner) as opened:
        yield opened


def outcome(
    connection: psycopg.Connection, known: Sequence[bytes], given_: Sequence[bytes]
) -> str | None:
    """What a start with these keys is told by a ledger that was started with those;
    None if it goes well.
    """
    try:
        if known:
            record_pepper(connection, Pepper(known))
        record_pepper(connection, Pepper(given_))
    except PepperMismatch as mismatch:
        return str(mismatch)
    else:
        return None
    finally:
        connection.rollback()


def are_new(added: Sequence[bytes | None], known: Sequence[bytes]) -> bool:
    """Whether no key is added that the ledger has, or had, or twice."""
    keys = [key for key in added if key is not None]
    return len({*keys, *known}) == len(keys) + len({*known})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    known=st.lists(st.sampled_from(KEYS), max_size=4),
    keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4),
)
def test_a_service_starts_if_and_only_if_its_keys_extend_the_ledgers(
    connection: psycopg.Connection, known: Keys, keys: Keys
) -> None:
    """Permutations, drops, replacements and repetitions: whatever four keys can do."""
    refusal = outcome(connection, known, keys)
    extends = keys[: len(known)] == known
    assert (refusal is None) == (extends and (not known or are_new(keys[len(known) :], known)))
    if refusal is not None and extends:
        assert refusal.endswith(" again: put a new one in its place")
    elif refusal is not None:
        wrong = next(
            number
            for number, key in enumerate(known, start=1)
            if keys[number - 1 : number] != [key]
        )
        is_missing = wrong > len(keys)
        assert refusal == (
            "the pepper is not the one of this ledger: its key of generation "
            f"{wrong} is {'missing' if is_missing else 'another'}; "
            "give every key that the ledger knows, in order, the oldest first"
        )
    assert not any(key.decode() in str(refusal) for key in KEYS)


@st.composite
def some_left_out(draw: st.DrawFn, known: Keys) -> list[bytes | None]:
    """The ledger's keys without some of the older ones, or whatever else four keys can do."""
    if draw(st.booleans()):
        return [*(draw(st.sampled_from([key, None])) for key in known[:-1]), known[-1]]
    older = draw(st.lists(st.sampled_from([None, *KEYS[:3]]), max_size=3))
    return [*older, draw(st.sampled_from(KEYS))]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), known=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True))
def test_of_the_ledgers_keys_the_retired_ones_may_be_left_out_and_no_others(
    owner: psycopg.Connection, data: st.DataObject, known: Keys
) -> None:
    retired = {place for place in range(1, len(known)) if data.draw(st.booleans())}
    keys = data.draw(some_left_out(known))
    is_given = [key == known[place] for place, key in enumerate(keys[: len(known)])]
    may_start = (
        len(keys) >= len(known)
        and all(right or keys[place] is None for place, right in enumerate(is_given))
        and {place + 1 for place, key in enumerate(keys) if key is None} <= retired
        and are_new(keys[len(known) :], known)
    )
    said = None
    try:
        record_pepper(owner, Pepper(known))
        owner.execute(
            "UPDATE ledger.pepper_generations SET retired_at = now() WHERE generation = ANY(%s)",
            [list(retired)],
        )
        record_pepper(owner, Pepper(keys))
    except PepperMismatch as mismatch:
        said = str(mismatch)
    finally:
        owner.rollback()
    assert (said is None) == may_start
    if said is not None and retired:
        assert (
            "the word retired in the place" in said
            or "has retired may be left out" in said
            or "again: put a new one in its place" in said
        )


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(known=st.lists(st.sampled_from(KEYS[:3]), min_size=1, max_size=3))
def test_what_is_recorded_is_not_recorded_again(
    connection: psycopg.Connection, known: Keys
) -> None:
    try:
        assert record_pepper(connection, Pepper(known)) == len(known)
        assert record_pepper(connection, Pepper(known)) == 0
        assert record_pepper(connection, Pepper([*known, KEYS[3]])) == 1
        assert require_pepper(connection, Pepper([*known, KEYS[3]])) == len(known) + 1
    finally:
        connection.rollback()


def test_of_two_processes_that_bring_two_new_keys_one_is_refused(database: Database) -> None:
    with psycopg.connect(database.app) as one, psycopg.connect(database.app) as other:
        record_pepper(one, Pepper(KEYS[:1]))
        one.commit()
        require_pepper(other, Pepper([KEYS[0], KEYS[2]]))  # not yet another's
        record_pepper(one, Pepper([KEYS[0], KEYS[1]]))
        one.commit()
        with pytest.raises(PepperMismatch, match="generation 2 is another"):
            record_pepper(other, Pepper([KEYS[0], KEYS[2]]))


def test_a_ledger_from_before_trusts_the_first_start_that_has_enough_keys(
    database: Database,
) -> None:
    """There is nothing to compare them with but the generations that its digests name."""
    record(database, created())
    with psycopg.connect(database.owner) as owner:
        owner.execute(
            "UPDATE ledger.aggregates SET state = "
            "replace(convert_from(state, 'UTF8'), '\"key_generation\":1', "
            "'\"key_generation\":2')::bytea"
        )
    with psycopg.connect(database.app) as connection:
        assert has_pepper(connection)
        with pytest.raises(PepperMismatch, match="generation 2 is missing"):
            record_pepper(connection, Pepper(KEYS[:1]))
        assert record_pepper(connection, Pepper(KEYS[:2])) == 2


def test_a_process_that_has_begun_goes_on_while_another_brings_a_new_key(
    database: Database,
) -> None:
    """A rolling restart: the old ones reconnect with the keys that they have,
    a new one needs them all.
    """
    old, both = Pepper(KEYS[:1]), Pepper(KEYS[:2])

    def of(pepper: Pepper) -> TokenLedger:
        return TokenLedger(database.app, pepper=pepper, clock_and_ids=CLOCK_AND_IDS)

    async def main() -> None:
        async with of(old) as running, of(old) as late:
            await running.time()
            with psycopg.connect(database.app) as connection:
                record_pepper(connection, both)
            with psycopg.connect(database.owner) as owner:
                owner.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            assert await running.time()
            with pytest.raises(PepperMismatch, match="generation 2 is missing"):
                await late.time()

    with psycopg.connect(database.app) as connection:
        record_pepper(connection, old)
    asyncio.run(main())


def test_a_secret_under_a_newer_key_is_not_said_to_be_unknown(database: Database) -> None:
    """By a process of before the key was added: neither to who presents it, nor to who burns it."""
    old, both = Pepper(KEYS[:1]), Pepper(KEYS[:2])
    operator, idp = Operator(uuid4()), Presentation(door="scim")
    ask = NewApiToken(uuid4(), None, tuple(Permission), None)

    async def main() -> None:
        async with (
            TokenLedger(database.app, pepper=old, clock_and_ids=CLOCK_AND_IDS) as running,
            TokenLedger(database.app, pepper=both, clock_and_ids=CLOCK_AND_IDS) as new,
        ):
            _, known = await running.create_scim_token(NewScimToken(uuid4(), "Okta"), by=operator)
            unknown = mint(SecretKind.SCIM_LIVE, bytes(32))
            with pytest.raises(TokenUnknown):
                await running.authenticate(unknown, idp)
            with psycopg.connect(database.app) as connection:
                record_pepper(connection, both)
            _, newer = await new.create_scim_token(NewScimToken(uuid4(), "Okta"), by=operator)
            _, api = await new.create_api_token(ask)
            await asyncio.sleep(GOOD_FOR_S)  # what a start takes, at least
            for question in (
                running.authenticate(newer, idp),
                running.burn_scim_token(newer),
                running.team_of(newer),
                running.api_token_lookup.find(old.candidates(api)),
                running.authenticate(unknown, idp),
            ):
                with pytest.raises(PepperMismatch, match="restart it with all"):
                    await question
            assert (await running.authenticate(known, idp)).use_id is not None
            for secret in (known, newer):
                assert (await new.authenticate(secret, idp)).use_id is not None
            with pytest.raises(TokenUnknown):
                await new.authenticate(unknown, idp)

    with psycopg.connect(database.app) as connection:
        record_pepper(connection, old)
    asyncio.run(main())


def test_a_process_that_has_begun_is_refused_by_another_ledger(database: Database) -> None:
    """One that was restored, or that a connection string leads to by now."""

    async def main() -> None:
        async with TokenLedger(
            database.app, pepper=Pepper(KEYS[:2]), clock_and_ids=CLOCK_AND_IDS
        ) as running:
            await running.time()
            with psycopg.connect(database.owner) as owner:
                owner.execute("DELETE FROM ledger.pepper_generations")
                record_pepper(owner, Pepper(KEYS[2:]))
                owner.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            with pytest.raises(PepperMismatch, match="generation 1 is another"):
                await running.time()

    with psycopg.connect(database.app) as connection:
        record_pepper(connection, Pepper(KEYS[:2]))
    asyncio.run(main())


def test_the_app_role_can_neither_change_nor_forget_a_generation(database: Database) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        record_pepper(connection, Pepper(KEYS[:1]))
        for statement in (
            "UPDATE ledger.pepper_generations SET generation = 2",
            "DELETE FROM ledger.pepper_generations",
            "TRUNCATE ledger.pepper_generations",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_planted_a_ledger_that_compares_nothing_is_noticed(database: Database) -> None:
    with psycopg.connect(database.owner) as owner:
        owner.execute(
            "CREATE OR REPLACE FUNCTION ledger.require_pepper(fingerprints bytea[]) RETURNS void "
            "LANGUAGE sql STABLE AS $$ SELECT $$"
        )
    with psycopg.connect(database.app) as connection, pytest.raises(AssertionError):
        assert outcome(connection, KEYS[:2], KEYS[1:3]) is not None


def test_the_keys_of_an_older_ledger_are_looked_at_however_long_that_takes(
    database: Database,
) -> None:
    """Of a million tokens it takes longer than a session of a service may."""
    record(database, created())
    with (
        psycopg.connect(database.owner) as holder,
        open_connection(database.app, session=SERVING) as opened,
    ):
        opened.execute("SET statement_timeout = '50ms'")
        holder.execute("LOCK TABLE ledger.aggregates IN ACCESS EXCLUSIVE MODE")
        release = Timer(0.3, holder.rollback)
        release.start()
        assert record_pepper(opened, Pepper(KEYS[:1])) == 1
        release.join()
        assert opened.execute("SHOW statement_timeout").fetchone() == ("50ms",)
