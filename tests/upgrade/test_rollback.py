"""A release is taken back: this one starts again on what the next one has left.

The next release is this one's code with one thing more; or this one is, and the one before is real.
"""

import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from domain.postgres.migrate import available
from domain.scim_token.rotation import ROTATE_EVERY
from tests.docs.documents import ROOT
from tests.service import COMMAND, until
from tests.upgrade.release import Release, out_of_the_history

pytestmark = pytest.mark.long

TEAM: Final = "05daecaf-4365-42e8-8370-8127de5dd717"
NEXT: Final = max(available()) + 1
EXPANDS: Final = "ALTER TABLE ledger.aggregates ADD COLUMN IF NOT EXISTS more int"
CONTRACTS: Final = "-- contract: nobody needs it\nALTER TABLE ledger.repairs RENAME reason TO why"


@pytest.fixture
def this(place: Path) -> Release:
    return Release(Path(COMMAND), place / "ledger")


@pytest.fixture
def following(place: Path) -> Callable[..., Release]:
    """The next release, with a migration, or with another version of an event."""

    def made(migration: str = EXPANDS, *, version: int = 1) -> Release:
        code = place / "next"
        for package in ("domain", "projections", "api"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, code / package, ignore=ignored)
        folder = code / "domain" / "eventstore" / "migrations"
        (folder / f"{NEXT:04}_next.sql").write_text(migration)
        for file in code.rglob("*.py"):
            text = file.read_text("utf-8")
            newer = text.replace("scim_token.revoked.v1", f"scim_token.revoked.v{version}")
            if newer != text:
                file.write_text(newer, "utf-8")
        command = place / "scim-ledger-next"
        command.write_text(f"#!{sys.executable}\nfrom api.cli import main\nmain()\n")
        command.chmod(0o755)
        return Release(command, place / "ledger", modules=code)

    return made


def create(release: Release, name: str = "Okta") -> Any:
    return release.told("token", "create", "--team", TEAM, "--user", TEAM, "--name", name)


def status(client: httpx.Client, token: Any) -> int:
    headers = {"Authorization": f"Bearer {token['token']}"}
    return client.get("/gateway/forward", headers=headers).status_code


def test_back_to_the_release_before_where_the_newer_one_only_added(
    this: Release, following: Callable[..., Release]
) -> None:
    """Its processes were stopped meanwhile: they start on the newer schema."""
    with this.serving("this") as client:
        first = create(this)
        assert status(client, first) == 200
    newer = following()
    with newer.serving("newer") as client:
        second = create(newer)
        assert [status(client, each) for each in (first, second)] == [200, 200]
    with this.serving("back") as client:
        third = create(this)
        assert [status(client, each) for each in (first, second, third)] == [200] * 3
        findings = this.told("doctor")
        assert [each for each in findings if each["status"] == "fail"] == []
    with newer.serving("again") as client:
        assert status(client, third) == 200
    assert this.told("verify", "--expect-events")["damage"] is None


def test_no_way_back_is_said_in_one_sentence(
    this: Release, following: Callable[..., Release]
) -> None:
    with following(CONTRACTS).serving("newer"):
        pass
    with pytest.raises(AssertionError, match=rf"has migrations of a later release: \[{NEXT}\]"):
        this.run("token", "list")


def test_an_event_of_a_newer_release_is_told_and_lets_nobody_in(
    this: Release, following: Callable[..., Release]
) -> None:
    """The doors need no event: what was revoked stays revoked. The views wait."""
    with this.serving("this"):
        good, revoked = create(this), create(this)
    newer = following(version=2)
    newer.run("token", "revoke", revoked["id"])  # beside no service, so no view has folded it
    with this.serving("back") as client:
        assert [status(client, each) for each in (good, revoked)] == [200, 401]

        def is_told() -> bool:
            return any(each["state"] == "stopped" for each in this.told("projections", "list"))

        until(is_told, timeout_s=30, what="a stop of the views")
        told = this.run("projections", "list")
        assert re.search("unknown topic 'scim_token.revoked.v2': was it written by a newer", told)
        assert client.get("/readyz").json()["status"] == "degraded"
    with newer.serving("again") as client:
        assert [status(client, each) for each in (good, revoked)] == [200, 401]
        until(
            lambda: all(each["state"] == "live" for each in newer.told("projections", "list")),
            timeout_s=30,
            what="the views",
        )


