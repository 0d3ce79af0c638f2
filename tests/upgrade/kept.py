"""The kept ledger: its files, its secrets, and what the release before answered about it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from domain.eventstore.event_registry import REGISTRY
from domain.secret import SecretKind, mint
from tests.upgrade.seeded.sitecustomize import entropy

HOOK: Final = Path(__file__).with_name("seeded")
BEFORE: Final = Path(__file__).with_name("ledger")
"""Of the release before."""
THIS: Final = Path(__file__).with_name("ledger_of_this_release")
"""Of 0.1.0, for the gate of whatever comes next."""
KEPT = BEFORE
"""The one that a test reads."""
KINDS: Final = {
    *(f"scim_token.{past}" for past in ("created", "used", "refused", "rotated", "revoked")),
    *(f"api_token.{past}" for past in ("created", "used", "refused", "revoked")),
    "refusal_tally.counted",
}
"""What can happen in a ledger of that release."""
API_CALLS: Final = (
    "GET /scim-token",
    "DELETE /scim-token/00000000-0000-0000-0000-000000000000",
    "GET /audit",
    "GET /projections",
)
"""What is asked with every API token: nothing that changes a SCIM token."""


def presented(origin: Mapping[str, Any]) -> str:
    """The secret that a draw gave: one of `answers.json`."""
    return mint(SecretKind(origin["kind"]), entropy(origin["stream"], origin["number"])).reveal()


def pepper_keys(*numbers: int | None) -> str:
    """The content of a pepper file: keys that are no deployment's, drawn like the secrets.

    None: one that is retired.
    """
    keys = ("retired" if each is None else entropy("pepper", each).hex() for each in numbers)
    return "".join(f"{key}\n" for key in keys)


def pepper() -> str:
    """The content of the pepper file under which the answers were given."""
    return pepper_keys(*told().get("pepper", (0, 1)))


def told() -> Any:
    """answers.json: secrets, callers, reads, verified, api_tokens, pepper."""
    return json.loads((KEPT / "answers.json").read_text("utf-8"))


def trail() -> str:
    """The whole trail, oldest first, a line each."""
    return (KEPT / "trail.ndjson").read_text("utf-8")


def known_kinds() -> set[str]:
    """Those that this release records."""
    return {topic.rpartition(".")[0] for topic in REGISTRY.topics}


def kinds_of(trail: str) -> set[str]:
    """The kinds of event in an export."""
    return {json.loads(line)["kind"] for line in trail.splitlines()}
