"""The facts of the trail as sentences: what happened, by whom, from where, and why."""

from collections.abc import Mapping
from typing import Final

from projections.audit_trail.view import AuditEvent

HAPPENED: Final[Mapping[str, str]] = {
    "scim_token.created": "Created",
    "scim_token.used": "Used",
    "scim_token.refused": "Refused",
    "scim_token.rotated": "Rotated: another secret was made",
    "scim_token.rotation_completed": "Rotation finished: the older secret ended",
    "scim_token.rotation_cancelled": "Rotation cancelled: the newer secret ended",
    "scim_token.rotation_finished": "Rotation finished by itself",
    "scim_token.rotation_ending": "Rotation about to end",
    "scim_token.old_secret_still_used": "Older secret still used",
    "scim_token.changed": "Changed",
    "scim_token.setup_link_created": "Setup link made",
    "scim_token.setup_link_ended": "Setup link ended",
    "scim_token.suspended": "Suspended",
    "scim_token.resumed": "Resumed",
    "scim_token.networks_set": "Networks set",
    "scim_token.revoked": "Revoked",
    "scim_token.rekeyed": "Digested under a newer key",
    "scim_token.leaked": "Found in the open",
    "scim_token.expiring": "About to end",
    "scim_token.expired": "Ended",
    "scim_token.unused": "Unused",
    "scim_token.first_used": "Used for the first time",
    "scim_token.used_from_new_source": "Used from a new address",
    "api_token.created": "API token created",
    "api_token.used": "API token used",
    "api_token.refused": "API token refused",
    "api_token.rotated": "API token rotated: another secret was made",
    "api_token.rekeyed": "API token digested under a newer key",
    "api_token.revoked": "API token revoked",
    "policy.set": "Policy set",
    "pepper.retired": "A key of the pepper retired",
    "archive.extended": "Old uses and refusals left the ledger, into a file",
    "ledger.loss_declared": "Events declared lost, after a restore of an older state",
    "refusal_tally.counted": "Refused, for no token that is known",
}
"""Of each kind of this release; one that a newer release has recorded is told by its name."""
NOTE_REPEATS: Final = frozenset(
    {
        *("scim_token.first_used", "scim_token.used_from_new_source"),
        *("scim_token.rekeyed", "api_token.rekeyed"),
    }
)
"""Kinds whose note says what the sentence says already; any other's is told."""
_IS_CAUSE: Final = frozenset(
    {"scim_token.refused", "api_token.refused", "refusal_tally.counted", "scim_token.leaked"}
)
"""Kinds whose reason is the ledger's word, and nobody's explanation."""
NOTE_MAX: Final = 400
"""Of a note, in a sentence: 200 networks are more than anybody reads there."""


def label(kind: str) -> str:
    """What a kind is called where one is chosen."""
    return HAPPENED.get(kind, kind.replace(".", " ").replace("_", " ")).partition(":")[0]


def sentence(fact: AuditEvent) -> str:
    """Such as "Revoked by user 4f9b5c02 from 192.0.2.1 because “left the company”"."""
    happened = HAPPENED.get(fact.kind, fact.kind.replace(".", " ").replace("_", " "))
    if fact.secret is not None:
        happened += f" ({fact.secret})"
    parts = [happened, _by(fact), _at_door(fact), _from(fact), _why(fact)]
    told = " ".join(part for part in parts if part)
    if fact.count > 1:
        told += f", {fact.count:,} times"
    if fact.note is not None and fact.kind not in NOTE_REPEATS:
        told += f": {_shortened(fact.note)}"
    return told


def _shortened(note: str) -> str:
    return note if len(note) <= NOTE_MAX else f"{note[: NOTE_MAX - 1]}…"


def _by(fact: AuditEvent) -> str:
    if fact.operator is not None:
        return f"by {fact.operator} at the command line"
    if fact.user_id is not None:
        return f"by user {str(fact.user_id)[:8]}"
    if fact.kind == "scim_token.revoked" and fact.door is not None:
        return "by whoever held the secret"
    return ""


def _at_door(fact: AuditEvent) -> str:
    return "" if fact.door is None else f"at {fact.door}"


def _from(fact: AuditEvent) -> str:
    agent = "" if fact.user_agent is None else f" ({fact.user_agent})"
    return "" if fact.source is None else f"from {fact.source}{agent}"


def _why(fact: AuditEvent) -> str:
    if fact.reason is None:
        return ""
    if fact.kind in _IS_CAUSE:
        return f"({fact.reason})"
    return f"because “{fact.reason}”"
