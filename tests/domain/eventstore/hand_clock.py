"""A clock that moves when a test says so, and a ledger that believes it."""

import os
from datetime import datetime, timedelta
from typing import Final, LiteralString
from uuid import uuid4

import psycopg

from domain.commands import ClockAndIds
from tests.conftest import Database

BELIEVES: Final[LiteralString] = """
    CREATE OR REPLACE FUNCTION ledger.is_believed(clock timestamptz) RETURNS boolean LANGUAGE sql
    AS $$ SELECT true $$;
    CREATE OR REPLACE FUNCTION ledger.instant(clock timestamptz) RETURNS timestamptz LANGUAGE sql
    AS $$ SELECT clock $$
"""
"""Ledger time as it was before the database compared clocks:
whoever is ahead moves it, for good.
"""


def believing_any_clock(database: Database) -> str:
    """The app role's connection string of a database that takes whatever instant a test gives it.

    Nothing in the service can ask for that: it takes the owner, and another function.
    """
    with psycopg.connect(database.owner) as owner:
        # threads of one test may ask at the same time
        owner.execute("SELECT pg_advisory_xact_lock(1)")
        owner.execute(BELIEVES)
    return database.app


class HandClock:
    """Shows `now` until it is set anew, backwards too."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        """Move it."""
        self.now += by

    @property
    def clock_and_ids(self) -> ClockAndIds:
        """Sources of a ledger that lives by this clock."""
        return ClockAndIds(clock=self, new_id=uuid4, entropy=lambda: os.urandom(32))
