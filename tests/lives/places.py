"""What is told of one token in each place, held against what the API's list tells of it."""

import re
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from api.console.instants import exact
from tests.lives.life import Life
from tests.lives.world import DAY, INSTANT, World

STATUSES: Final = ("active", "suspended", "expired", "revoked", "all")
STATES: Final = ("", "suspended", "rotating", "expired", "revoked", "all")
CHANGES: Final = frozenset({"created", "changed", "rotated", "suspended", "resumed", "revoked"}) | {
    "rotation_completed",
    "rotation_cancelled",
}


class Standing(NamedTuple):
    """A token at an instant, by its object. lists: those of the API that it is on."""

    token: Any
    lists: frozenset[str]
    word: str
    is_rotating: bool


def standing(token: Any, at: datetime) -> Standing:
    """What follows from a token object."""
    is_revoked = "revoked_at" in token
    is_over = not is_revoked and has_come(token.get("expires_at"), at)
    is_suspended = not (is_revoked or is_over) and "suspended_at" in token
    told = {
        "revoked": is_revoked,
        "expired": is_over,
        "suspended": is_suspended,
        "active": not is_revoked and not is_over,
        "all": True,
    }
    is_rotating = "rotation" in token
    words = {"revoked": is_revoked, "expired": is_over, "suspended": is_suspended}
    word = next((word for word, is_so in words.items() if is_so), None)
    return Standing(
        token,
        frozenset(status for status, is_so in told.items() if is_so),
        word or ("rotating" if is_rotating else "active"),
        is_rotating,
    )


def has_come(instant: str | None, at: datetime) -> bool:
    """Whether an instant of an answer is over at another one."""
    return instant is not None and datetime.fromisoformat(instant) <= at


def plain(token: Any) -> Any:
    """A token object without what no event of its own says."""
    return {name: value for name, value in token.items() if name != "rotation"}


def told_at_the_command_line(token: Any) -> Any:
    """The fields that an answer of the API would have, which tells of networks elsewhere."""
    told = {name: token[name] for name in token if token[name] is not None or name in _ALWAYS}
    return {name: told[name] for name in told if name != "networks"}


_ALWAYS: Final = frozenset({"last_used_at"})


def check_api(life: Life, seen: Standing) -> None:
    """The lists, the token itself, its secrets."""
    world = life.world
    alone = world.client.get(life.path, headers=world.admin)
    if "revoked" in seen.lists:
        assert alone.status_code == 404, life.steps
    else:
        assert alone.json() == seen.token, life.steps
    on = {
        status
        for status in STATUSES
        if world.listed(team_id=life.team, status=status) == [seen.token]
    }
    assert on == seen.lists, (on, life.steps)
    rotating = world.listed(team_id=life.team, rotating="true")
    assert rotating == ([seen.token] if seen.is_rotating else []), life.steps
    secrets = world.client.get(f"{life.path}/secrets", headers=world.admin).json()["result"]
    good = [each for each in secrets if not has_come(each["ends_at"], world.clock.now)]
    is_open = not seen.lists & {"revoked", "expired"}
    assert len(good) == is_open * (1 + seen.is_rotating), (secrets, life.steps)
    assert len(secrets) == len(life.secrets), life.steps
    if seen.is_rotating:
        older, newer = good
        assert seen.token["rotation"] == {
            "started_at": newer["created_at"],
            "ends_at": older["ends_at"],
            "new_first_used_at": newer["first_used_at"],
            "old_last_used_at": older["last_used_at"],
        }, life.steps


def check_command_line(life: Life, seen: Standing) -> None:
    """The same objects and the same lists."""
    world, of_team = life.world, ("token", "list", "--team", life.team)
    shown = world.command("token", "show", life.id)
    assert told_at_the_command_line(shown) == plain(seen.token), life.steps
    for status in STATUSES:
        listed = world.command(*of_team, "--status", status)
        assert listed == ([seen.token] if status in seen.lists else []), (status, life.steps)
    rotating = world.command(*of_team, "--rotating")
    assert rotating == ([seen.token] if seen.is_rotating else []), life.steps
    for verb, path in (("secrets", "/secrets"), ("history", "/events?limit=1000&order=oldest")):
        answer = world.client.get(life.path + path, headers=world.admin).json()["result"]
        assert world.command("token", verb, life.id) == answer, (verb, life.steps)


def check_console(life: Life, seen: Standing) -> None:
    """The word on its page and in the lists, and the instants on its page."""
    world = life.world
    page = world.page(f"/console/tokens/{life.id}").text
    assert _word(page) == seen.word, life.steps
    facts = page.partition('aria-label="Facts"')[2].partition("</section>")[0]
    fields = ("last_used_at", "expires_at", "created_at", "suspended_at", "revoked_at")
    told = [exact(seen.token[name]) for name in fields if seen.token.get(name) is not None]
    assert re.findall('title="([^"]+ UTC)"', facts) == told, life.steps
    for state in STATES:
        listed = world.page("/console/tokens", team=life.team, state=state).text
        is_there = f"/console/tokens/{life.id}" in listed
        expected = seen.is_rotating if state == "rotating" else (state or "active") in seen.lists
        assert is_there == expected, (state, life.steps)
        assert not is_there or _word(listed) == seen.word, (state, life.steps)


