"""Decide whether a secret of a SCIM token is digested anew, under a newer pepper key. Pure."""

from datetime import datetime

from domain.scim_token.events import Rekeyed
from domain.scim_token.token import ScimToken
from domain.secret import Digest


def rekey(token: ScimToken, digest: bytes, *, anew: Digest, at: datetime) -> list[Rekeyed]:
    """Hold the secret of `digest` as `anew`, the digest of the same secret under a newer key.

    Silent where the token no longer holds it so, as after the first time, and where it does not
    authenticate. Silent, too, in the rare case that both secrets of a token are called alike: an
    event could not say which one it means.
    """
    held = token.held(digest)
    if held is None or held.digest.key_generation >= anew.key_generation:
        return []
    if token.refusal(digest, at=at) is not None:
        return []
    if [other.id for other in token.secrets].count(held.id) > 1:
        return []
    return [Rekeyed(secret=held.id, digest=anew)]
