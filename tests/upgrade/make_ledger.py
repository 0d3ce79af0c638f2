"""Make a kept ledger: everything that can happen to a token, under this release or a later one.

    python -m tests.upgrade.make_ledger --command <a checkout of it>/.venv/bin/scim-ledger

It knows a release by its command line and by HTTP alone, so it works with any. It takes two
minutes, for it waits for expiries, overlaps and warnings.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from domain.secret import SecretKind, mint
from tests.upgrade import archive, days_ago
from tests.upgrade.kept import API_CALLS, HOOK, THIS, pepper_keys, presented
from tests.upgrade.making import (
    AGENTS,
    IPV4,
    IPV6,
    TEAM_A,
    TEAM_B,
    TEAM_C,
    USER_B,
    USER_C,
    Making,
)
from tests.upgrade.past_life import past_life
from tests.upgrade.release import Release

WARNED_AFTER_S: Final = 15
"""So long the service takes at most to tell what the clock has brought."""
KEYS: Final = (None, 1, 2)
"""Of the pepper, in the end."""
MANY: Final = 150
"""Uses, each of a commit of its own: more than two chapters of a stream's head."""


def first_life(making: Making) -> None:
    """Under the last key but one: creation, use, rotation, revocation, refusal, by all who may."""
    soon = (datetime.now(UTC) + timedelta(seconds=12)).isoformat()
    making.create("everywhere")
    making.create("short-lived", expires_at=soon)
    making.create("long-lived", team=TEAM_B, expires_at="9998-12-31T23:59:59+01:00")
    making.create("never used", by="confined", team=TEAM_B)
    making.create("Okta “プロビジョニング” 👩🏽‍💻")
    making.create("n" * 255, team=TEAM_C)
    making.create_by_operator("by an operator", "--expires-at", "2999-01-01T00:00:00Z")
    once = {"Idempotency-Key": "one and the same"}
    making.create("idempotent", headers=once)
    body = {"team_id": TEAM_A, "name": "idempotent"}
    for again in (body, {**body, "name": "another"}):
        repeated = making.call("POST", "/scim-token", json=again, headers=once)
        assert repeated.status_code in {409, 422}, repeated.text
    making.mark()
    doors(making)
    making.mark()
    rotations(making)
    revocations(making)
    refusals(making)
    making.mark()


def doors(making: Making) -> None:
    """Uses at every door, from both kinds of address, in both forms, alone and together."""
    assert making.use("short-lived", source=IPV4[2]) == 200
    for door in ("/gateway/forward", "/gateway/nginx", "/gateway/envoy/scim/v2/Users"):
        for source, agent in zip((*IPV4, *IPV6), (*AGENTS, *AGENTS), strict=False):
            assert making.use("everywhere", door, source=source, agent=agent) == 200
    bare = making.tokens["everywhere"]["token"]
    assert making.present(bare, "/gateway/forward", source=IPV6[1]) == 200
    making.use("long-lived", "/scim/v2/Users", source=IPV4[1])  # nothing stands behind it
    told = {"token": bare, "method": "patch", "path": "/scim/v2/Users/7?x", "source": IPV6[0]}
    assert making.call("POST", "/verify", json=told).json()["active"]
    assert making.call("POST", "/introspect", data={"token": bare}).json()["active"]
    making.create("busy", team=TEAM_C)
    for number in range(MANY):
        assert making.use("busy", source=IPV4[number % 3]) == 200
    making.burst("busy")


def rotations(making: Making) -> None:
    """Overlaps that are over, that go on, and that there were none of."""
    making.create("rotated", team=TEAM_B)
    making.create("rotating")
    making.create_by_operator("rotated by an operator")
    older = making.tokens["rotated"]["token"]
    making.rotate("rotated", overlap_s=8)
    making.rotate("rotating", overlap_s=30 * 86_400)
    making.rotate_by_operator("rotated by an operator")
    for name in ("rotated", "rotating", "rotated by an operator"):
        assert making.use(name, source=IPV6[0]) == 200
    assert making.present(f"Bearer {older}", "/gateway/nginx", source=IPV4[0]) == 200
    time.sleep(11)  # a token is rotated once in ten seconds
    assert making.present(f"Bearer {older}", "/gateway/nginx", source=IPV4[0]) == 401
    making.rotate("rotated", overlap_s=0, by="confined")
    assert making.use("rotated", source=IPV4[1]) == 200
    over = datetime.fromisoformat(making.tokens["short-lived"]["expires_at"])
    time.sleep(max(0.0, (over - datetime.now(UTC)).total_seconds()))
    assert making.use("short-lived") == 401


