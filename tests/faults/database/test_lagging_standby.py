"""A standby without the last commits takes over from a primary that is gone: nobody is let in
before the loss is declared. One that has them all takes over, and the service goes on by itself.
A primary of before that comes back beside it is no reason to declare anything.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from domain.postgres.destinations import TwoPrimaries, require_one_primary
from tests.faults.host import (
    LETS_NOBODY_IN,
    NEXT,
    Host,
    asked,
    created,
    is_told,
    presented,
    problems,
)
from tests.faults.standby import Cluster, cluster
from tests.presenting import UNLIMITED
from tests.service import Caller, RunningService, running_service, until

pytestmark = pytest.mark.long

WITHIN_S: Final = 10.0
NEWEST: Final = "SELECT max(notification_id) FROM ledger.events"
REASON: Final = "db1 is gone, and db2 was behind"
TOLD: Final = (
    "two hosts of DATABASE_URL take writes and are two databases: "
    "stop the one that was the primary before the other was promoted"
)
OF_ONE_LEDGER: Final = (
    ("recover",),
    ("recover", "--declare-loss", "--reason", "db1 broke"),
    ("backup", "ledger.dump"),
    ("verify",),
    ("keys",),
    ("token", "revoke", str(uuid4())),
    ("migrate",),
)
"""Commands that would do it, or tell of it, on the first of the two alone."""


@pytest.fixture
def pair() -> Iterator[Cluster]:
    """No synchronous standby is demanded: the primary confirms by itself."""
    with cluster() as made:
        yield made


@pytest.fixture
def host(pair: Cluster, tmp_path: Path) -> Host:
    """It names both servers; whichever takes writes is the ledger's."""
    return Host(pair.database, tmp_path)


def revoke_unheard(
    pair: Cluster, service: RunningService, caller: Caller, token: Mapping[str, Any]
) -> None:
    """Revoke a token; the standby has all that came before, and does not hear of it."""
    pair.until_streaming()
    pair.cut_off_standby()
    service.client.delete(f"/scim-token/{token['id']}", auth=caller)


def took_over(pair: Cluster) -> None:
    """The primary dies as by a power failure, and the standby is promoted at once."""
    pair.kill_primary()
    pair.promote()


def test_who_was_revoked_is_not_let_in_by_a_standby_that_did_not_hear_of_it(
    pair: Cluster, host: Host
) -> None:
    environment = {**UNLIMITED, **host.environment}
    with running_service(pair.database, workers=2, environment=environment) as service:
        caller = service.api_token()
        revoked, good = created(service, caller), created(service, caller)
        assert [presented(service, each) for each in (revoked, good)] == [200, 200]
        revoke_unheard(pair, service, caller, revoked)
        assert [presented(service, each) for each in (revoked, good)] == [401, 200]
        until(lambda: host.known() == host.newest(), what="the head file")

        took_over(pair)
        until(lambda: "the ledger ends with" in str(problems(service)), timeout_s=WITHIN_S)
        ((saved,),), lost = pair.standby.ask(NEWEST), host.known()
        assert saved < lost
        for token in (revoked, good):
            assert asked(service, caller, token["token"]) == LETS_NOBODY_IN
        (sentence,) = problems(service)
        assert sentence.startswith(f"the ledger ends with event {saved} of 20")
        assert sentence.endswith(f"{lost}: it was restored from an older state{NEXT}")

    finding = host.doctor()
    assert finding["status"] == "fail"
    assert finding["found"].startswith(f"the ledger ends with event {saved} of 20")
    alone = pair.standby.database
    with running_service(alone, environment=host.environment, readiness=503) as service:
        assert asked(service, caller, revoked["token"]) == LETS_NOBODY_IN, "pointed there by hand"

    assert host.command("recover")["lost"] == f"events {saved + 1} to {lost}"
    host.command("recover", "--declare-loss", "--reason", REASON)
    declared = host.known()
    assert declared == host.newest() > lost
    host.command("token", "revoke", revoked["id"])
    with running_service(pair.database, environment=host.environment) as service:
        assert [presented(service, each) for each in (revoked, good)] == [401, 200]
        assert service.client.get("/readyz").status_code == 200
        is_told(service, caller, saved=saved, lost=lost, position=declared, reason=REASON)
    assert host.doctor()["status"] == "ok"


