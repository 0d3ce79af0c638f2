"""What the tests of a token's networks share."""

from typing import Any, Final

import httpx

from tests.service import Caller, RunningService

SET: Final = "scim_token.networks_set.v1"


def read(service: RunningService, caller: Caller, id_: object) -> httpx.Response:
    return service.client.get(f"/scim-token/{id_}/networks", auth=caller)


def allow(
    service: RunningService,
    caller: Caller,
    id_: object,
    *networks: str,
    key: str | None = None,
    **more: Any,
) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"networks": networks, **more}
    return service.client.put(
        f"/scim-token/{id_}/networks", auth=caller, json=body, headers=headers
    )


def lift(service: RunningService, caller: Caller, id_: object, **query: str) -> httpx.Response:
    return service.client.delete(f"/scim-token/{id_}/networks", auth=caller, params=query)
