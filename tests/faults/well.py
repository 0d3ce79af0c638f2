"""Everything that a customer does, through a service that was in trouble: it works, and soon."""

from collections.abc import Sequence
from typing import Final

from tests.faults.use_load import LOADED_S, TEAM
from tests.presenting import Door, Verdict
from tests.raw_http import Client, request
from tests.stopwatch import Stopwatch

BACK_WITHIN_S: Final = 5.0


async def full_service_in_time(url: str, api_token: str, doors: Sequence[Door]) -> float:
    """All of it works within 5 s from now, all clients going on as before; after how many."""
    watch = Stopwatch()
    async with Client(url) as client:
        while not await is_well(client, api_token, doors):
            assert watch.read_s() < BACK_WITHIN_S + LOADED_S
    return watch.read_s()


async def is_well(client: Client, api_token: str, doors: Sequence[Door]) -> bool:
    """Whether a token can be created, read, listed and used at every door."""
    ask = request("POST", "/scim-token", authorization=api_token, team_id=str(TEAM), name="Okta")
    created = await client.ask(ask)
    if created.status != 201:
        return False
    token = created.json()
    for path in (f"/scim-token/{token['id']}", f"/scim-token?team_id={TEAM}&limit=1", "/readyz"):
        if (await client.ask(request("GET", path, authorization=api_token))).status != 200:
            return False
    told = [door.read(await client.ask(door.ask(token["token"], api_token))) for door in doors]
    return all(each.verdict is Verdict.YES for each in told)
