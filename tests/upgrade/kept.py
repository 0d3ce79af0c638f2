"""The kept ledger: its files, its secrets, and what the release before answered about it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

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
TAKES_LONG: Final = {
    "scim_token.unused",  # 90 days
    *("scim_token.rekeyed", "api_token.rekeyed"),  # an hour after a key was added
    "pepper.retired",  # an hour later at the earliest
    "scim_token.old_secret_still_used",  # a day after a rotation began
    "ledger.loss_declared",  # by a ledger that was restored, which this one was not
}
"""What the maker does not wait for, or would need another ledger for."""
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


def pepper_keys(generations: int) -> str:
    """The content of the pepper file: keys that are no deployment's, drawn like the secrets."""
    return "".join(entropy("pepper", number).hex() + "\n" for number in range(generations))


def told() -> Any:
    """answers.json: secrets, callers, reads, verified, api_tokens."""
    return json.loads((KEPT / "answers.json").read_text("utf-8"))


def trail() -> str:
    """The whole trail, oldest first, a line each."""
    return (KEPT / "trail.ndjson").read_text("utf-8")


def kinds_of(trail: str) -> set[str]:
    """The kinds of event in an export."""
    return {json.loads(line)["kind"] for line in trail.splitlines()}
