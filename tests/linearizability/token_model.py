"""A SCIM token as its clients may see it: the sequential specification, as two tables."""

from typing import Final

from tests.linearizability.checker import Operation

ABSENT, LIVE, REVOKED = "absent", "live", "revoked"
CREATE, AUTHENTICATE, REVOKE, BURN = "create", "authenticate", "revoke", "burn"
STATES: Final = (ABSENT, LIVE, REVOKED)
KINDS: Final = (CREATE, AUTHENTICATE, REVOKE, BURN)

ANSWERS: Final = {
    (CREATE, ABSENT): {"created"},
    (CREATE, LIVE): {"exists"},
    (CREATE, REVOKED): {"exists"},
    (AUTHENTICATE, ABSENT): {"no", "unknown"},
    (AUTHENTICATE, LIVE): {"yes"},
    (AUTHENTICATE, REVOKED): {"no", "revoked"},
    (REVOKE, ABSENT): {"missing"},
    (REVOKE, LIVE): {"done"},
    (REVOKE, REVOKED): {"done"},
    (BURN, ABSENT): {"done"},
    (BURN, LIVE): {"done"},
    (BURN, REVOKED): {"done"},
}
"""What may be answered.

create: by Idempotency-Key. burn: RFC 7009, where there is nothing to be refused.
"""

_AFTER: Final = {(CREATE, ABSENT): LIVE, (REVOKE, LIVE): REVOKED, (BURN, LIVE): REVOKED}
"""What changes the state, whether or not anybody heard of it."""


def step(state: str, operation: Operation) -> str | None:
    """The state after an operation; None when its answer is impossible."""
    if operation.answer is not None and operation.answer not in ANSWERS[operation.kind, state]:
        return None
    return _AFTER.get((operation.kind, state), state)
