"""`GET /scim-token/{id}/secrets`: which secrets a token has, and when each was used."""

from uuid import UUID, uuid4

from domain.secret import Pepper, parse, secret_id
from tests.api.expected import assert_not_found, create, use
from tests.service import PEPPER_KEY, Caller, RunningService


def id_of(secret: str) -> str:
    return secret_id(Pepper([PEPPER_KEY.encode()]).digest(parse(secret)).value)


def test_both_secrets_of_a_rotation_are_told_apart(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    made = create(service, admin, team=team)
    use(service, made["token"])
    rotated = service.client.post(
        f"/scim-token/{made['id']}/rotate", auth=admin, json={"overlap_seconds": 3600}
    ).json()
    use(service, rotated["token"])

    answer = service.client.get(f"/scim-token/{made['id']}/secrets", auth=admin)
    assert answer.status_code == 200
    older, newer = answer.json()["result"]
    assert list(older) == ["id", "created_at", "first_used_at", "last_used_at", "ends_at"]
    assert [older["id"], newer["id"]] == [id_of(made["token"]), id_of(rotated["token"])]
    assert [older["created_at"], newer["created_at"]] == [made["created_at"], rotated["rotated_at"]]
    assert made["created_at"] <= older["first_used_at"] == older["last_used_at"]
    assert rotated["rotated_at"] <= newer["first_used_at"] == newer["last_used_at"]
    assert older["ends_at"] > rotated["rotated_at"]
    assert newer["ends_at"] is None
    for secret in (made["token"], rotated["token"]):
        assert secret not in answer.text


def test_also_of_a_revoked_token(service: RunningService, admin: Caller, team: UUID) -> None:
    made = create(service, admin, team=team)
    service.client.delete(f"/scim-token/{made['id']}", auth=admin)
    (only,) = service.client.get(f"/scim-token/{made['id']}/secrets", auth=admin).json()["result"]
    assert only["first_used_at"] is None
    assert only["ends_at"] > made["created_at"]


def test_foreign_and_missing_are_404(service: RunningService, admin: Caller, team: UUID) -> None:
    made = create(service, admin, team=team)
    stranger = service.api_token(teams=[uuid4()])
    for token_id in (made["id"], uuid4()):
        assert_not_found(service.client.get(f"/scim-token/{token_id}/secrets", auth=stranger))