def revocations(making: Making) -> None:
    """By a user, by a confined user, by operators, and by whoever held the secret."""
    makers = ("by a user", "by a confined user", "by an operator", "by nobody named", "burnt")
    for how in makers:
        making.create(f"revoked {how}", team=TEAM_B)
        assert making.use(f"revoked {how}", source=IPV6[1]) == 200
    making.revoke("revoked by a user", reason="left the company: “über”")
    making.revoke("revoked by a user")
    making.revoke("revoked by a confined user", by="confined")
    operator = ("token", "revoke", making.tokens["revoked by an operator"]["id"])
    making.release.run(*operator, "--user", USER_C, "--reason", "found in a log")
    making.release.run("token", "revoke", making.tokens["revoked by nobody named"]["id"])
    burnt = {"token": making.tokens["revoked burnt"]["token"]}
    headers = {"X-Forwarded-For": IPV6[1], "User-Agent": AGENTS[0]}
    assert making.client.post("/revoke", data=burnt, headers=headers).status_code == 200
    for how in makers:
        assert making.use(f"revoked {how}", source=IPV4[2]) == 401
    making.create("revoked while two are good")
    making.rotate("revoked while two are good", overlap_s=3600)
    making.revoke("revoked while two are good", reason="x" * 200)


def refusals(making: Making) -> None:
    """What names no token is tallied; API tokens are refused by what they lack and by their end."""
    unknown = mint(SecretKind.SCIM_LIVE, bytes(32)).reveal()
    for credentials in (None, "Bearer garbage", "Basic eDp5", f"Bearer {unknown}"):
        for door in ("/gateway/forward", "/gateway/nginx"):
            assert making.present(credentials, door, source=IPV4[2]) == 401
    assert making.client.get("/scim-token").status_code == 401
    assert making.call("DELETE", f"/scim-token/{UUID(int=0)}", by="auditor").status_code == 403
    making.release.run("api-token", "revoke", making.api_tokens["retired"]["id"])
    assert making.call("GET", "/scim-token", by="retired", source=IPV6[0]).status_code == 401


def second_life(making: Making) -> None:
    """Under another key of the pepper, after a restart and a rebuild."""
    making.create("under the last key", team=TEAM_C, by="admin")
    for name in ("under the last key", "everywhere", "busy"):
        assert making.use(name, source=IPV4[1], agent=AGENTS[1]) == 200
    making.rotate("long-lived", overlap_s=0)
    assert making.use("long-lived", source=IPV6[0]) == 200


def third_life(making: Making) -> None:
    """What the older kept ledger has not: suspensions, networks, ends of rotations, leaks, a
    policy.
    """
    names = ("suspended", "resumed", "changed", "completed", "cancelled", "leaked", "linked")
    for name in (*names, "restricted", "restricted for a while"):
        making.create(name, team=TEAM_C)
        assert making.use(name, source=IPV4[0]) == 200
    soon = (datetime.now(UTC) + timedelta(days=20)).isoformat()
    for verb, name, *words in (
        ("suspend", "suspended", "--reason", "an audit"),
        ("suspend", "resumed"),
        ("resume", "resumed", "--reason", "it is over"),
        ("change", "changed", "--name", "changed: “neu”", "--expires-at", soon),
        ("setup-link", "linked", "--base-url", "https://ledger.example"),
        ("end-setup-link", "linked"),
        ("allow-networks", "restricted", f"{IPV4[0]}/32", "2001:db8::/32", "--reason", "theirs"),
        ("allow-networks", "restricted for a while", IPV4[2]),
        ("allow-any-network", "restricted for a while"),
    ):
        making.release.run("token", verb, making.tokens[name]["id"], *words)
    assert making.use("suspended") == 401
    assert making.use("resumed") == 200
    making.rotate("restricted", overlap_s=30 * 86_400)
    for source, status in ((IPV4[0], 200), (IPV6[0], 200), (IPV4[2], 401)):
        assert making.use("restricted", source=source) == status
    assert making.use("restricted for a while", source=IPV4[1]) == 200
    for name, verb in (("completed", "complete-rotation"), ("cancelled", "cancel-rotation")):
        making.rotate(name, overlap_s=3600)
        making.release.run("token", verb, making.tokens[name]["id"])
    (older, _) = (each for each in making.secrets if each["what"] == "cancelled")
    older["until"] = None  # it goes on as before
    found = [{"token": making.tokens["leaked"]["token"], "source": "a test"}]
    assert making.call("POST", "/leak-report", json=found).json()[0]["action"] == "revoked"
    making.api_token("rotated", "--user", USER_B, "--never-expires")
    rotated = making.release.told("api-token", "rotate", making.api_tokens["rotated"]["id"])
    making.api_tokens["rotated"] = {**making.api_tokens["rotated"], **rotated}
    making.release.run("policy", "set", "--team", TEAM_C, "--max-live-tokens", "50")
    time.sleep(WARNED_AFTER_S)


