"""Uses and refusals of API tokens, which are one a minute at most and tell no secret, leave too."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import psycopg
import pytest
from hypothesis import example, settings
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain.api_token.events import Created, Refused, Used
from domain.api_token.permissions import Permission
from domain.archive.extended import ARCHIVE_ID
from domain.event import Event
from domain.eventstore.archive import stretches as stretches_module
from domain.eventstore.repair import repair_states
from domain.scim_token.events import Presentation
from projections.archive.check import check_archive
from projections.ledger_check import check_ledger
from projections.rebuild.run import check_view
from projections.registry import PROJECTIONS
from tests.conftest import Database, catch_up, new_database
from tests.domain.scenario import ADA, FIRST, SECOND, T0, TEAM_ID
from tests.projections.archive.archiving import HOUR, SOURCES, archive
from tests.projections.history import Fact, given

TOKENS: Final = (UUID(int=1), UUID(int=2))
WHY: Final = (("permission", Permission.AUDIT_READ), ("revoked", None), ("expired", None))
STEPS: Final = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["used"] * 3 + ["refused"]),
        st.sampled_from([timedelta(minutes=1), 25 * timedelta(minutes=1), 3 * HOUR]),
        st.sampled_from([*SOURCES, "fe80::1%eth0", "unix:", ""]),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=25,
)
Step = tuple[int, str, timedelta, str | None, int]


def facts(steps: Sequence[Step]) -> list[Fact]:
    found: list[Fact] = [
        (
            id_,
            Created(
                user_id=ADA.user_id or TEAM_ID,
                teams=None,
                permissions=(Permission.AUDIT_READ,),
                digest=digest,
                created_by=None,
                expires_at=None,
            ),
            T0,
        )
        for id_, digest in zip(TOKENS, (FIRST, SECOND), strict=True)
    ]
    at = T0
    for number, kind, later, source, why in steps:
        at += later
        how = Presentation(door="api", source=source, path_class="scim-token/{id}")
        event: Event = Used(None if why == 2 else how)
        if kind == "refused":
            reason, permission = WHY[why]
            event = Refused(reason=reason, permission=permission, presentation=how)
        found.append((TOKENS[number], event, at))
    return found


def check(server: str, directory: Path, steps: Sequence[Step], ages: Sequence[int]) -> None:
    with new_database(server) as database:
        given(database, *facts(steps))
        before = stored(database)
        removed = sum(archive(database, directory, T0 + age * HOUR).removed for age in ages)
        catch_up(database)
        assert stored(database) == before
        with psycopg.connect(database.app, autocommit=True) as app:
            checked = check_ledger(app)
            assert (checked.damage, checked.archived) == (None, removed)
            assert check_archive(app, directory) is None
            assert [check_view(app, each) for each in PROJECTIONS] == [None] * len(PROJECTIONS)
        with psycopg.connect(database.owner) as owner:
            repair_states(owner, by="tests", reason="tests")
        assert stored(database) == before


def stored(database: Database) -> list[str]:
    """What is kept of the tokens beside their events: by it they are let in, listed and counted."""
    with psycopg.connect(database.owner) as owner:
        return [
            row
            for table in ("stream_heads", "aggregates", "api_tokens", "secrets")
            for (row,) in owner.execute(
                f"SELECT t::text FROM ledger.{table} t ORDER BY 1".encode()
            ).fetchall()
            if str(ARCHIVE_ID) not in row
        ]


MANY: Final[list[Step]] = [(0, "used", timedelta(minutes=1), SOURCES[0], why) for why in (0, 2) * 5]
REFUSED: Final[list[Step]] = [
    (0, "refused", 25 * timedelta(minutes=1), SOURCES[0], why) for why in (0, 1, 0, 2, 1, 0, 0)
]


@settings(max_examples=4)
@example(steps=[*MANY, *REFUSED, *MANY], ages=[1, 3, 9], size=3)
@given_any(
    steps=STEPS,
    ages=st.lists(st.integers(0, 50), min_size=1, max_size=3).map(sorted),
    size=st.integers(1, 12),
)
def test_what_is_kept_of_them_stays(
    server: str,
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[Step],
    ages: Sequence[int],
    size: int,
) -> None:
    with pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(stretches_module, "EVENTS", size)
        check(server, tmp_path_factory.mktemp("archive"), steps, ages)
