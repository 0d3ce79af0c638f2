"""What is kept of the warnings about a token, in its row of the view `scim_tokens`."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from domain.event import Event
from domain.scim_token.warnings import (
    UNTIL_ROTATION_END,
    Expired,
    Expiring,
    OldSecretStillUsed,
    RotationEnding,
    ScimTokenWarning,
    Unused,
    is_premature,
    next_warning_at,
)
from projections.projection import LogEntry
from projections.scim_tokens.row import TokenRow


def expiring(row: TokenRow, event: Expiring) -> TokenRow:
    """It was told that the token ends soon."""
    return replace(row, next_warning_at=next_warning_at(event.expires_at, told=event.days))


def expired(row: TokenRow, _: Expired) -> TokenRow:
    """It was told that the token has ended."""
    return replace(row, next_warning_at=None)


def unused(row: TokenRow, event: Unused) -> TokenRow:
    """It was told that nobody uses the token."""
    return replace(row, unused_since=event.since)


def rotation_ending(row: TokenRow, event: RotationEnding) -> TokenRow:
    """It was told that the older secret ends soon."""
    due_at = next_warning_at(event.ends_at, told=event.days, of=UNTIL_ROTATION_END)
    return replace(row, rotation_due_at=due_at)


def old_secret_used(row: TokenRow, event: OldSecretStillUsed) -> TokenRow:
    """It was told that the older secret is used still."""
    return replace(row, old_secret_day=event.day)


def _told(step: Callable[[TokenRow, Any], TokenRow]) -> Callable[..., TokenRow]:
    """What follows from a warning, as an event of the view."""

    def evolve(row: TokenRow, entry: LogEntry, event: ScimTokenWarning) -> TokenRow:
        return row if is_premature(event, entry.at) else step(row, event)

    return evolve


WARNINGS: Final[Mapping[type[Event], Callable[..., TokenRow]]] = {
    Expiring: _told(expiring),
    Expired: _told(expired),
    Unused: _told(unused),
    RotationEnding: _told(rotation_ending),
    OldSecretStillUsed: _told(old_secret_used),
}
