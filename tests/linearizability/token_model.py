"""A SCIM token as its clients may see it: the sequential specification, as two tables."""

from typing import Final

from tests.linearizability.checker import Operation

ABSENT, LIVE, SUSPENDED, REVOKED = "absent", "live", "suspended", "revoked"
CREATE, AUTHENTICATE, REVOKE, BURN = "create", "authenticate", "revoke", "burn"
SUSPEND, RESUME = "suspend", "resume"
STATES: Final = (ABSENT, LIVE, SUSPENDED, REVOKED)
KINDS: Final = (CREATE, AUTHENTICATE, REVOKE, BURN, SUSPEND, RESUME)

ANSWERS: Final = {
    (CREATE, ABSENT): {"created"},
    (CREATE, LIVE): {"exists"},
    (CREATE, SUSPENDED): {"exists"},
    (CREATE, REVOKED): {"exists"},
    (AUTHENTICATE, ABSENT): {"no", "unknown"},
    (AUTHENTICATE, LIVE): {"yes"},
    (AUTHENTICATE, SUSPENDED): {"no", "suspended"},
    (AUTHENTICATE, REVOKED): {"no", "revoked"},
    (REVOKE, ABSENT): {"missing"},
    (REVOKE, LIVE): {"done"},
    (REVOKE, SUSPENDED): {"done"},
    (REVOKE, REVOKED): {"done"},
    (BURN, ABSENT): {"done"},
    (BURN, LIVE): {"done"},
    (BURN, SUSPENDED): {"done"},
    (BURN, REVOKED): {"done"},
    (SUSPEND, ABSENT): {"missing"},
    (SUSPEND, LIVE): {"done"},
    (SUSPEND, SUSPENDED): {"done"},
    (SUSPEND, REVOKED): {"missing"},
    (RESUME, ABSENT): {"missing"},
    (RESUME, LIVE): {"done"},
    (RESUME, SUSPENDED): {"done"},
    (RESUME, REVOKED): {"missing"},
}
"""What may be answered.

create: by Idempotency-Key. burn: RFC 7009, where there is nothing to be refused; it ends only what
authenticates.
"""

_AFTER: Final = {
    (CREATE, ABSENT): LIVE,
    (REVOKE, LIVE): REVOKED,
    (REVOKE, SUSPENDED): REVOKED,
    (BURN, LIVE): REVOKED,
    (SUSPEND, LIVE): SUSPENDED,
    (RESUME, SUSPENDED): LIVE,
}
"""What changes the state, whether or not anybody heard of it."""


def step(state: str, operation: Operation) -> str | None:
    """The state after an operation; None when its answer is impossible."""
    if operation.answer is not None and operation.answer not in ANSWERS[operation.kind, state]:
        return None
    return _AFTER.get((operation.kind, state), state)
