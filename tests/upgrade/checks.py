"""What a release must say of the kept ledger, whichever way it came to it."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.upgrade import kept
from tests.upgrade.release import Release


class Caller(httpx.Auth):
    """One of the kept API tokens, by what it is for."""

    def __init__(self, what: str) -> None:
        self._what = what

    def auth_flow(self, request: httpx.Request) -> Any:
        """The library's hook."""
        (told,) = (each for each in kept.told()["callers"] if each["what"] == self._what)
        request.headers["Authorization"] = f"Bearer {kept.presented(told)}"
        yield request


def says_the_same(client: httpx.Client) -> None:
    """Lists, documents, as-of reads, usage and the trail, as they were answered before."""
    for asked, before in kept.told()["reads"].items():
        path, _, what = asked.partition("#")
        answer = client.get(path, auth=Caller(what or "admin"))
        assert answer.status_code == before["status"], path
        body = answer.json()
        if answer.is_success:
            was = _comparable(before["body"])
            assert without_additions(_comparable(body), was) == was, path


def without_additions(now: Any, before: Any) -> Any:
    """What is said now, without the fields that the release before did not have."""
    if isinstance(now, dict) and isinstance(before, dict):
        return {
            name: without_additions(value, before[name])
            for name, value in now.items()
            if name in before
        }
    if isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        return [without_additions(*each) for each in zip(now, before, strict=True)]
    return now


def assert_trail_begins(exported: str) -> int:
    """The trail still says what it said; returns how many facts have followed."""
    now = [json.loads(line) for line in exported.splitlines()]
    before = [json.loads(line) for line in kept.trail().splitlines()]
    for fact, was in zip(now, before, strict=False):
        assert without_additions(fact, was) == was, f"{fact} was {was}"
    assert len(now) >= len(before)
    return len(now) - len(before)


def _comparable(body: Any) -> Any:
    """Without the cursor, which is sealed anew."""
    return {name: value for name, value in body.items() if name != "next_cursor"}


def callers_may_the_same(client: httpx.Client) -> None:
    """Every API token: what it may, what it lacks, that it is over."""
    for each in kept.told()["callers"]:
        caller = Caller(each["what"])
        for path, status in each["statuses"].items():
            assert client.request(*path.split(" ", 1), auth=caller).status_code == status, each


def good_now(each: Any) -> str:
    """What a secret's answer is today: one within its overlap is good until that ends."""
    ended = each["until"] is not None and datetime.fromisoformat(each["until"]) <= datetime.now(UTC)
    return "expired" if ended and each["answer"] == "yes" else each["answer"]


def secrets_answer_the_same(client: httpx.Client) -> None:
    """Every secret that was ever shown, at a door that tells why and at one that does not."""
    admin = Caller("admin")
    for each in kept.told()["secrets"]:
        secret, expected = kept.presented(each), good_now(each)
        told = client.post("/verify", auth=admin, json={"token": secret}).json()
        assert ("yes" if told["active"] else told["reason"]) == expected, each["what"]
        if told["active"]:
            assert told["token_id"] == each["token_id"]
        answer = client.get("/gateway/forward", headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == (200 if expected == "yes" else 401), each["what"]


def is_whole(release: Release) -> None:
    """The ledger follows from its events, the views from the ledger; nothing is wrong."""
    verified = release.told("verify", "--expect-events")
    assert verified["damage"] is None
    assert all(view["is_good"] for view in release.told("projections", "verify"))
    assert [finding for finding in release.told("doctor") if finding["status"] != "ok"] == []
    assert_trail_begins(release.run("audit", "export"))