def _word(page: str) -> str:
    found = re.search(r'<span class="state (\w+)">(\w+)</span>', page)
    assert found is not None
    assert found[1] == found[2]
    return found[1]


def check_rehearsals(life: Life, seen: Standing) -> None:
    """Of a bulk revocation: the same tokens over HTTP, at the command line and in the console."""
    world, count = life.world, int("revoked" not in seen.lists)
    ask = {"where": {"team_id": life.team}, "dry_run": True}
    told = world.api("POST", "/scim-token/revoke", json=ask).json()
    assert (told["matched"], told["revoked"]) == (count, 0), life.steps
    command = world.command("token", "revoke-many", "--team", life.team)
    assert command == told, life.steps
    page = world.page("/console/tokens/revoke", team=life.team).text
    assert ("1 token would be revoked" in page) == bool(count), life.steps


def check_link(life: Life) -> None:
    """What became of it, and whether it leads anywhere."""
    world = life.world
    told = world.client.get(f"{life.path}/setup-link", headers=world.admin).json()
    assert world.command("token", "show-setup-link", life.id) == told, life.steps
    if life.link is not None:
        leads = world.client.get(life.link).status_code == 200
        assert leads == (told["state"] in {"open", "used"}), (told, life.steps)


def check_trail(life: Life, seen: Standing) -> None:
    """Its instants are those of the object, and the feed has the same rows."""
    world = life.world
    path = f"{life.path}/events?limit=1000&order=oldest"
    trail = world.client.get(path, headers=world.admin).json()["result"]
    uses = [each["at"] for each in trail if each["kind"] == "scim_token.used"]
    assert (uses[-1] if uses else None) == seen.token["last_used_at"], life.steps
    changes = [each for each in trail if each["kind"].partition(".")[2] in CHANGES]
    assert changes[-1]["at"] == seen.token["updated_at"], life.steps
    for kind in ("created", "rotated", "suspended", "revoked"):
        if f"{kind}_at" in seen.token:
            at = [each["at"] for each in trail if each["kind"] == f"scim_token.{kind}"][-1]
            assert at == seen.token[f"{kind}_at"], (kind, life.steps)
    after, fed = trail[0]["position"] - 1, list[Any]()
    while batch := world.client.get(
        "/events", headers=world.admin, params={"after": after, "limit": 1000}
    ).json():
        fed += [each["data"] for each in batch if each["data"]["token_id"] == life.id]
        after = batch[-1]["id"]
    assert fed == trail, life.steps


def check_networks(life: Life) -> None:
    """The trail says last what the ledger compares with. No list tells of it: it is as active."""
    world, networks = life.world, [*life.networks]
    told = world.client.get(f"{life.path}/networks", headers=world.admin).json()
    assert told == {"networks": networks}, life.steps
    assert world.command("token", "networks", life.id)["networks"] == networks, life.steps
    path = f"{life.path}/events?limit=1000&kind=scim_token.networks_set"
    trail = world.client.get(path, headers=world.admin).json()["result"]
    noted = trail[0]["note"] if trail else "any network"
    assert noted == (", ".join(networks) or "any network"), life.steps
    assert life.state().networks == life.networks, life.steps


def check_the_past(life: Life) -> None:
    """Each instant as it was told then, by the API and at the command line."""
    world = life.world
    for at, token in life.past.items():
        then = at.isoformat()
        alone = world.client.get(life.path, headers=world.admin, params={"as_of": then})
        assert ("revoked_at" in token) == (alone.status_code == 404), (then, life.steps)
        assert alone.status_code == 404 or alone.json() == token, (then, life.steps)
        listed = world.listed(team_id=life.team, status="all", as_of=then)
        assert listed == [token], (then, life.steps)
        shown = world.command("token", "show", life.id, "--as-of", then)
        assert told_at_the_command_line(shown) == token, (then, life.steps)


def check_metrics(world: World) -> None:
    """Of all tokens: each counted by the word that the console has for it."""
    at = world.clock.now
    text = world.client.get("/metrics", headers=world.admin).text

    def metric(name: str) -> dict[str, float]:
        samples = re.findall(rf'^scim_ledger_{name}{{\w+="(\w+)"}} (\S+)$', text, re.MULTILINE)
        return {label: float(value) for label, value in samples}

    seen = [standing(token, at) for token in world.listed(status="all")]
    words = [each.word.replace("rotating", "active") for each in seen]
    assert metric("tokens") == {
        word: words.count(word) for word in ("active", "suspended", "expired", "revoked")
    }
    rotating = world.listed(rotating="true")
    assert metric("rotations")["underway"] == len(rotating)
    for days, count in metric("tokens_expiring").items():
        before = at + timedelta(days=int(days)) + INSTANT
        assert count == len(world.listed(expires_before=before.isoformat())), days
    ends = [datetime.fromisoformat(each["rotation"]["ends_at"]) for each in rotating]
    for days, count in metric("rotations_ending").items():
        assert count <= sum(end <= at + int(days) * DAY for end in ends), days
