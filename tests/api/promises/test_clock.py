"""B1 over HTTP: a process whose clock is wrong says 503 to everybody, and nothing else."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import uvloop
from litestar.testing import TestClient

from api.app import build
from api.edge import Edge
from api.settings import Settings
from domain.api_token.permissions import Permission
from domain.authority import Operator
from domain.commands import NewApiToken, NewScimToken
from domain.ledger import TokenLedger
from domain.secret import Pepper
from tests.conftest import CLOCK_AND_IDS, Database
from tests.domain.eventstore.test_ledger_time import DAY, Drifting
from tests.service import PEPPER_KEY
from tests.turns import by_turns

WRONG: Final = (40 * DAY, timedelta(seconds=5), -timedelta(seconds=5), -40 * DAY)


@contextmanager
def process(database: Database, clock: Drifting) -> Iterator["TestClient[Edge]"]:
    told = Settings(database_url=database.app, pepper=PEPPER_KEY)
    with TestClient(build(told, clock_and_ids=clock.clock_and_ids)) as client:
        yield client


async def tokens(database: Database) -> tuple[str, str, str]:
    """A SCIM token's secret and its id, and an API token's secret: both good for a month."""
    async with TokenLedger(
        database.app, pepper=Pepper([PEPPER_KEY.encode()]), clock_and_ids=CLOCK_AND_IDS
    ) as ledger:
        lifetime = timedelta(days=30)
        _, api_secret = await ledger.create_api_token(
            NewApiToken(uuid4(), None, tuple(Permission), lifetime)
        )
        ask = NewScimToken(uuid4(), "Okta", ledger.clock() + lifetime)
        token, secret = await ledger.create_scim_token(ask, by=Operator(uuid4()))
        return secret.reveal(), str(token.id), api_secret.reveal()


def asked(client: "TestClient[Edge]", secret: str, id_: str, api: str) -> dict[str, httpx.Response]:
    """Every door and some of the resource."""
    held, admin = {"Authorization": f"Bearer {secret}"}, {"Authorization": f"Bearer {api}"}
    body = {"team_id": str(uuid4()), "name": "Okta"}
    return {
        "nginx": client.get("/gateway/nginx", headers=held),
        "forward": client.get("/gateway/forward", headers=held),
        "envoy": client.get("/gateway/envoy/scim/v2/Users", headers=held),
        "scim": client.get("/scim/v2/ResourceTypes", headers=held),
        "verify": client.post("/verify", headers=admin, json={"token": secret}),
        "introspect": client.post("/introspect", headers=admin, data={"token": secret}),
        "create": client.post("/scim-token", headers=admin, json=body),
        "list": client.get("/scim-token", headers=admin),
        "rotate": client.post(f"/scim-token/{id_}/rotate", headers=admin, json={}),
        "trail": client.get("/audit", headers=admin),
        "revoke": client.delete(f"/scim-token/{id_}", headers=admin),
        "readiness": client.get("/readyz"),
    }


@pytest.mark.parametrize("ahead", by_turns(WRONG, one_of=2), ids=[*map(str, WRONG)])
def test_every_answer_of_a_process_with_a_wrong_clock_is_503(
    database: Database, ahead: timedelta
) -> None:
    known, clock = uvloop.run(tokens(database)), Drifting(ahead)
    with process(database, clock) as client:
        answers = asked(client, *known)
        told = client.get("/readyz").json()
        clock.ahead = timedelta(0)
        again = client.get("/gateway/nginx", headers={"Authorization": f"Bearer {known[0]}"})
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(
        answers, 503
    )
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers.values())
    assert told["status"] == "unavailable"
    assert told["problems"][0].endswith("that of the database; synchronise the clocks (NTP)")
    assert again.status_code == 200


def test_readiness_says_that_ledger_time_has_jumped_and_the_doors_go_on(database: Database) -> None:
    known = uvloop.run(tokens(database))
    with psycopg.connect(database.owner) as owner:
        owner.execute("UPDATE ledger.events SET at = at + interval '20 days'")
    with process(database, Drifting()) as client:
        readiness = client.get("/readyz")
        let_in = client.get("/gateway/nginx", headers={"Authorization": f"Bearer {known[0]}"})
    assert let_in.status_code == 200
    assert readiness.status_code == 200
    assert readiness.json()["status"] == "degraded"
    (problem,) = readiness.json()["problems"]
    assert re.fullmatch(
        r"ledger time is 17(28000|27999|27998) s ahead of this process's clock: "
        r"synchronise the clocks \(NTP\), and see scim-ledger doctor",
        problem,
    )


async def standing_tokens(database: Database) -> dict[str, str]:
    """Secrets that are good or not by an instant: what each is, by its text."""
    async with TokenLedger(
        database.app, pepper=Pepper([PEPPER_KEY.encode()]), clock_and_ids=CLOCK_AND_IDS
    ) as ledger:
        by, found = Operator(uuid4()), {}

        async def made(what: str, lifetime: timedelta | None = None) -> UUID:
            ends_at = None if lifetime is None else ledger.clock() + lifetime
            token, secret = await ledger.create_scim_token(
                NewScimToken(uuid4(), "Okta", ends_at), by=by
            )
            found[secret.reveal()] = what
            return token.id

        await made("ends in half an hour", timedelta(minutes=30))
        for overlap in (timedelta(0), timedelta(minutes=30), timedelta(hours=12)):
            id_ = await made(f"rotated, with an overlap of {overlap}")
            await ledger.rotate_scim_token(id_, overlap=overlap, by=by)
        await ledger.suspend_scim_token(await made("suspended"), by=by)
        resumed = await made("resumed")
        await ledger.suspend_scim_token(resumed, by=by)
        await ledger.resume_scim_token(resumed, by=by)
        return found


@pytest.mark.parametrize("step", by_turns([timedelta(hours=1), DAY], one_of=2), ids=str)
def test_a_step_of_the_clock_and_back_changes_no_answer(
    database: Database, step: timedelta
) -> None:
    found, clock = uvloop.run(standing_tokens(database)), Drifting()
    with process(database, clock) as client:

        def statuses() -> dict[str, int]:
            return {
                what: client.get(
                    "/gateway/nginx", headers={"Authorization": f"Bearer {secret}"}
                ).status_code
                for secret, what in found.items()
            }

        before = statuses()
        assert sorted(before.values()) == [200, 200, 200, 200, 401, 401]
        for ahead in (step, -step):
            clock.ahead = ahead
            assert set(statuses().values()) == {503}
            clock.ahead = timedelta(0)
            assert statuses() == before
