"""A token that is good from certain networks alone, at every door: let in or refused at once."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import pytest

from tests.api.expected import create, topics
from tests.api.resources.scim_token.networks.asking import SET, allow, lift
from tests.api.resources.scim_token.words import SECRET_SHAPED
from tests.api.trail import audit
from tests.service import Caller, RunningService

INSIDE: Final = "192.0.2.7"
OUTSIDE: Final = "198.51.100.7"
NETWORK: Final = "192.0.2.0/24"
UNTOLD: Final = frozenset({"date", "x-request-id"})
"""Header fields that differ from one answer to the next."""

Present = Callable[[RunningService, Caller, str, str | None], httpx.Response]
"""Presents a secret at a door as from an address, or as from none that is known."""


def at_a_door(path: str) -> Present:
    """A door that a trusted proxy asks, which says whose request it passes on."""

    def present(
        service: RunningService, _: Caller, secret: str, source: str | None
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {secret}"}
        if source is not None:
            headers["X-Forwarded-For"] = source
        return service.client.get(path, headers=headers)

    return present


def verify(
    service: RunningService, caller: Caller, secret: str, source: str | None
) -> httpx.Response:
    asked = {"token": secret, "source": source}
    return service.client.post("/verify", auth=caller, json=asked)


def introspect(
    service: RunningService, caller: Caller, secret: str, source: str | None
) -> httpx.Response:
    form = {"token": secret, "source": source or ""}
    return service.client.post("/introspect", auth=caller, data=form)


DOORS: Final[Mapping[str, Present]] = {
    "scim": at_a_door("/scim/v2/Users"),
    "nginx": at_a_door("/gateway/nginx"),
    "forward": at_a_door("/gateway/forward"),
    "envoy": at_a_door("/gateway/envoy/x"),
    "verify": verify,
    "introspect": introspect,
}
at_every_door = pytest.mark.parametrize("door", DOORS)


@pytest.fixture(scope="module")
def caller(behind: RunningService) -> Caller:
    return behind.api_token()


def is_let_in(answer: httpx.Response) -> bool:
    """501 is the door in front of no SCIM service."""
    if answer.headers.get("content-type") == "application/json":
        return bool(answer.json()["active"])
    assert answer.status_code in {200, 401, 501}
    return answer.status_code != 401


def told(answer: httpx.Response) -> tuple[int, bytes, Mapping[str, str]]:
    """What a presenter sees of an answer."""
    headers = {name: value for name, value in answer.headers.items() if name not in UNTOLD}
    return answer.status_code, answer.content, headers


@at_every_door
def test_the_next_presentation_after_a_command_is_judged_by_it(
    behind: RunningService, caller: Caller, door: str
) -> None:
    token = create(behind, caller)

    def lets_in(source: str | None) -> bool:
        return is_let_in(DOORS[door](behind, caller, token["token"], source))

    assert lets_in(OUTSIDE)
    allow(behind, caller, token["id"], NETWORK)
    assert not lets_in(OUTSIDE)
    assert lets_in(INSIDE)
    allow(behind, caller, token["id"], f"{OUTSIDE}/32", "2001:db8::/32")
    assert [lets_in(source) for source in (OUTSIDE, INSIDE, "2001:db8::7", "2001:db9::7")] == [
        *(True, False),
        *(True, False),
    ]
    lift(behind, caller, token["id"])
    assert lets_in(INSIDE)


@at_every_door
def test_an_address_in_other_clothes_is_the_same_address(
    behind: RunningService, caller: Caller, door: str
) -> None:
    token = create(behind, caller)
    allow(behind, caller, token["id"], f"::ffff:{INSIDE}")
    assert is_let_in(DOORS[door](behind, caller, token["token"], f"::ffff:{INSIDE}"))
    assert is_let_in(DOORS[door](behind, caller, token["token"], INSIDE))


@pytest.mark.parametrize(
    ("said", "kept"),
    [("::FFFF:203.0.113.7", "203.0.113.7"), (f"FE80::1%{SECRET_SHAPED}", "fe80::1"), ("", None)],
)
def test_what_introspection_is_told_of_the_presenter_is_in_the_trail(
    behind: RunningService, caller: Caller, said: str, kept: str | None
) -> None:
    token = create(behind, caller)
    assert is_let_in(introspect(behind, caller, token["token"], said))
    (row,) = audit(behind, caller, token_id=token["id"], kind="scim_token.used")
    assert (row["door"], row["source"]) == ("introspect", kept)


@pytest.mark.parametrize("source", ["nowhere", NETWORK, f"{SECRET_SHAPED}%", f"{INSIDE}:80", " "])
def test_what_is_no_address_is_an_invalid_request_of_introspection(
    behind: RunningService, caller: Caller, source: str
) -> None:
    token = create(behind, caller)
    answer = introspect(behind, caller, token["token"], source)
    description = "The source must be an IP address."
    assert answer.status_code == 400
    assert answer.json() == {"error": "invalid_request", "error_description": description}
    assert topics(behind, token["id"]) == ["scim_token.created.v1"]


@at_every_door
def test_a_presenter_sees_what_one_of_a_revoked_token_sees(
    behind: RunningService, caller: Caller, door: str
) -> None:
    """But the caller of `/verify`, who is told the reason for its own logs."""
    token, revoked = create(behind, caller), create(behind, caller)
    allow(behind, caller, token["id"], NETWORK)
    behind.client.delete(f"/scim-token/{revoked['id']}", auth=caller)
    refused, as_revoked = (
        DOORS[door](behind, caller, each["token"], OUTSIDE) for each in (token, revoked)
    )
    if door == "verify":
        assert refused.json() == {"active": False, "reason": "network"}
        assert as_revoked.json() == {"active": False, "reason": "revoked"}
        return
    assert told(refused) == told(as_revoked)
    assert refused.status_code == (200 if door == "introspect" else 401)


@pytest.mark.parametrize("door", [door for door in DOORS if door != "scim"])
def test_an_address_that_is_not_known_is_in_no_network(
    behind: RunningService, caller: Caller, door: str
) -> None:
    token = create(behind, caller)
    assert is_let_in(DOORS[door](behind, caller, token["token"], None))
    allow(behind, caller, token["id"], "0.0.0.0/0", "::/0")
    assert not is_let_in(DOORS[door](behind, caller, token["token"], None))
    assert is_let_in(DOORS[door](behind, caller, token["token"], OUTSIDE))


def test_what_a_client_says_of_its_own_address_lets_it_in_nowhere(
    service: RunningService, admin: Caller
) -> None:
    """No proxy is trusted: the SCIM door knows its peer, and a gateway's clients are unknown."""
    token = create(service, admin)
    allow(service, admin, token["id"], NETWORK)
    for door in ("scim", "nginx", "forward", "envoy"):
        assert DOORS[door](service, admin, token["token"], INSIDE).status_code == 401
    allow(service, admin, token["id"], "127.0.0.1")
    assert DOORS["scim"](service, admin, token["token"], INSIDE).status_code == 501
    assert DOORS["nginx"](service, admin, token["token"], "127.0.0.1").status_code == 401


