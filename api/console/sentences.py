"""The facts of the trail as sentences: what happened, by whom, from where, and why."""

from collections.abc import Mapping
from typing import Final

from projections.audit_trail.view import AuditEvent

_HAPPENED: Final[Mapping[str, str]] = {
    "scim_token.created": "Created",
    "scim_token.used": "Used",
    "scim_token.refused": "Refused",
    "scim_token.rotated": "Rotated: another secret was made",
    "scim_token.rotation_completed": "Rotation finished: the older secret ended",
    "scim_token.rotation_cancelled": "Rotation cancelled: the newer secret ended",
    "scim_token.rotation_finished": "Rotation finished by itself",
    "scim_token.changed": "Changed",
    "scim_token.setup_link_created": "Setup link made",
    "scim_token.setup_link_ended": "Setup link ended",
    "scim_token.suspended": "Suspended",
    "scim_token.resumed": "Resumed",
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
    "ledger.loss_declared": "Events declared lost, after a restore of an older state",
    "refusal_tally.counted": "Refused, for no token that is known",
}
"""A kind that is missing here is told by its name."""
_OF_NOTE: Final = frozenset(
    {
        *("scim_token.expiring", "scim_token.expired", "scim_token.unused", "policy.set"),
        *("scim_token.rotation_finished", "scim_token.leaked", "api_token.created"),
        *("scim_token.changed", "scim_token.setup_link_created", "scim_token.setup_link_ended"),
        *("scim_token.rotated", "api_token.refused", "pepper.retired", "ledger.loss_declared"),
    }
)
"""Kinds whose note says something that a reader needs; of others it repeats the sentence."""
_IS_CAUSE: Final = frozenset(
    {"scim_token.refused", "api_token.refused", "refusal_tally.counted", "scim_token.leaked"}
)
"""Kinds whose reason is the ledger's word, and nobody's explanation."""


def label(kind: str) -> str:
    """What a kind is called where one is chosen."""
    return _HAPPENED.get(kind, kind.replace(".", " ").replace("_", " ")).partition(":")[0]


def sentence(fact: AuditEvent) -> str:
    """Such as "Revoked by user 4f9b5c02 from 192.0.2.1 because “left the company”"."""
    happened = _HAPPENED.get(fact.kind, fact.kind.replace(".", " ").replace("_", " "))
    if fact.secret is not None:
        happened += f" ({fact.secret})"
    parts = [happened, _by(fact), _at_door(fact), _from(fact), _why(fact)]
    told = " ".join(part for part in parts if part)
    if fact.count > 1:
        told += f", {fact.count:,} times"
    if fact.note is not None and fact.kind in _OF_NOTE:
        told += f": {fact.note}"
    return told


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
