"""A19: an API token for some teams has nothing that concerns them all unless
that was asked for by name.
"""

import json
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from domain.api_token.permissions import DEPLOYMENT_WIDE, Permission
from domain.commands import NewApiToken
from tests.api.cli.test_commands import run
from tests.service import Caller, RunningService

VIEW: Final = "/projections/token_sources"
PATHS: Final = ("/projections", VIEW, f"{VIEW}/rebuild", "/metrics")
COUNTS: Final = {"position", "head", "lag", "stopped_at", "target", "events_per_s"}


def made(
    service: RunningService, *, teams: list[UUID] | None, permissions: list[Permission] | None
) -> Caller:
    ask = NewApiToken(
        uuid4(),
        None if teams is None else tuple(teams),
        None if permissions is None else tuple(permissions),
        None,
    )
    token, secret = service.command(lambda ledger: ledger.create_api_token(ask))
    return Caller(token.id, token.user_id, secret.reveal())


@pytest.mark.parametrize("path", PATHS)
def test_a_token_for_a_team_manages_no_views(
    service: RunningService, team: UUID, path: str
) -> None:
    confined = made(service, teams=[team], permissions=None)
    assert service.client.get(path, auth=confined).status_code == 403
    assert service.client.post(f"{VIEW}/rebuild", auth=confined).status_code == 403
    assert service.client.get("/scim-token", auth=confined).status_code == 200


@pytest.mark.long
def test_the_command_line_follows_the_rule(service: RunningService) -> None:
    def permissions(*more: str) -> set[str]:
        done = run(
            service.database.app, "api-token", "create", "--user", str(uuid4()), *more, "--json"
        )
        assert done.exit_code == 0, done.stderr
        return set(json.loads(done.stdout)["permissions"])

    confined = ("--team", str(uuid4()))
    assert permissions() == set(Permission)
    assert permissions(*confined) == set(Permission) - DEPLOYMENT_WIDE
    assert permissions(*confined, "--permission", "projections:manage") == {"projections:manage"}


def test_who_may_see_some_teams_is_not_told_how_much_happens_in_all(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    confined = made(service, teams=[team], permissions=[Permission.PROJECTIONS_MANAGE])
    service.client.post(f"{VIEW}/rebuild", auth=admin)
    for path in PATHS[:3]:
        seen, all_ = (found(service.client.get(path, auth=caller)) for caller in (confined, admin))
        assert seen.keys() == all_.keys()
        assert all(seen[name] is None for name in COUNTS & seen.keys()), path
        assert any(all_[name] is not None for name in COUNTS & all_.keys()), path
    metrics = service.client.get("/metrics", auth=confined).text
    assert "_stopped{" in metrics
    assert "position" not in metrics
    assert "lag_events" not in metrics
    assert "scim_ledger_head_position " in service.client.get("/metrics", auth=admin).text


def found(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body["result"][0] if "result" in body else body
