"""What a list of tokens is narrowed to, and the conditions of an index that this comes to."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

_HAS_NOT_EXPIRED: Final = "(expires_at IS NULL OR expires_at > %(at)s)"
_IS_ROTATING: Final = f"rotation_ends_at > %(at)s AND {_HAS_NOT_EXPIRED}"


class TokenFilter(msgspec.Struct, frozen=True):
    """What a list is narrowed to. teams: None for all. status: active, suspended, revoked,
    expired or all; what ended for good is not suspended, and a suspended token is active, too.

    unused_since: there at that instant, and not used since. is_never_used: not once.
    new_source_since: used since then from an address that was new for it. is_rotating: two secrets
    are good. created_by: made by this user. expires_before: has an end, and that before this
    instant. violates_policy: lives longer than the policies in force allow.
    """

    teams: Sequence[UUID] | None = None
    name: str | None = None
    status: str = "active"
    unused_since: datetime | None = None
    is_never_used: bool = False
    new_source_since: datetime | None = None
    is_rotating: bool = False
    created_by: UUID | None = None
    expires_before: datetime | None = None
    violates_policy: bool = False


def of_the_present(narrow: TokenFilter) -> list[str]:
    """The filters given that cannot be asked of the past, by their names in the API.

    What was used when, the token's usage tells. When a token ends is known as it is now, and so
    are policies.
    """
    given = {
        "status": narrow.status == "suspended",
        "unused_since": narrow.unused_since is not None,
        "never_used": narrow.is_never_used,
        "new_source_since": narrow.new_source_since is not None,
        "rotating": narrow.is_rotating,
        "expires_before": narrow.expires_before is not None,
        "violates": narrow.violates_policy,
    }
    return [name for name, is_given in given.items() if is_given]


def conditions(narrow: TokenFilter, parameters: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Those of the index to walk along, and those that are compared on the way;
    adds to `parameters`.
    """
    filters = _use_filters(narrow, parameters)
    match narrow.status:
        case "active":
            index = ["revoked_at IS NULL"]
            filters.append(_HAS_NOT_EXPIRED)
        case "expired":
            index = ["revoked_at IS NULL"]
            filters.append("expires_at <= %(at)s")
        case "suspended":
            index = ["suspended_at IS NOT NULL"]
            filters += ["revoked_at IS NULL", _HAS_NOT_EXPIRED]
        case "revoked":
            index = ["revoked_at IS NOT NULL"]
        case "all":
            index = []
        case _:
            raise AssertionError(narrow.status)
    if narrow.is_rotating:
        filters.append(_IS_ROTATING)
    if narrow.expires_before is not None:
        parameters["expires_before"] = narrow.expires_before
        filters.append("expires_at < %(expires_before)s")
    return _narrowest(narrow, parameters, index, filters)


def is_by_life(narrow: TokenFilter) -> bool:
    """Whether it is about the ends of tokens, and no other index has fewer of them to meet, unless
    that of a user has.
    """
    if narrow.name is not None or narrow.is_rotating or narrow.new_source_since is not None:
        return False
    if narrow.status == "active":
        return narrow.violates_policy or narrow.expires_before is not None
    return narrow.status == "expired"


def _narrowest(
    narrow: TokenFilter, parameters: dict[str, Any], index: list[str], filters: list[str]
) -> tuple[list[str], list[str]]:
    """The index with the fewest tokens, most likely: of those that are suspended; of a name; of
    those that rotate; of a user, who may be the one program that makes them all; never used ones.
    """
    equal = {
        name: value
        for name in ("name", "created_by")
        if (value := getattr(narrow, name)) is not None
    }
    parameters |= equal
    compared = {name: f"{name} = %({name})s" for name in equal}
    if narrow.status == "suspended":
        return index, [*filters, *compared.values()]
    if narrow.name is not None:
        along_this = compared.pop("name")
    elif narrow.is_rotating:
        along_this = "rotation_ends_at IS NOT NULL"
    elif narrow.created_by is not None:
        along_this = compared.pop("created_by")
    elif narrow.is_never_used:
        along_this = "NOT is_used"
    else:
        return index, filters
    return [along_this], [*filters, *index, *compared.values()]


def _use_filters(narrow: TokenFilter, parameters: dict[str, Any]) -> list[str]:
    """What asks for the use of a token."""
    filters: list[str] = []
    if narrow.unused_since is not None:
        filters.append("(last_used_at IS NULL OR last_used_at < %(unused_since)s)")
        parameters["unused_since"] = narrow.unused_since
    if narrow.is_never_used:
        filters.append("NOT is_used")
    return filters
