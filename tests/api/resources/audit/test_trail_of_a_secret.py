"""`secret=`: was the leaked secret used, and from where."""

from typing import Any
from uuid import UUID

from tests.api.expected import assert_not_found, create, use
from tests.api.trail import audit, kinds, present
from tests.service import RunningService

HERE, THERE = "192.0.2.1", "203.0.113.9"


def test_the_trail_tells_one_secret_from_the_other(service: RunningService, team: UUID) -> None:
    admin, foreign = service.api_token(teams=[team]), service.api_token(teams=[UUID(int=1)])
    token = create(service, admin, team=team)
    path = f"/scim-token/{token['id']}"
    present(service, token["token"], source=HERE)
    rotated = service.client.post(f"{path}/rotate", auth=admin, json={"overlap_seconds": 60})
    for secret in (rotated.json()["token"], token["token"]):
        present(service, secret, source=HERE if secret != token["token"] else THERE)
    completed = service.client.post(f"{path}/rotate/complete", auth=admin, json={})
    assert completed.status_code == 200
    use(service, token["token"])
    listed = service.client.get(f"{path}/secrets", auth=admin).json()["result"]
    older, newer = (secret["id"] for secret in listed)

    def told(caller: Any = admin, **params: Any) -> list[dict[str, Any]]:
        return audit(service, caller, token_id=token["id"], order="oldest", **params)

    told_kinds = ["created", "used", "used", "rotation_completed", "refused"]
    assert kinds(told(secret=older)) == [f"scim_token.{kind}" for kind in told_kinds]
    assert kinds(told(secret=newer)) == ["scim_token.rotated", "scim_token.used"]
    uses = told(secret=older, kind="scim_token.used")
    assert [row["source"] for row in uses] == [HERE, THERE]
    assert kinds(told(secret=older, source=THERE)) == ["scim_token.used"]
    assert audit(service, admin, f"{path}/events", secret=newer, order="oldest") == told(
        secret=newer
    )
    assert told(secret="00000000") == told(foreign, secret=older) == []
    answer = service.client.get(f"{path}/events", auth=foreign, params={"secret": older})
    assert_not_found(answer)
