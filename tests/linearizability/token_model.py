"""A SCIM token as its clients may see it: the sequential specification.

Secrets are called by numbers: 0 is the one that the token was created with, any other the one that
the rotation of this number made. Ends are called by the numbers of the changes that asked for them.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from tests.linearizability.checker import Operation

CREATE, AUTHENTICATE, REVOKE, BURN = "create", "authenticate", "revoke", "burn"
SUSPEND, RESUME, RENAME, LIMIT, UNLIMIT = "suspend", "resume", "rename", "limit", "unlimit"
ROTATE, ROTATE_AT_ONCE, COMPLETE, CANCEL = "rotate", "rotate at once", "complete", "cancel"
FINISH, END, LIST = "finish", "end", "list"
RESTRICT, WIDEN = "restrict", "widen"


class Token(NamedTuple):
    """What becomes of a token.

    secrets: those that have not ended, older first; two while a rotation is under way. made: the
    secret that the rotation made, 0 for none: none follows within ten seconds, which is longer
    than a history. was_suspended: now or before. end: the one that was asked for last, 0 for none.
    has_expired: it came. is_restricted: to a network in which no client stands; was_restricted: now
    or before.
    """

    is_created: bool = False
    is_revoked: bool = False
    is_suspended: bool = False
    was_suspended: bool = False
    secrets: tuple[int, ...] = ()
    made: int = 0
    end: int = 0
    has_expired: bool = False
    is_restricted: bool = False
    was_restricted: bool = False

    @property
    def is_missing(self) -> bool:
        """Whether commands answer that there is none."""
        return not self.is_created or self.is_revoked

    @property
    def good(self) -> tuple[int, ...]:
        """The secrets that have not ended, by themselves or with the token."""
        return () if self.is_revoked or self.has_expired else self.secrets


ABSENT: Final = Token()
Outcome: TypeAlias = tuple[set[str], Token]
"""What may be answered, and what follows."""


def _create(token: Token, _: int) -> Outcome:
    """By Idempotency-Key."""
    if token.is_created:
        return {"exists"}, token
    return {"created"}, Token(is_created=True, secrets=(0,))


def _authenticate(token: Token, secret: int) -> Outcome:
    """Yes or no is decided each time; why not is remembered for a while, by each process.

    So of a secret that has ended, whichever of the two is true may be told that was true before.
    """
    if not token.is_created or secret not in {0, token.made}:
        return {"no", "unknown"}, token
    if token.is_revoked:
        return {"no", "revoked"}, token
    before = {"suspended"} if token.was_suspended else set[str]()
    before |= {"network"} if token.was_restricted else set()
    if secret not in token.good:
        return {"no", "expired", *before}, token
    return ({"no", *before} if token.is_suspended or token.is_restricted else {"yes"}), token


def _list(token: Token, _: int) -> Outcome:
    """Which secrets are good, but for a suspension."""
    if not token.is_created:
        return {"missing"}, token
    return {" ".join("newer" if each else "older" for each in token.good) or "none"}, token


def _revoke(token: Token, _: int) -> Outcome:
    if not token.is_created:
        return {"missing"}, token
    return {"done"}, token._replace(is_revoked=True)


def _burn(token: Token, secret: int) -> Outcome:
    """RFC 7009: nothing is refused; what authenticates ends, or what would if it were resumed, or
    presented from elsewhere.
    """
    open_to_all = token._replace(is_suspended=False, is_restricted=False)
    lets_in = "yes" in _authenticate(open_to_all, secret)[0]
    return {"done"}, token._replace(is_revoked=True) if lets_in else token


def _suspend(token: Token, _: int) -> Outcome:
    if token.is_missing:
        return {"missing"}, token
    return {"done"}, token._replace(is_suspended=True, was_suspended=True)


def _resume(token: Token, _: int) -> Outcome:
    if token.is_missing:
        return {"missing"}, token
    return {"done"}, token._replace(is_suspended=False)


def _restrict(token: Token, _: int) -> Outcome:
    if token.is_missing:
        return {"missing"}, token
    return {"done"}, token._replace(is_restricted=True, was_restricted=True)


def _widen(token: Token, _: int) -> Outcome:
    if token.is_missing:
        return {"missing"}, token
    return {"done"}, token._replace(is_restricted=False)


def _rename(token: Token, _: int) -> Outcome:
    return _changed(token, token)


def _limit(token: Token, end: int) -> Outcome:
    """Ask for an end that is near."""
    return _changed(token, token._replace(end=end))


def _unlimit(token: Token, _: int) -> Outcome:
    return _changed(token, token._replace(end=0))


def _changed(token: Token, after: Token) -> Outcome:
    """A change never brings back what has ended."""
    if token.is_missing:
        return {"missing"}, token
    return ({"expired"}, token) if token.has_expired else ({"done"}, after)


def _end(token: Token, end: int) -> Outcome:
    """The instant of an end that was asked for; perhaps another was asked for meanwhile."""
    return {"came"}, token._replace(has_expired=token.has_expired or token.end == end)


def _rotate(token: Token, made: int) -> Outcome:
    return _rotated(token, (*token.secrets, made), made)


def _rotate_at_once(token: Token, made: int) -> Outcome:
    return _rotated(token, (made,), made)


def _rotated(token: Token, secrets: tuple[int, ...], made: int) -> Outcome:
    if token.is_missing:
        return {"missing"}, token
    if token.has_expired:
        return {"expired"}, token
    if token.made:
        return {"too soon"}, token
    return {"rotated"}, token._replace(secrets=secrets, made=made)


def _complete(token: Token, _: int) -> Outcome:
    return _ended(token, token.secrets[1:])


def _cancel(token: Token, _: int) -> Outcome:
    return _ended(token, token.secrets[:1])


def _ended(token: Token, secrets: tuple[int, ...]) -> Outcome:
    if token.is_missing:
        return {"missing"}, token
    if len(token.good) < 2:
        return {"not underway"}, token
    return {"done"}, token._replace(secrets=secrets)


def _finish(token: Token, made: int) -> Outcome:
    """By the process that looks: it means one rotation, and records its finish once."""
    if token.is_missing or len(token.secrets) < 2 or token.made != made:
        return {"silent"}, token
    if token.is_suspended and not token.has_expired:
        return {"silent"}, token
    return {"finished"}, token._replace(secrets=token.secrets[1:])


_DECISIONS: Final[dict[str, Callable[[Token, int], Outcome]]] = {
    CREATE: _create,
    AUTHENTICATE: _authenticate,
    LIST: _list,
    REVOKE: _revoke,
    BURN: _burn,
    SUSPEND: _suspend,
    RESUME: _resume,
    RESTRICT: _restrict,
    WIDEN: _widen,
    RENAME: _rename,
    LIMIT: _limit,
    UNLIMIT: _unlimit,
    END: _end,
    ROTATE: _rotate,
    ROTATE_AT_ONCE: _rotate_at_once,
    COMPLETE: _complete,
    CANCEL: _cancel,
    FINISH: _finish,
}
KINDS: Final = tuple(_DECISIONS)


def answers(kind: str, token: Token, subject: int) -> set[str]:
    """What may be answered to an operation."""
    return _DECISIONS[kind](token, subject)[0]


def step(token: Token, operation: Operation) -> Token | None:
    """The state after an operation; None when its answer is impossible."""
    possible, after = _DECISIONS[operation.kind](token, operation.subject)
    return after if operation.answer is None or operation.answer in possible else None
