"""From which networks a token is good, as it is asked for: whole answers and refusals."""

from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from domain.api_token.permissions import Permission
from domain.scim_token.networks.decide import NETWORKS_MAX
from tests.api.expected import (
    CHALLENGE,
    assert_invalid,
    assert_not_found,
    assert_problem,
    create,
    topics,
    use,
)
from tests.api.resources.scim_token.networks.asking import SET, allow, lift, read
from tests.api.resources.scim_token.words import CONTROL, SECRET_SHAPED
from tests.service import Caller, RunningService
from tests.turns import by_turns

NO_NETWORK: Final = "must be a network or an address, such as 192.0.2.0/24 or 2001:db8::1"
IN_BETWEEN: Final = (
    "has bits beyond its length: the network would be 192.0.2.0/24, "
    "one address goes without a length"
)
NO_LIST: Final = "must be a list of 1 to 200, each of which must be a string of 1 to 64 characters"
OFFICE: Final = "192.0.2.0/24"


def test_a_new_token_is_good_from_anywhere(service: RunningService, admin: Caller) -> None:
    answer = read(service, admin, create(service, admin)["id"])
    assert (answer.status_code, answer.json()) == (200, {"networks": []})


def test_networks_replace_those_before_and_are_told_in_one_spelling(
    service: RunningService, admin: Caller
) -> None:
    id_ = create(service, admin)["id"]
    assert allow(service, admin, id_, "198.51.100.7").json() == {"networks": ["198.51.100.7/32"]}
    answer = allow(
        service,
        admin,
        id_,
        *("2001:DB8::1", OFFICE, "::ffff:203.0.113.0/120", "192.0.2.0/255.255.255.0"),
    )
    told = {"networks": ["2001:db8::1/128", OFFICE, "203.0.113.0/24"]}
    assert (answer.status_code, answer.json()) == (200, told)
    assert answer.headers["cache-control"] == "no-store"
    assert read(service, admin, id_).json() == told


def test_lifted_it_is_good_from_anywhere_again(service: RunningService, admin: Caller) -> None:
    token = create(service, admin)
    allow(service, admin, token["id"], OFFICE)
    answer = lift(service, admin, token["id"])
    assert (answer.status_code, answer.json()) == (200, {"id": token["id"]})
    assert read(service, admin, token["id"]).json() == {"networks": []}
    assert use(service, token["token"]).status_code == 501


def test_repeated_it_records_nothing_new(service: RunningService, admin: Caller) -> None:
    id_ = create(service, admin)["id"]
    assert lift(service, admin, id_).json() == {"id": id_}
    assert topics(service, id_) == ["scim_token.created.v1"]
    for _ in range(2):
        assert allow(service, admin, id_, OFFICE).json() == {"networks": [OFFICE]}
    for _ in range(2):
        assert lift(service, admin, id_).json() == {"id": id_}
    assert topics(service, id_) == ["scim_token.created.v1", SET, SET]


def test_a_repeat_with_its_key_has_no_second_effect(service: RunningService, admin: Caller) -> None:
    id_, key = create(service, admin)["id"], str(uuid4())
    allow(service, admin, id_, OFFICE, key=key)
    lift(service, admin, id_)
    again = allow(service, admin, id_, OFFICE, key=key)
    assert (again.status_code, again.json()) == (200, {"networks": []})
    assert topics(service, id_) == ["scim_token.created.v1", SET, SET]
    assert_problem(
        allow(service, admin, id_, "198.51.100.0/24", key=key),
        422,
        "idempotency-key-reused",
        "The Idempotency-Key was used for another request.",
    )
    assert read(service, admin, id_).json() == {"networks": []}


def test_the_token_object_stays_as_it_was(service: RunningService, admin: Caller) -> None:
    token = create(service, admin)
    del token["token"]
    allow(service, admin, token["id"], OFFICE)
    assert service.client.get(f"/scim-token/{token['id']}", auth=admin).json() == token


def test_networks_are_kept_through_a_rotation_and_hold_for_both_secrets(
    service: RunningService, admin: Caller
) -> None:
    token = create(service, admin)
    allow(service, admin, token["id"], OFFICE)
    rotated = service.client.post(f"/scim-token/{token['id']}/rotate", auth=admin, json={}).json()
    assert read(service, admin, token["id"]).json() == {"networks": [OFFICE]}
    for secret in (token["token"], rotated["token"]):
        assert use(service, secret).status_code == 401


def test_as_many_as_there_may_be_fit_into_a_body(service: RunningService, admin: Caller) -> None:
    id_ = create(service, admin)["id"]
    longest = [f"2001:0db8:aaaa:bbbb:cccc:dddd:eeee:{n:04x}/128" for n in range(NETWORKS_MAX)]
    answer = allow(service, admin, id_, *longest)
    assert answer.status_code == 200
    assert len(answer.json()["networks"]) == NETWORKS_MAX
    assert read(service, admin, id_).json() == answer.json()
    assert_invalid(allow(service, admin, id_, *longest, "::1"), "/networks", NO_LIST)


