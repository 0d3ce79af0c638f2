"""A link that hands a token over, as it is asked for: whole answers, the trail, the feed."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from domain.errors import NotFound, SecretAlreadyShown
from domain.setup_link import CODE_PATTERN, SetupCode, read_code
from projections.described import rfc3339
from tests.api.expected import assert_not_found, assert_problem, create, instant, topics, use
from tests.conftest import now
from tests.service import Caller, RunningService, until

BROWSER: Final = {"source": "192.0.2.7", "user_agent": "Mozilla/5.0"}


def link(service: RunningService, caller: Caller, id_: object, **sent: Any) -> httpx.Response:
    return service.client.post(f"/scim-token/{id_}/setup-link", auth=caller, **sent)


def end(service: RunningService, caller: Caller, id_: object, **query: str) -> httpx.Response:
    return service.client.delete(f"/scim-token/{id_}/setup-link", auth=caller, params=query)


def code_of(answer: httpx.Response) -> SetupCode:
    code = read_code(answer.json()["url"].rpartition("/")[2])
    assert code is not None
    return code


def reveal(service: RunningService, id_: object, code: SetupCode) -> str:
    """What the page does once its button is pressed: the new secret."""
    _, secret = service.command(
        lambda ledger: ledger.reveal_by_setup_link(UUID(str(id_)), code, **BROWSER)
    )
    return secret.reveal()


def opens(service: RunningService, id_: object, code: SetupCode) -> bool:
    try:
        service.command(lambda ledger: ledger.open_setup_link(UUID(str(id_)), code))
    except NotFound:
        return False
    return True


def test_a_link_is_told_once_and_leads_to_the_console(
    service: RunningService, admin: Caller
) -> None:
    token = create(service, admin)
    answer = link(service, admin, token["id"])
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert made.keys() == {"id", "url", "ends_at"}
    address = re.escape(f"{service.url}/console/setup/{token['id']}/")
    assert re.fullmatch(address + CODE_PATTERN, made["url"])
    assert re.fullmatch("[0-9a-f]{8}", made["id"])
    trail = service.client.get("/audit", auth=admin, params={"token_id": token["id"]})
    at = instant(trail.json()["result"][0]["at"])
    assert instant(made["ends_at"]) == at + timedelta(hours=24)
    assert topics(service, token["id"])[1:] == ["scim_token.setup_link_created.v1"]


def test_whoever_holds_the_link_gets_a_secret_once_and_the_first_one_ends(
    service: RunningService, admin: Caller
) -> None:
    token = create(service, admin)
    code = code_of(link(service, admin, token["id"]))
    assert opens(service, token["id"], code)
    secret = reveal(service, token["id"], code)
    assert use(service, secret).status_code == 501
    assert use(service, token["token"]).status_code == 401
    with pytest.raises(SecretAlreadyShown):
        reveal(service, token["id"], code)
    assert opens(service, token["id"], code)


def test_a_secret_in_use_goes_on_for_an_overlap(service: RunningService, admin: Caller) -> None:
    token = create(service, admin)
    use(service, token["token"])
    secret = reveal(service, token["id"], code_of(link(service, admin, token["id"])))
    for good in (secret, token["token"]):
        assert use(service, good).status_code == 501
    answer = link(service, admin, token["id"])
    assert_problem(
        answer,
        409,
        "rotation-underway",
        "The token has two good secrets; complete or cancel its rotation.",
    )


def test_a_new_link_an_end_a_suspension_and_a_revocation_each_end_a_link(
    service: RunningService, admin: Caller
) -> None:
    id_ = create(service, admin)["id"]
    first, second = (code_of(link(service, admin, id_)) for _ in range(2))
    assert (opens(service, id_, first), opens(service, id_, second)) == (False, True)
    assert end(service, admin, id_, reason="wrong person").json() == {"id": id_}
    assert not opens(service, id_, second)
    third = code_of(link(service, admin, id_))
    service.client.post(f"/scim-token/{id_}/suspend", auth=admin)
    service.client.post(f"/scim-token/{id_}/resume", auth=admin)
    assert not opens(service, id_, third)
    fourth = code_of(link(service, admin, id_))
    service.client.delete(f"/scim-token/{id_}", auth=admin)
    assert not opens(service, id_, fourth)


def test_a_code_opens_no_other_token(service: RunningService, admin: Caller) -> None:
    one, other = (create(service, admin)["id"] for _ in range(2))
    code, _ = (code_of(link(service, admin, id_)) for id_ in (one, other))
    assert not opens(service, other, code)
    assert not opens(service, uuid4(), code)


def test_to_end_no_link_is_no_event(service: RunningService, admin: Caller) -> None:
    id_ = create(service, admin)["id"]
    assert end(service, admin, id_).status_code == 200
    link(service, admin, id_)
    for _ in range(2):
        assert end(service, admin, id_).json() == {"id": id_}
    assert topics(service, id_)[1:] == [
        "scim_token.setup_link_created.v1",
        "scim_token.setup_link_ended.v1",
    ]


def test_a_repeat_with_its_key_makes_no_second_link(service: RunningService, admin: Caller) -> None:
    id_ = create(service, admin)["id"]
    key = {"Idempotency-Key": str(uuid4())}
    code = code_of(link(service, admin, id_, headers=key))
    again = link(service, admin, id_, headers=key)
    assert again.status_code == 409
    assert again.json()["type"] == "/problems/secret-already-shown"
    assert opens(service, id_, code)


def test_trail_and_feed_say_by_whom_and_from_where_and_hold_no_code(
    service: RunningService, admin: Caller
) -> None:
    token = create(service, admin)
    id_ = token["id"]
    made = link(service, admin, id_, json={"reason": "for their IT"})
    code = code_of(made)
    secret = reveal(service, id_, code)
    end(service, admin, id_, reason="done")
    trail = service.client.get(f"/scim-token/{id_}/events", auth=admin)
    fields = ("kind", "reason", "user_id", "api_token_id", "source", "user_agent", "note")
    told = [tuple(each[field] for field in fields) for each in trail.json()["result"]]
    user, called, agent = str(admin.user_id), str(admin.id), service.client.headers["user-agent"]
    name, ends_at = made.json()["id"], made.json()["ends_at"]
    caller = (user, called, "127.0.0.1", agent)
    holder = (None, None, BROWSER["source"], BROWSER["user_agent"])
    note = f"link {name}, which ends at {ends_at}"
    shown = f"shown to the holder of the setup link {name}"
    assert told[:-1] == [
        ("scim_token.setup_link_ended", "done", *caller, f"link {name}"),
        ("scim_token.rotated", None, *holder, shown),
        ("scim_token.setup_link_created", "for their IT", *caller, note),
    ]
    feed = service.client.get("/events", auth=admin, params={"limit": "1000"})
    for text in (trail.text, feed.text, service.log.read_text()):
        assert code.reveal() not in text
        assert secret not in text
    dump = "SELECT string_agg(convert_from(state, 'utf8'), '') FROM ledger.{}"
    for table in ("events", "aggregates"):
        ((stored,),) = service.query(dump.format(table))
        assert code.reveal() not in stored


def state(service: RunningService, caller: Caller, id_: object) -> Any:
    answer = service.client.get(f"/scim-token/{id_}/setup-link", auth=caller)
    assert answer.status_code == 200
    return answer.json()


def test_what_became_of_the_link_is_told_and_never_its_code(
    service: RunningService, admin: Caller
) -> None:
    token = create(service, admin)
    nothing = dict.fromkeys(("id", "created_at", "created_by", "ends_at", "used_at"))
    assert state(service, admin, token["id"]) == {"state": "none", **nothing}
    answer = link(service, admin, token["id"])
    made, code = answer.json(), code_of(answer)
    row = service.client.get(f"/scim-token/{token['id']}/events", auth=admin).json()["result"][0]
    told = {
        "state": "open",
        "id": made["id"],
        "created_at": row["at"],
        "created_by": str(admin.user_id),
        "ends_at": made["ends_at"],
        "used_at": None,
    }
    assert state(service, admin, token["id"]) == told
    assert list(told) == list(state(service, admin, token["id"]))
    reveal(service, token["id"], code)
    used = state(service, admin, token["id"])
    assert used | {"used_at": None} == told | {"state": "used"}
    assert instant(used["used_at"]) >= instant(row["at"])
    end(service, admin, token["id"])
    ended = told | {"state": "ended", "id": None, "ends_at": None}
    assert state(service, admin, token["id"]) == ended
    service.client.delete(f"/scim-token/{token['id']}", auth=admin)
    assert state(service, admin, token["id"]) == ended


def test_a_link_ends_with_its_token_and_a_newer_one_is_what_is_told(
    service: RunningService, admin: Caller
) -> None:
    ends_at = rfc3339(now() + timedelta(seconds=1))
    token = create(service, admin, expires_at=ends_at)
    first = link(service, admin, token["id"]).json()
    second = link(service, admin, token["id"]).json()
    assert state(service, admin, token["id"])["id"] == second["id"] != first["id"]
    until(lambda: state(service, admin, token["id"])["state"] == "expired", what="its end")
    assert state(service, admin, token["id"])["ends_at"] == ends_at


def test_what_is_told_is_of_one_link_while_others_are_made(
    service: RunningService, admin: Caller
) -> None:
    id_ = create(service, admin)["id"]
    link(service, admin, id_)
    with ThreadPoolExecutor() as threads:
        made = [threads.submit(link, service, admin, id_) for _ in range(60)]
        while not all(each.done() for each in made):
            told = state(service, admin, id_)
            assert instant(told["ends_at"]) - instant(told["created_at"]) == timedelta(hours=24)
    assert {each.result().status_code for each in made} == {201}


@pytest.mark.parametrize("verb", ["suspend", "revoke"])
def test_of_what_lets_nobody_in_there_is_no_link(
    service: RunningService, admin: Caller, verb: str
) -> None:
    id_ = create(service, admin)["id"]
    if verb == "revoke":
        service.client.delete(f"/scim-token/{id_}", auth=admin)
        assert_not_found(link(service, admin, id_))
        assert_not_found(end(service, admin, id_))
        return
    service.client.post(f"/scim-token/{id_}/suspend", auth=admin)
    answer = link(service, admin, id_)
    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {"pointer": "", "detail": "the token is suspended; resume it first"}
    ]
