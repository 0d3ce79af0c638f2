"""An older state of the ledger, beneath a running service and before its start:
nobody is let in before the loss is declared.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Database
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
from tests.service import running_service, until

pytestmark = pytest.mark.long

_WARNED: Final = "SELECT 1 FROM ledger.events WHERE topic = 'scim_token.first_used.v1'"


@pytest.fixture
def host(database: Database, tmp_path: Path) -> Host:
    return Host(database, tmp_path)


def is_declared(host: Host, *, saved: int, lost: int) -> None:
    """Say what is lost, and that it is."""
    said = host.command("recover")
    assert (said["lost"], said["is_done"]) == (f"events {saved + 1} to {lost}", False)
    assert host.newest() == saved
    assert "reason" in host.command("recover", "--declare-loss", is_good=False)
    host.command("recover", "--declare-loss", "--reason", "the disk broke")
    assert host.newest() == host.known() == lost + 1
    assert "nothing is lost" in host.command("recover", is_good=False)


def test_who_was_revoked_after_the_backup_is_not_let_in_by_its_restore(host: Host) -> None:
    with running_service(host.database, environment=host.environment) as service:
        caller = service.api_token()
        revoked, good = created(service, caller), created(service, caller)
        assert presented(service, revoked) == 200
        until(lambda: bool(service.query(_WARNED)), what="the last event by itself")
        host.command("backup", "ledger.dump")
        saved = host.newest()
        service.client.delete(f"/scim-token/{revoked['id']}", auth=caller)
        assert presented(service, revoked) == 401
        until(lambda: host.known() == host.newest(), what="the head file")

        host.restore()
        until(lambda: problems(service) != [], timeout_s=5, what="the notice")
        assert asked(service, caller, revoked["token"]) == LETS_NOBODY_IN
        (sentence,) = problems(service)
        assert sentence.startswith(f"the ledger ends with event {saved} of 20")
        assert f"this host has known event {host.known()}: it was restored" in sentence
        assert sentence.endswith(NEXT)
        told = [record for record in service.records() if record["event"] == "ledger.events_lost"]
        assert 1 <= len(told) <= 2, "once a process, not once a request"
        assert all("this host has known" in record["reason"] for record in told)
        refused = host.command(
            "recover", "--declare-loss", "--reason", "the disk broke", is_good=False
        )
        assert "stop every one" in refused, "or the revoked would be let in before they are again"

    lost = host.known()
    finding = host.doctor()
    assert finding["status"] == "fail"
    assert "scim-ledger recover" in finding["remedy"]
    with running_service(host.database, environment=host.environment, readiness=503) as service:
        assert asked(service, caller, revoked["token"]) == LETS_NOBODY_IN
    assert "known event" in host.command("token", "revoke", revoked["id"], is_good=False)

    is_declared(host, saved=saved, lost=lost)
    host.command("token", "revoke", revoked["id"])

    with running_service(host.database, environment=host.environment) as service:
        assert presented(service, good) == 200
        assert presented(service, revoked) == 401
        until(lambda: host.known() == host.newest(), what="the head file")
        is_told(service, caller, saved=saved, lost=lost, position=lost + 1, reason="the disk broke")
    assert host.head_file.stat().st_mode & 0o777 == 0o600


def test_planted_a_service_without_a_head_file_lets_the_revoked_in(host: Host) -> None:
    host.environment = {}
    with running_service(host.database) as service:
        caller = service.api_token()
        revoked = created(service, caller)
        host.command("backup", "ledger.dump")
        service.client.delete(f"/scim-token/{revoked['id']}", auth=caller)
        assert presented(service, revoked) == 401
        host.restore()
        with pytest.raises(AssertionError, match="the notice did not happen"):
            until(lambda: problems(service) != [], timeout_s=3, what="the notice")
        assert presented(service, revoked) == 200
    assert host.doctor()["status"] == "warn"