@pytest.mark.parametrize(
    ("networks", "pointer", "detail"),
    by_turns(
        [
            ([OFFICE, "192.0.2.1", "::1", "here"], "/networks/3", NO_NETWORK),
            ([SECRET_SHAPED], "/networks/0", NO_NETWORK),
            (["192.0.2.0/33"], "/networks/0", NO_NETWORK),
            ([" 192.0.2.0/24"], "/networks/0", NO_NETWORK),
            (
                ["::1", "192.0.2.1/24"],
                "/networks/1",
                IN_BETWEEN,
            ),
            ([], "/networks", NO_LIST),
            ([OFFICE, 7], "/networks", NO_LIST),
            ([OFFICE, None], "/networks", NO_LIST),
            ([""], "/networks", NO_LIST),
            (["1" * 65], "/networks", NO_LIST),
            (OFFICE, "/networks", NO_LIST),
            (None, "/networks", NO_LIST),
        ],
        one_of=3,
    ),
)
def test_what_is_no_list_of_networks_is_refused_and_changes_nothing(
    service: RunningService, admin: Caller, networks: Any, pointer: str, detail: str
) -> None:
    id_ = create(service, admin)["id"]
    allow(service, admin, id_, OFFICE)
    answer = service.client.put(
        f"/scim-token/{id_}/networks", auth=admin, json={"networks": networks}
    )
    assert_invalid(answer, pointer, detail)
    assert SECRET_SHAPED not in answer.text
    assert read(service, admin, id_).json() == {"networks": [OFFICE]}


def test_all_that_is_wrong_is_told_at_once(service: RunningService, admin: Caller) -> None:
    id_ = create(service, admin)["id"]
    answer = allow(service, admin, id_, "::1", "x", reason="a\x00b", meant=[])
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {"pointer": "/networks/1", "detail": NO_NETWORK},
        {"pointer": "/reason", "detail": CONTROL},
        {"pointer": "/meant", "detail": "is not a field of this resource"},
    ]
    assert_invalid(
        service.client.put(f"/scim-token/{id_}/networks", auth=admin, json={}),
        "/networks",
        "is required",
    )
    assert_invalid(
        lift(service, admin, id_, reason="a\x00b"),
        "reason",
        CONTROL,
        about="A parameter is not valid.",
    )


def test_of_a_revoked_token_they_are_read_and_not_set(
    service: RunningService, admin: Caller
) -> None:
    id_ = create(service, admin)["id"]
    allow(service, admin, id_, OFFICE)
    service.client.delete(f"/scim-token/{id_}", auth=admin)
    assert read(service, admin, id_).json() == {"networks": [OFFICE]}
    assert_not_found(allow(service, admin, id_, OFFICE))
    assert_not_found(lift(service, admin, id_))
    assert topics(service, id_) == ["scim_token.created.v1", SET, "scim_token.revoked.v1"]


def test_foreign_and_missing_tokens_are_not_found(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    foreigner = service.api_token(teams=[uuid4()])
    id_ = create(service, admin, team=team)["id"]
    for each in (id_, str(uuid4()), str(admin.id)):
        assert_not_found(read(service, foreigner, each))
        assert_not_found(allow(service, foreigner, each, OFFICE))
        assert_not_found(lift(service, foreigner, each))
    for answer in (read(service, admin, admin.id), allow(service, admin, admin.id, OFFICE)):
        assert_not_found(answer)
    assert topics(service, id_) == ["scim_token.created.v1"]
    owner = service.api_token(teams=[team])
    assert allow(service, owner, id_, OFFICE).json() == {"networks": [OFFICE]}


def test_reading_needs_one_permission_and_setting_another(
    service: RunningService, admin: Caller
) -> None:
    id_ = create(service, admin)["id"]
    reader = service.api_token(Permission.SCIM_TOKENS_READ)
    writer = service.api_token(Permission.SCIM_TOKENS_WRITE)
    assert read(service, reader, id_).status_code == 200
    assert allow(service, writer, id_, OFFICE).status_code == 200
    for answer, lacks in (
        (read(service, writer, id_), Permission.SCIM_TOKENS_READ),
        (allow(service, reader, id_, "::1"), Permission.SCIM_TOKENS_WRITE),
        (lift(service, reader, id_), Permission.SCIM_TOKENS_WRITE),
    ):
        detail = f"The API token lacks the permission {lacks}."
        assert_problem(answer, 403, "permission-denied", detail)
        challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{lacks}"'
        assert answer.headers["www-authenticate"] == challenge
    assert service.client.get(f"/scim-token/{id_}/networks").status_code == 401
    assert read(service, admin, id_).json() == {"networks": [OFFICE]}


def test_trail_and_feed_say_who_set_which_networks(service: RunningService, team: UUID) -> None:
    caller = service.api_token(teams=[team])
    id_ = create(service, caller, team=team)["id"]
    allow(service, caller, id_, OFFICE, "::1", reason="their provider")
    lift(service, caller, id_, reason="they moved")
    rows = service.client.get(f"/scim-token/{id_}/events", auth=caller).json()["result"][:2]
    fields = ("kind", "outcome", "reason", "user_id", "api_token_id", "source", "note")
    user, by = str(caller.user_id), str(caller.id)
    kind = SET.removesuffix(".v1")
    assert [tuple(row[field] for field in fields) for row in rows] == [
        (kind, "success", "they moved", user, by, "127.0.0.1", "any network"),
        (kind, "success", "their provider", user, by, "127.0.0.1", f"{OFFICE}, ::1/128"),
    ]
    feed = service.client.get("/events", auth=caller, params={"limit": "1000"}).json()
    told = [each["data"]["note"] for each in feed if each["type"] == kind]
    assert told == [f"{OFFICE}, ::1/128", "any network"]