def test_planted_a_service_without_a_head_file_lets_the_revoked_in_by_that_standby(
    pair: Cluster,
) -> None:
    with running_service(pair.database, environment=UNLIMITED) as service:
        caller = service.api_token()
        revoked = created(service, caller)
        revoke_unheard(pair, service, caller, revoked)
        assert presented(service, revoked) == 401
        took_over(pair)
        until(lambda: presented(service, revoked) == 200, timeout_s=WITHIN_S, what="the loss")
        assert service.client.get("/readyz").status_code == 200


def test_a_standby_that_has_received_all_takes_over_and_the_service_goes_on(
    pair: Cluster, host: Host
) -> None:
    """Though it has applied nothing for long: what it has received, a promotion applies first."""
    environment = {**UNLIMITED, **host.environment}
    with running_service(pair.database, workers=2, environment=environment) as service:
        caller = service.api_token()
        revoked, good = created(service, caller), created(service, caller)
        pair.until_streaming()
        pair.standby.configure("recovery_min_apply_delay", "1h")
        ((behind,),) = pair.standby.ask(NEWEST)
        service.client.delete(f"/scim-token/{revoked['id']}", auth=caller)
        assert [presented(service, each) for each in (revoked, good)] == [401, 200]
        until(lambda: host.known() == host.newest(), what="the head file")
        pair.until_received()
        assert pair.standby.ask(NEWEST) == [(behind,)]
        assert behind < host.known()

        took_over(pair)
        until(lambda: presented(service, good) == 200, timeout_s=WITHIN_S, what="the service")
        until(lambda: service.client.get("/readyz").status_code == 200, timeout_s=WITHIN_S)
        assert presented(service, revoked) == 401
        until(lambda: host.known() == host.newest(), what="the head file")
        assert not [each for each in service.records() if each["event"] == "ledger.events_lost"]
    assert "nothing is lost" in host.command("recover", is_good=False)


def both_take_writes(pair: Cluster) -> None:
    """As after a primary that hung, was taken over from, and goes on."""
    pair.until_streaming()
    pair.cut_off_standby()
    pair.promote()


def test_what_the_new_primary_has_is_not_declared_lost_on_the_old_one(
    pair: Cluster, host: Host
) -> None:
    environment = {**UNLIMITED, **host.environment}
    both_take_writes(pair)
    with running_service(pair.standby.database, environment=environment) as service:
        caller = service.api_token()
        revoked, good = created(service, caller), created(service, caller)
        service.client.delete(f"/scim-token/{revoked['id']}", auth=caller)
        known = "SELECT max(notification_id) FROM ledger.events"
        until(lambda: [(host.known(),)] == pair.standby.ask(known), what="the head file")

    with running_service(pair.database, environment=environment, readiness=503) as service:
        assert NEXT in problems(service)[0], "the old one is reached, and lets nobody in"
        for words in OF_ONE_LEDGER:
            assert TOLD in host.command(*words, is_good=False)
        found = host.doctor("hosts")
        assert (found["status"], f"{found['found']}: {found['remedy']}") == ("fail", TOLD)

        pair.kill_primary()
        until(lambda: presented(service, good) == 200, what="the service on the new one")
        assert presented(service, revoked) == 401
    assert host.doctor("hosts")["status"] == "ok"
    assert "nothing is lost" in host.command("recover", is_good=False)


def test_one_primary_is_one_by_whatever_names_it_is_called(pair: Cluster) -> None:
    require_one_primary(pair.database.app)  # the other one is a standby
    both_take_writes(pair)
    with pytest.raises(TwoPrimaries):
        require_one_primary(pair.database.app)
    require_one_primary(pair.primary.database.app)
    twice = Cluster(pair.primary, pair.primary)
    require_one_primary(twice.database.app)
