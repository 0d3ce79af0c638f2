"""The life of one SCIM token: commands over HTTP, presentations at every door, and time."""

import re
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from domain.authority import Operator
from domain.errors import NotFound
from domain.ledger import TokenLedger
from domain.scim_token.token import ScimToken
from tests.console.browsing import SAME_ORIGIN, secrets_in
from tests.lives.world import DAY, HOUR, INSTANT, World

SPANS: Final = {
    "minute": timedelta(minutes=1),
    "hour": HOUR,
    "day": DAY,
    "week": 8 * DAY,
    "month": 31 * DAY,
}
OVERLAPS: Final = {"rotate": None, "rotate for a day": 86_400, "rotate at once": 0}
ENDS: Final = {"end": 2 * HOUR, "no end": None}
OFFICE: Final = "192.0.2.0/24"
NETWORKS: Final = {"allow the office": (OFFICE,), "allow any network": ()}
INSIDE: Final = "192.0.2.7"
COMMANDS: Final = {
    "complete": ("POST", "/rotate/complete"),
    "cancel": ("POST", "/rotate/cancel"),
    "suspend": ("POST", "/suspend"),
    "resume": ("POST", "/resume"),
    "link": ("POST", "/setup-link"),
    "end link": ("DELETE", "/setup-link"),
    "revoke": ("DELETE", ""),
}
STEPS: Final = (
    *SPANS,
    *OVERLAPS,
    *ENDS,
    *NETWORKS,
    *COMMANDS,
    *("rename", "open link", "present first", "present last"),
)


