"""What the maker does to a release: calls, commands, and presentations at its doors."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx

from domain.secret import SecretKind
from tests.upgrade.kept import presented
from tests.upgrade.release import Release

TEAM_A, TEAM_B, TEAM_C = (str(UUID(int=0xA0 + number)) for number in range(3))
USER_A, USER_B, USER_C = (str(UUID(int=0xB0 + number)) for number in range(3))
IPV4: Final = ("192.0.2.7", "192.0.2.8", "198.51.100.9")
IPV6: Final = ("2001:db8::7", "2001:db8:1::8")
AGENTS: Final = ("Okta SCIM Client 1.0.0", "Azure AD SCIM", "プロビジョニング/1.0")
BURST: Final = 64
DRAWS_MAX: Final = 200
"""Of one process."""


class Making:
    """What was made so far: the tokens by what they are for, with the secrets that were shown."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.client = httpx.Client()
        self.api_tokens: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.secrets: list[dict[str, Any]] = []
        self.instants: list[str] = []

    def origin_of(self, shown: str) -> Mapping[str, Any]:
        """The draw that a secret comes from: all that is kept of it."""
        kind = next(kind for kind in SecretKind if shown.startswith(kind))
        for stream in reversed(self.release.names):
            for number in range(DRAWS_MAX):
                origin = {"kind": str(kind), "stream": stream, "number": number}
                if presented(origin) == shown:
                    return origin
        raise AssertionError(f"a {kind} secret was not drawn from the seed")

    # --- who calls -------------------------------------------------------------------------------

    def api_token(self, name: str, *words: str) -> None:
        """Made at the command line, as every one is."""
        self.api_tokens[name] = self.release.told("api-token", "create", *words)

    def call(
        self, method: str, path: str, *, by: str = "admin", source: str = IPV4[0], **more: Any
    ) -> httpx.Response:
        """A call with an API token, from an address that a proxy tells."""
        headers = {
            "Authorization": f"Bearer {self.api_tokens[by]['token']}",
            "X-Forwarded-For": source,
            "User-Agent": "back office/1.0",
            **more.pop("headers", {}),
        }
        return self.client.request(method, path, headers=headers, **more)

    # --- tokens and their secrets ----------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        by: str = "admin",
        team: str = TEAM_A,
        headers: Mapping[str, str] = {},
        **body: Any,
    ) -> None:
        """Over HTTP."""
        document = {"team_id": team, "name": name, **body}
        answer = self.call("POST", "/scim-token", by=by, json=document, headers=dict(headers))
        assert answer.status_code == 201, answer.text
        self._shown(name, answer.json())

    def create_by_operator(self, name: str, *words: str) -> None:
        """At the command line."""
        shown = self.release.told(
            "token", "create", "--team", TEAM_B, "--user", USER_B, "--name", name, *words
        )
        self._shown(name, shown)

    def rotate(self, name: str, *, overlap_s: int, by: str = "admin") -> None:
        """Over HTTP; the older secret is good for the overlap."""
        path = f"/scim-token/{self.tokens[name]['id']}/rotate"
        answer = self.call("POST", path, by=by, json={"overlap_seconds": overlap_s})
        assert answer.status_code == 200, answer.text
        ends = datetime.fromisoformat(answer.json()["rotated_at"]) + timedelta(seconds=overlap_s)
        self.secrets[-1 - self._age(name)]["until"] = ends.isoformat()
        self._shown(name, answer.json())

    def rotate_by_operator(self, name: str) -> None:
        """At the command line, without an overlap."""
        shown = self.release.told(
            *(
                "token",
                "rotate",
                self.tokens[name]["id"],
                "--overlap-seconds",
                "0",
                "--user",
                USER_C,
            )
        )
        self._shown(name, shown)

    def revoke(self, name: str, *, by: str = "admin", **params: str) -> None:
        """Over HTTP."""
        answer = self.call("DELETE", f"/scim-token/{self.tokens[name]['id']}", by=by, params=params)
        assert answer.status_code == 200, answer.text

    def _shown(self, name: str, document: dict[str, Any]) -> None:
        self.tokens[name] = document
        origin = self.origin_of(document["token"])
        self.secrets.append({"what": name, "token_id": document["id"], **origin, "until": None})

    def _age(self, name: str) -> int:
        """How many secrets were shown since a token's newest."""
        return next(age for age, each in enumerate(reversed(self.secrets)) if each["what"] == name)

    def forget(self, name: str) -> None:
        """A token that the ledger knows no more."""
        del self.tokens[name]
        self.secrets = [each for each in self.secrets if each["what"] != name]

    def secrets_of(self, name: str) -> Sequence[str]:
        """The oldest first."""
        return [presented(each) for each in self.secrets if each["what"] == name]

    # --- doors -----------------------------------------------------------------------------------

    def use(
        self,
        name: str,
        door: str = "/gateway/forward",
        *,
        source: str = IPV4[0],
        agent: str = AGENTS[0],
    ) -> int:
        """Present a token's newest secret at a gateway's door; the status."""
        return self.present(
            f"Bearer {self.tokens[name]['token']}", door, source=source, agent=agent
        )

    def present(
        self, credentials: str | None, door: str, *, source: str, agent: str = AGENTS[0]
    ) -> int:
        """Present anything; the status."""
        headers = {
            "X-Forwarded-For": source,
            "X-Forwarded-Method": "PATCH",
            "X-Forwarded-Uri": "/scim/v2/Users/7",
            "X-Original-Method": "GET",
            "X-Original-URI": "/scim/v2/Groups?filter=x",
            "User-Agent": agent,
        }
        if credentials is not None:
            headers["Authorization"] = credentials
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        return self.client.get(door, headers=sent).status_code

    def burst(self, name: str) -> None:
        """Many uses at once: some commit together and are one event."""
        headers = {
            "Authorization": f"Bearer {self.tokens[name]['token']}",
            "X-Forwarded-For": IPV6[0],
        }

        async def run() -> None:
            url, limits = self.client.base_url, httpx.Limits(max_connections=BURST)
            async with httpx.AsyncClient(base_url=url, trust_env=False, limits=limits) as client:
                asked = [client.get("/gateway/forward", headers=headers) for _ in range(2 * BURST)]
                assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}

        asyncio.run(run())

    def mark(self) -> None:
        """An instant to ask about later, apart from all events."""
        time.sleep(0.01)
        self.instants.append(
            datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
        time.sleep(0.01)
