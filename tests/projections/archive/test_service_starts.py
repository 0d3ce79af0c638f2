"""The service may start while the archive is extended, which takes hours on a large ledger."""

import psycopg
import pytest

from domain.eventstore.archive.stretches import take_turn
from tests.conftest import Database
from tests.projections.archive.archiving import HOUR, facts
from tests.projections.history import given
from tests.service import running_service

pytestmark = pytest.mark.long


def test_a_service_starts_while_the_archive_is_extended(database: Database) -> None:
    given(database, *facts([(0, "used", HOUR, "192.0.2.1", 2)]))
    with psycopg.connect(database.app, autocommit=True) as extends:
        take_turn(extends)
        with running_service(database) as service:
            assert service.client.get("/healthz").status_code == 200
