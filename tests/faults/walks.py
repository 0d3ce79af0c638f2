"""Clients of a running service that know what each answer must be, whatever befalls the views."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

import httpx

from domain.scim_token.events import Presentation
from domain.secret import SecretKind, mint, parse
from tests.conftest import now
from tests.meanwhile import meanwhile
from tests.service import RunningService

FORWARD: Final = "/gateway/forward"

Known = tuple[UUID, UUID, str]
"""A token that exists: its id, its team, its secret."""

BY_THE_CLOCK: Final = frozenset({"first_used", "used_from_new_source"})
"""What is told of uses a little later, by itself."""


class WrongAnswer(AssertionError):
    """An answer was not what it must be."""


class Walks:
    """Threads that authenticate and read in every view until they are told to stop.

    known: tokens of the ledger, used beside those that a walk makes. walks: how many came to their
    end. Whatever goes wrong ends its thread and is raised when the block is left.
    """

    def __init__(self, service: RunningService, *, known: Sequence[Known] = ()) -> None:
        self._service = service
        self._url = service.url
        self._admin = {"Authorization": f"Bearer {service.api_token().secret}"}
        self._known = known
        self._stopping = threading.Event()
        self.walks = 0

    @contextmanager
    def running(self, *, threads: int = 3) -> Iterator[None]:
        """Walk for as long as the block takes, which begins after the first walk.

        Raises WrongAnswer, or what the first request raised that failed.
        """
        walk_on = partial(self._walk_on, threads=threads)
        with meanwhile(
            walk_on, threads=threads, has_begun=lambda: self.walks > 0, stopping=self._stopping
        ):
            yield

    def _walk_on(self, number: int, threads: int) -> None:
        mine = self._known[number::threads]  # so that nobody else uses them meanwhile
        luck = random.Random(number)
        with httpx.Client(base_url=self._url, timeout=10, trust_env=False) as client:
            while not self._stopping.is_set():
                self._life(client)
                if mine:
                    self._use_known(client, *luck.choice(mine))
                self.walks += 1

    def _life(self, client: httpx.Client) -> None:
        """A token is made, used from here and there, and revoked; each view tells so at once."""
        team, began = uuid4(), now()
        made = self._answer(
            client, 201, "POST", "/scim-token", json={"team_id": str(team), "name": "Okta"}
        )
        id_, secret = made["id"], made["token"]
        moved = {"team_id": str(team), "new_source_since": began.isoformat()}
        must(self._listed(client, team_id=str(team)) == [id_], "a new token is listed")

        first, second = "192.0.2.1", "192.0.2.2"
        # A gateway asks for somebody else: without trusted proxies its address tells nothing.
        ways: list[tuple[str | None, Callable[[], str]]] = [
            (None, lambda: present(client, secret, team, UUID(id_))),
            (first, lambda: self._use_from(first, secret)),
            (second, lambda: self._use_from(second, secret)),
        ]
        for uses, (source, use) in enumerate(ways, start=1):
            use_id = use()
            document = self._answer(client, 200, "GET", f"/scim-token/{id_}")
            must(document["last_used_at"] is not None, "a use is told")
            newest = next(
                event
                for event in self._events(client, id_, limit=5)
                if event["kind"].partition(".")[2] not in BY_THE_CLOCK
            )
            must(
                (newest["kind"], newest["source"]) == ("scim_token.used", source),
                "a use is the newest",
            )
            must(newest["use_id"] == use_id, "it is this very use")
            usage = self._answer(client, 200, "GET", f"/scim-token/{id_}/usage")["result"]
            must(sum(step["uses"] for step in usage) == uses, "uses are counted")
            must(
                (self._listed(client, **moved) == [id_]) == (source == second),
                "a new address is told",
            )

        self._answer(client, 200, "DELETE", f"/scim-token/{id_}")
        for refused in (secret, mint(SecretKind.SCIM_LIVE, random.randbytes(32)).reveal()):
            answer = client.get(FORWARD, headers={"Authorization": f"Bearer {refused}"})
            must(answer.status_code == 401, f"refused: {answer.status_code}")
        must(self._listed(client, team_id=str(team)) == [], "a revoked token is not listed")
        told = (event["kind"].partition(".")[2] for event in self._events(client, id_))
        kinds = [kind for kind in told if kind not in BY_THE_CLOCK]
        must(
            kinds == ["refused", "revoked", "used", "used", "used", "created"],
            f"the history is {kinds}",
        )

    def _use_from(self, source: str, secret: str) -> str:
        """Use a token in a process of its own, as a replica behind a trusted proxy would."""
        how = Presentation(door="scim", source=source)
        decision = self._service.command(lambda ledger: ledger.authenticate(parse(secret), how))
        return str(decision.use_id)

    def _use_known(self, client: httpx.Client, id_: UUID, team: UUID, secret: str) -> None:
        """One more use of an old token, told by the views of all that it did before, too."""
        before = self._events(client, str(id_), limit=1000)
        use_id = present(client, secret, team, id_)
        after = self._events(client, str(id_), limit=1000)
        must(
            [event["use_id"] for event in after[:1]] == [use_id],
            "the use of an old token is the newest",
        )
        must(after[1:] == before, "the history of an old token stays")
        document = self._answer(client, 200, "GET", f"/scim-token/{id_}")
        must(
            document["last_used_at"] == after[0]["at"],
            "last_used_at of an old token is that of its use",
        )

    def _listed(self, client: httpx.Client, **narrow: str) -> list[str]:
        found = self._answer(client, 200, "GET", "/scim-token", params=narrow)
        return [token["id"] for token in found["result"]]

    def _events(self, client: httpx.Client, id_: str, **narrow: Any) -> list[dict[str, Any]]:
        path = f"/scim-token/{id_}/events"
        found: list[dict[str, Any]] = self._answer(client, 200, "GET", path, params=narrow)[
            "result"
        ]
        return found

    def _answer(
        self, client: httpx.Client, status: int, method: str, path: str, **parts: Any
    ) -> Any:
        answer = client.request(method, path, headers=self._admin, **parts)
        must(answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()


def present(client: httpx.Client, secret: str, team: UUID, token_id: UUID) -> str:
    """Use a token at the door of gateways; the id of the use."""
    answer = client.get(FORWARD, headers={"Authorization": f"Bearer {secret}"})
    must(answer.status_code == 200, f"{FORWARD}: {answer.status_code} {answer.text}")
    told = answer.headers["x-scim-team-id"], answer.headers["x-scim-token-id"]
    must(told == (str(team), str(token_id)), "team and token are those of the secret")
    use_id: str = answer.headers["x-scim-use-id"]
    return use_id


def must(is_so: bool, what: str) -> None:
    """Raise WrongAnswer unless it is so."""
    if not is_so:
        raise WrongAnswer(what)