def answers(making: Making) -> Mapping[str, Any]:
    """What the release says of all that, in an order in which no answer changes a later one."""
    for each in making.secrets:
        asked = making.call("POST", "/verify", json={"token": presented(each)}).json()
        each["answer"] = "yes" if asked["active"] else asked["reason"]
    callers = [
        {
            "what": name,
            "id": made["id"],
            **making.origin_of(made["token"]),
            "statuses": {
                path: making.call(*path.split(" ", 1), by=name).status_code for path in API_CALLS
            },
        }
        for name, made in making.api_tokens.items()
    ]
    time.sleep(6)  # tallies are written every five seconds
    making.mark()
    return {
        "secrets": making.secrets,
        "callers": callers,
        "reads": {path: _read(making, path) for path in _paths(making)},
    }


def _read(making: Making, path: str) -> Any:
    by = "confined" if path.endswith("#confined") else "admin"
    answer = making.call("GET", path.partition("#")[0], by=by)
    return {"status": answer.status_code, "body": answer.json()}


def _paths(making: Making) -> Sequence[str]:
    first, used, late, end = making.instants
    day = f"{first[:10]}T00:00:00Z"
    after = (datetime.fromisoformat(day) + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ids = [token["id"] for token in making.tokens.values()]
    return [
        *(
            f"/scim-token?limit=1000&status={status}"
            for status in ("all", "active", "revoked", "expired")
        ),
        "/scim-token?limit=1000&status=all#confined",
        *(f"/scim-token?limit=1000&status=all&as_of={at}" for at in making.instants),
        f"/scim-token?limit=1000&never_used=true&team_id={TEAM_B}",
        f"/scim-token?limit=1000&unused_since={late}",
        f"/scim-token?limit=1000&new_source_since={used}",
        *(f"/scim-token/{id_}" for id_ in ids),
        *(f"/scim-token/{id_}?as_of={used}" for id_ in ids),
        *(f"/scim-token/{id_}/networks" for id_ in ids),
        *(f"/scim-token/{id_}/usage?step=hour&from={day}&to={after}" for id_ in ids),
        f"/audit?limit=1000&outcome=refused&to={end}",
        f"/audit?limit=1000&source=2001:db8::/48&to={end}",
        f"/audit?limit=1000&kind=refusal_tally.counted&to={end}",
        f"/audit?limit=1000&order=oldest&to={end}#confined",
    ]


def make(command: Path, kept: Path) -> None:
    """Make it, and keep it: dump, data directory, archive, answers, trail."""
    place = Path(tempfile.mkdtemp(prefix="scim-ledger-golden-", dir="/tmp"))
    place.chmod(0o711)
    data_dir = place / "ledger"
    data_dir.mkdir(mode=0o711)
    (data_dir / "pepper").touch(mode=0o600)
    release = Release(command, data_dir, modules=HOOK)
    making = Making(release)
    with days_ago.cleared():
        past_life(making, place)
    with release.serving("first") as making.client:
        making.api_token(
            "auditor", "--user", USER_B, "--permission", "audit:read", "--never-expires"
        )
        making.api_token(
            "confined", *("--user", USER_C, "--team", TEAM_B), "--expires-in-days", "36500"
        )
        making.api_token("retired", "--user", USER_B, "--team", TEAM_A, "--team", TEAM_C)
        first_life(making)
    (release.data_dir / "pepper").write_text(pepper_keys(*KEYS))
    with release.serving("second") as making.client:
        release.run("projections", "rebuild", "usage")
        second_life(making)
        third_life(making)
        found = answers(making)
    kept.mkdir(exist_ok=True)
    trail = release.run("audit", "export")
    verified = release.told("verify", "--expect-events")
    api_tokens = release.told("api-token", "list")
    shutil.rmtree(kept / "archive", ignore_errors=True)
    shutil.copytree(place / "archive", kept / "archive", copy_function=shutil.copyfile)
    (kept / "seals.txt").write_text(release.run("seal"))
    release.run("backup", str(kept / "ledger.dump"))
    (kept / "ledger.dump").chmod(0o644)
    archive.pack(release.data_dir, kept / "data.tar.xz")
    (kept / "trail.ndjson").write_text(trail)
    made = {**found, "verified": verified, "api_tokens": api_tokens, "pepper": KEYS}
    (kept / "answers.json").write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n")
    shutil.rmtree(place)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the kept ledger.")
    parser.add_argument("--command", type=Path, required=True, help="scim-ledger of the release")
    parser.add_argument("--to", type=Path, default=THIS, help="where to keep it")
    given = parser.parse_args()
    make(given.command.absolute(), given.to.absolute())
