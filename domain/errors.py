"""Every refusal of the ledger, as a tree.

A message here is fit for any log: it never holds a secret.

`Refusal`      the ledger was asked for something that its rules do not allow; nothing changed.
`Unavailable`  the ledger could not say; nothing was confirmed. Safe to repeat.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

Error = TypeVar("Error", bound=BaseException)


class LedgerError(Exception):
    """Root of everything that this package raises on purpose."""


class Refusal(LedgerError):
    """A rule said no. Nothing was recorded for this command."""


class InvalidValue(Refusal):
    """A value breaks a rule of the domain.

    pointer: JSON pointer (RFC 6901) of the value in the command, such as "/name".
    detail: what is wrong, without the value.
    """

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer}: {detail}")
        self.pointer = pointer
        self.detail = detail


class Violation(NamedTuple):
    """What of a command breaks a policy. pointer, detail: as of InvalidValue."""

    pointer: str
    detail: str


class PolicyViolated(Refusal):
    """The command would make a token that a policy does not allow.

    violations: all of them.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(": ".join(each) for each in violations))
        self.violations = violations


class NotFound(Refusal):
    """No such aggregate, or not one that the caller may know of: the two look the same."""


class Unauthenticated(Refusal):
    """The caller's API token is unknown, revoked or expired."""


class PermissionDenied(Refusal):
    """The caller's API token is good but lacks a permission.

    permission: the one that is missing.
    """

    def __init__(self, permission: str) -> None:
        super().__init__(f"the API token lacks the permission {permission}")
        self.permission = permission


class Confined(Refusal):
    """The caller's API token has the permission, for some teams; what it asks is for every team."""


class TokenRefused(Refusal):
    """A presented secret does not authenticate.

    `reason` goes to the audit trail, never to the presenter.
    """

    reason = "refused"


class TokenUnknown(TokenRefused):
    """No stored digest matches."""

    reason = "unknown"


class TokenRevoked(TokenRefused):
    """The token was revoked."""

    reason = "revoked"


class TokenSuspended(TokenRefused):
    """The token was suspended, and not resumed yet."""

    reason = "suspended"


class TokenExpired(TokenRefused):
    """The token, or the overlap after a rotation, is over."""

    reason = "expired"


class NetworkNotAllowed(TokenRefused):
    """The token is good, but not from the presenter's address, or that is not known."""

    reason = "network"


class SecretAlreadyShown(Refusal):
    """The command was carried out before; its secret was shown then and cannot be shown again.

    originator_id: the aggregate that the first execution made or changed.
    """

    def __init__(self, originator_id: UUID) -> None:
        super().__init__("the secret was already shown")
        self.originator_id = originator_id


class CommandIdReused(Refusal):
    """A command id was presented before with another request."""


class LastManager(Refusal):
    """Without this API token, nobody could manage API tokens over HTTP where it could."""


class RotationUnderway(Refusal):
    """The token has two good secrets already: what would make a third good, or show one, has to
    wait. Its text says what can be done.
    """


class NoRotationUnderway(Refusal):
    """The rotation has finished, or there was none: the token has one good secret, or none."""


class RotatedTooSoon(Refusal):
    """The token was rotated a moment ago. retry_after_s: whole seconds, at least 1."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the token was rotated a moment ago; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class UsedSince(Refusal):
    """The token was used at or after the instant since which it must not have been.

    last_used_at: the last use, ledger time.
    """

    def __init__(self, last_used_at: datetime) -> None:
        when = last_used_at.isoformat(timespec="milliseconds")
        super().__init__(f"the token was used since then, at {when}; it was not revoked")
        self.last_used_at = last_used_at


class AlreadyUnderway(Refusal):
    """What is asked for is being done, or about to be; asking twice does not do it twice."""


class Unavailable(LedgerError):
    """The ledger could not answer within its deadline."""


class StoreUnavailable(Unavailable):
    """The database is away, hung, or closed the connection."""


class WrongEncoding(StoreUnavailable):
    """The database cannot hold every text that a client may send,
    and cannot be changed once it is made.
    """

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"the database's encoding is {encoding}, in which names are garbled or refused: "
            "create another, CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


class SharedSession(StoreUnavailable):
    """A pooler gives each transaction another session."""

    def __init__(self) -> None:
        super().__init__(
            "a pooler before the database gives each transaction another session: "
            "use its session mode (pool_mode = session), or connect to the server itself"
        )


class LedgerLocked(StoreUnavailable):
    """Somebody holds what each append waits for: the append lock, or a table."""

    def __init__(self) -> None:
        super().__init__(
            "another session holds a lock that every use and command waits for: "
            "scim-ledger doctor says which"
        )


class AppendsRefused(StoreUnavailable):
    """The database answers, and refuses every append: a full disk, for example."""


class StoreReadOnly(StoreUnavailable):
    """The database takes no writes: a standby, or one that its operator made read-only."""


class ClockSkewed(Unavailable):
    """The clock of this process and that of the database differ by more than a few seconds.

    Nothing is decided by a clock that may be wrong: it would move ledger time for every process,
    for good.
    """


class PepperMismatch(Unavailable):
    """The keys of this process are not those that the ledger's digests were made with.

    Every good token would look unknown; what is wrong is ours, so nobody is told 401 for it.
    """


class EventsLost(Unavailable):
    """The ledger lacks an event that this host has known: it was restored from an older state.

    What was revoked since would be good again, so nobody is let in before the loss is declared.
    """


class HeadFileUnusable(Unavailable):
    """The file that names the newest event a host has known cannot be read, or is not one."""


class Overloaded(Unavailable):
    """More is queued than can be answered in time."""


class ProjectionBehind(Unavailable):
    """A view did not reach the ledger head of the request's arrival in time."""


class ProjectionStopped(Unavailable):
    """A view stopped, or its table cannot be read:
    asking again does not help until it is mended.
    """


def without_frames(error: Error) -> Error:
    """The error, of which nothing is left but what it says; so with those that it came of.

    For one that outlives where it was raised: its frames hold what they worked on, a socket or a
    batch. Where they hold the error in turn, only the garbage collector, which a service is spared,
    would free all that.
    """
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__context__
    return error