@at_every_door
def test_trail_and_feed_say_from_where_it_was_refused_and_why(
    behind: RunningService, caller: Caller, door: str
) -> None:
    token = create(behind, caller)
    allow(behind, caller, token["id"], NETWORK)
    for _ in range(2):
        assert not is_let_in(DOORS[door](behind, caller, token["token"], OUTSIDE))
    path = f"/scim-token/{token['id']}/events"
    row = behind.client.get(path, auth=caller).json()["result"][0]
    fields = ("kind", "outcome", "reason", "door", "source", "user_id")
    seen = ("scim_token.refused", "refused", "network", door, OUTSIDE, None)
    assert tuple(row[field] for field in fields) == seen
    assert _followed(behind, caller, row["position"] - 1)["data"] == row
    assert topics(behind, token["id"]) == [
        "scim_token.created.v1",
        SET,
        "scim_token.refused.v1",
    ]


def _followed(service: RunningService, caller: Caller, after: int) -> dict[str, Any]:
    """The event of the feed after a position."""
    answer = service.client.get("/events", auth=caller, params={"after": after, "limit": "1"})
    (found,) = answer.json()
    event: dict[str, Any] = found
    return event


def test_whoever_holds_a_secret_may_end_the_token_from_anywhere(
    behind: RunningService, caller: Caller
) -> None:
    token = create(behind, caller)
    allow(behind, caller, token["id"], NETWORK)
    form, headers = {"token": token["token"]}, {"X-Forwarded-For": OUTSIDE}
    answer = behind.client.post("/revoke", data=form, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {})
    assert topics(behind, token["id"]) == ["scim_token.created.v1", SET, "scim_token.revoked.v1"]
    refused = verify(behind, caller, token["token"], INSIDE)
    assert refused.json() == {"active": False, "reason": "revoked"}
