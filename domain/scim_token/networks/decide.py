"""From which networks a SCIM token is good: set by its owner, or from any. Pure.

A restriction holds for all secrets of a token, those of later rotations included, and for each
presentation after it, as a suspension does. Who may end a token is not restricted by it: whoever
holds a secret can burn it from anywhere.
"""

from collections.abc import Sequence
from typing import Final

from domain.errors import InvalidValue, NotFound
from domain.event import Actor
from domain.networks.plain import plain_network
from domain.scim_token.events import NetworksSet
from domain.scim_token.token import ScimToken
from domain.scim_token.values import check_reason, require_meant

NETWORKS_MAX: Final = 200


def allow(
    token: ScimToken,
    networks: Sequence[str],
    *,
    by: Actor,
    reason: str | None,
    meant: Sequence[str] | None = None,
) -> list[NetworksSet]:
    """Let the token in from these networks alone, from now on; silent where it is so already.

    networks: 1 to 200, in CIDR notation; an address stands for itself. They replace those before.
    meant: those before, as whoever asks has seen them; None for whichever they are.
    Raises NotFound once revoked, InvalidValue on what `kept_networks` refuses, on a reason that
    `check_reason` refuses, and where others are allowed by now than were meant.
    """
    return _set(token, kept_networks(networks), by=by, reason=reason, meant=meant)


def allow_any(
    token: ScimToken, *, by: Actor, reason: str | None, meant: Sequence[str] | None = None
) -> list[NetworksSet]:
    """Let the token in from anywhere again; silent where it is so already. Raises as `allow`."""
    return _set(token, (), by=by, reason=reason, meant=meant)


def kept_networks(asked: Sequence[str]) -> tuple[str, ...]:
    """Networks as they are kept: one spelling for each, and each once, in the order that was asked.

    Raises InvalidValue on what is none, on one that has bits beyond its length (it may be meant as
    an address, or as the network around it), on none at all and on more than 200.
    """
    if not asked:
        raise InvalidValue("/networks", "must name one at least; from none, nobody would be let in")
    kept = dict.fromkeys(_kept(place, text) for place, text in enumerate(asked))
    if len(kept) > NETWORKS_MAX:
        raise InvalidValue("/networks", f"must be {NETWORKS_MAX} at most")
    return tuple(kept)


def _kept(place: int, text: str) -> str:
    pointer = f"/networks/{place}"
    try:
        network = plain_network(text)
    except ValueError:
        raise InvalidValue(
            pointer, "must be a network or an address, such as 192.0.2.0/24 or 2001:db8::1"
        ) from None
    try:
        plain_network(text, is_strict=True)
    except ValueError:
        raise InvalidValue(
            pointer,
            "has bits beyond its length: the network would be "
            f"{network}, one address goes without a length",
        ) from None
    return str(network)


def _set(
    token: ScimToken,
    networks: tuple[str, ...],
    *,
    by: Actor,
    reason: str | None,
    meant: Sequence[str] | None,
) -> list[NetworksSet]:
    check_reason(reason)
    if token.revoked_at is not None:
        raise NotFound("no such token")
    if token.networks == networks:
        return []
    require_meant("set of networks is allowed", meant is None or tuple(meant) == token.networks)
    return [NetworksSet(by, networks, reason)]
