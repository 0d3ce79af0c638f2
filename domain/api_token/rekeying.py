"""Decide whether a secret of an API token is digested anew, under a newer pepper key. Pure."""

from datetime import datetime

from domain.api_token.events import Rekeyed
from domain.api_token.token import ApiToken
from domain.secret import Digest


def rekey(token: ApiToken, digest: bytes, *, anew: Digest, at: datetime) -> list[Rekeyed]:
    """Hold the secret of `digest` as `anew`; silent where that of a SCIM token would be."""
    name = next(
        (
            name
            for held, name in token.held
            if held.value == digest and held.key_generation < anew.key_generation
        ),
        None,
    )
    if name is None or not token.is_good(at=at, digests=[digest]):
        return []
    if [other for _, other in token.held].count(name) > 1:
        return []
    return [Rekeyed(secret=name, digest=anew)]