# A real one: the release before knows of no networks


WITHOUT: Final = "195aadc774b3069be2769b9d24443633db822990"
"""The last commit that knows of none."""
OFFICE: Final = "192.0.2.0/24"
INSIDE: Final = "192.0.2.7"
ELSEWHERE: Final = ("198.51.100.7", "2001:db8::7")


class Calling:
    """Calls with an API token, and presentations from an address that a proxy tells."""

    def __init__(self, client: httpx.Client, api_token: str) -> None:
        self._client = client
        self._by = {"Authorization": f"Bearer {api_token}"}

    def __call__(self, method: str, path: str, **sent: Any) -> Any:
        answer = self._client.request(method, path, headers=self._by, **sent)
        assert answer.is_success, answer.text
        return answer.json()

    def create(self) -> Any:
        return self("POST", "/scim-token", json={"team_id": TEAM, "name": "Okta"})

    def restrict(self, id_: str) -> None:
        self("PUT", f"/scim-token/{id_}/networks", json={"networks": [OFFICE]})

    def rotate(self, id_: str, *, overlap_s: int) -> str:
        time.sleep(ROTATE_EVERY.total_seconds())
        asked = {"overlap_seconds": overlap_s}
        return str(self("POST", f"/scim-token/{id_}/rotate", json=asked)["token"])

    def status(self, secret: str, source: str = INSIDE) -> int:
        headers = {"Authorization": f"Bearer {secret}", "X-Forwarded-For": source}
        return self._client.get("/gateway/forward", headers=headers).status_code

    def assert_restricted(self, secret: str) -> None:
        assert self.status(secret) == 200
        assert [self.status(secret, source) for source in ELSEWHERE] == [401, 401]


@pytest.fixture
def before(place: Path) -> Release:
    data_dir = place / "ledger"
    data_dir.mkdir(mode=0o711)
    return out_of_the_history(WITHOUT, data_dir)


def test_it_lets_in_nobody_from_elsewhere_and_what_it_changes_keeps_the_networks(
    before: Release,
) -> None:
    after = Release(Path(COMMAND), before.data_dir)
    with before.serving("before") as client:
        told = before.told("api-token", "create", "--user", TEAM, "--never-expires")
        older = Calling(client, told["token"])
        tokens = [older.create() for _ in range(3)]
        rotated, revoked, burnt = (token["id"] for token in tokens)
        with after.serving("after") as beside:
            newer = Calling(beside, told["token"])
            for token in tokens:
                newer.restrict(token["id"])
                for each in (older, newer):
                    each.assert_restricted(token["token"])
            older("PATCH", f"/scim-token/{rotated}", json={"name": "Entra"})
            secret = older.rotate(rotated, overlap_s=3600)
            for each in (older, newer):
                each.assert_restricted(secret)
                each.assert_restricted(tokens[0]["token"])
            secret = newer.rotate(rotated, overlap_s=0)
            for verb in ("suspend", "resume"):
                older("POST", f"/scim-token/{rotated}/{verb}")
            assert older.status(tokens[0]["token"]) == 401
            older("DELETE", f"/scim-token/{revoked}")
            assert newer.status(tokens[1]["token"]) == 401
        # the newer release is taken back
        older.assert_restricted(secret)
        secret = older.rotate(rotated, overlap_s=0)
        older.assert_restricted(secret)
        client.post("/revoke", data={"token": tokens[2]["token"]}).raise_for_status()
        assert older.status(tokens[2]["token"]) == 401
    with after.serving("again") as client:
        newer = Calling(client, told["token"])
        newer.assert_restricted(secret)
        assert newer("GET", f"/scim-token/{burnt}/networks") == {"networks": [OFFICE]}
        newer("DELETE", f"/scim-token/{rotated}/networks")
        assert newer.status(secret, ELSEWHERE[0]) == 200
    assert after.told("verify", "--expect-events")["damage"] is None
    assert all(view["is_good"] for view in after.told("projections", "verify"))