class Life:
    """steps: what was done, and how it was answered. secrets: all that there were, oldest first.
    past: what the API told at an instant. networks: from which alone it is good.
    """

    def __init__(self, world: World, *, lifetime: timedelta | None = None) -> None:
        self.world = world
        self.team = str(uuid4())
        body = {"team_id": self.team, "name": "Okta"}
        if lifetime is not None:
            body["expires_at"] = (world.clock.now + lifetime).isoformat()
        made = world.api("POST", "/scim-token", json=body).json()
        self.id: str = made["id"]
        self.secrets: list[str] = [made["token"]]
        self.link: str | None = None
        self.steps = [f"create for {lifetime}"]
        self.past: dict[datetime, Any] = {}
        self.networks: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Of the token, in the API."""
        return f"/scim-token/{self.id}"

    def state(self) -> ScimToken:
        """As the ledger has it."""
        return self.world.ask(lambda ledger: ledger.scim_token(UUID(self.id)))

    def listed(self) -> Any:
        """The token object, whatever became of the token."""
        (found,) = self.world.listed(team_id=self.team, status="all")
        return found

    def do(self, step: str) -> None:
        """One of STEPS, in an instant in which nothing was asked before; what is refused did not
        happen.
        """
        self.world.clock.advance(INSTANT)
        if step in SPANS:
            self.world.clock.advance(SPANS[step])
            self.steps.append(step)
        elif step.startswith("present"):
            self.present(self.secrets[0 if step.endswith("first") else -1])
        elif step == "open link":
            self._open()
        elif step in NETWORKS:
            self._allow(step)
        else:
            self._command(step)

    def _command(self, step: str) -> None:
        method, path = COMMANDS.get(step, ("PATCH", ""))
        body: Any = None
        if step in OVERLAPS:
            method, path, overlap = "POST", "/rotate", OVERLAPS[step]
            body = {} if overlap is None else {"overlap_seconds": overlap}
        elif step == "rename":
            body = {"name": f"{len(self.steps)}"}
        elif step in ENDS:
            lifetime = ENDS[step]
            ends_at = None if lifetime is None else self.world.clock.now + lifetime
            body = {"expires_at": ends_at and ends_at.isoformat()}
        answer = self.world.api(method, self.path + path, json=body)
        self.steps.append(f"{step}: {answer.status_code}")
        assert answer.status_code < 500, (self.steps, answer.text)
        if step == "link" and answer.status_code == 201:
            self.link = answer.json()["url"].removeprefix("http://127.0.0.1")
        elif step in OVERLAPS and answer.status_code == 200:
            self.secrets.append(answer.json()["token"])

    def _allow(self, step: str) -> None:
        networks, id_ = NETWORKS[step], UUID(self.id)

        async def ask(ledger: TokenLedger) -> ScimToken:
            if networks:
                return await ledger.allow_networks(id_, networks, by=Operator())
            return await ledger.allow_any_network(id_, by=Operator())

        self.world.clock.advance(INSTANT)
        try:
            self.networks = self.world.ask(ask).networks
        except NotFound as refusal:
            self.steps.append(f"{step}: {refusal}")
        else:
            self.steps.append(step)
            assert self.networks == networks, self.steps

    def _open(self) -> None:
        if self.link is not None:
            shown = self.world.client.post(self.link, headers=SAME_ORIGIN, follow_redirects=False)
            self.steps.append(f"open link: {shown.status_code}")
            self.secrets += secrets_in(shown.text) - {*self.secrets}

    def present(self, secret: str) -> None:
        """At every door, from an address that is not known: they let in alike, name the same token,
        and say why not alike.
        """
        world, held = self.world, {"Authorization": f"Bearer {secret}"}
        reason = self._reason(secret)
        gateway = world.client.get("/gateway/nginx", headers=held)
        scim = world.client.get("/scim/v2/Users", headers=held)
        verified = world.api("POST", "/verify", json={"token": secret}).json()
        introspected = world.api("POST", "/introspect", data={"token": secret}).json()
        told = (gateway.status_code, scim.status_code, verified, introspected)
        self.steps.append(f"present {self.secrets.index(secret)}: {gateway.status_code}")
        if reason is not None:
            unlike = (told, reason, self.steps)
            assert gateway.status_code == scim.status_code == 401, unlike
            assert (verified, introspected) == (
                {"active": False, "reason": reason},
                {"active": False},
            ), unlike
            if reason == "network":
                self._present_inside(secret)
            return
        assert (gateway.status_code, scim.status_code) == (200, 501), (told, self.steps)
        ids = {(each["token_id"], each["team_id"]) for each in self._identities(told, gateway)}
        assert ids == {(self.id, self.team)}, told
        assert introspected["client_id"] == self.team
        known = world.api("GET", f"{self.path}/secrets").json()["result"][
            self.secrets.index(secret)
        ]
        token = self.listed()
        assert known["last_used_at"] == token["last_used_at"]
        assert introspected["iat"] == _seconds(token["created_at"])
        assert introspected.get("exp") == (known["ends_at"] and _seconds(known["ends_at"]))

    def _present_inside(self, secret: str) -> None:
        """From one of its networks, which one door can be told."""
        told = {"token": secret, "source": INSIDE}
        verified = self.world.api("POST", "/verify", json=told).json()
        assert verified.get("token_id") == self.id, (verified, self.steps)
        self.steps.append(f"present {self.secrets.index(secret)} from the office")

    def _identities(self, told: Any, gateway: Any) -> list[dict[str, str]]:
        *_, verified, introspected = told
        headers = gateway.headers
        return [
            {"token_id": headers["x-scim-token-id"], "team_id": headers["x-scim-team-id"]},
            verified,
            {**introspected, "token_id": introspected["sub"]},
        ]

    def _reason(self, secret: str) -> str | None:
        """Why a secret is refused, by what the API tells of token and secret: None where it is not.

        Why not is remembered for up to a minute, so that passes first.
        """
        self.world.clock.advance(2 * SPANS["minute"])
        token = self.listed()
        secrets = self.world.client.get(f"{self.path}/secrets", headers=self.world.admin).json()
        ends_at = secrets["result"][self.secrets.index(secret)]["ends_at"]
        if "revoked_at" in token:
            return "revoked"
        if ends_at is not None and datetime.fromisoformat(ends_at) <= self.world.clock.now:
            return "expired"
        if "suspended_at" in token:
            return "suspended"
        return "network" if self.networks else None


def _seconds(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp())


def offered(page: str) -> set[str]:
    """The commands that a token's page asks about; a link leads to each question, and no other."""
    asked = set(re.findall(r'<dialog id="([a-z-]+)"', page))
    assert set(re.findall(r'href="#([a-z-]+)" data-dialog', page)) == asked
    return asked


def actions(page: str) -> set[str]:
    """The commands that its forms can send."""
    return set(re.findall(r'(?:form)?action="/console/tokens/[0-9a-f-]+/([a-z-]+)"', page))
