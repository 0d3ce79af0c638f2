"""The secrets that a token has or had, as its row in the view keeps them: text, made of JSON.

They change when the token is made or rotated, and not with its uses.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from domain.secret import Digest, SecretId, secret_id
from projections.described import Instant, rfc3339


class KnownSecret(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of them, its instants as an answer has them.

    ended_at: the end of its overlap, also where that is to come; None where a rotation gave it no
    end. The token's own end is not here.
    """

    id: str
    created_at: str
    ended_at: str | None = None


class Rotation(msgspec.Struct, frozen=True):
    """A rotation that is under way: two secrets are good.

    started_at: when the newer one was made. ends_at: when the older one ends, if not before that.
    new_first_used_at: the first use of the newer one, null before it. old_last_used_at: the last
    use of the older one, null where there was none.
    """

    started_at: Instant
    ends_at: Instant
    new_first_used_at: Instant | None
    old_last_used_at: Instant | None


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(list[KnownSecret])


def with_another(secrets: str, digest: Digest, at: datetime, *, ends_at: datetime) -> str:
    """A rotation: another one since `at`; those before it end at `ends_at` if not earlier."""
    end = rfc3339(ends_at)
    older = [_ended(known, end) for known in _decoder.decode(secrets)]
    return _text([*older, KnownSecret(secret_id(digest.value), rfc3339(at))])


def with_end(secrets: str, secret: SecretId, at: datetime, *, resumes: bool = False) -> str:
    """One of them ended at `at`, if not before that.

    resumes: whether the end of the other one that was to come is taken back, with a rotation.
    """
    now = rfc3339(at)
    all_ = _decoder.decode(secrets)
    ending = [each for each in all_ if each.ended_at is not None and each.ended_at > now]
    going_on = ending[-1] if resumes and ending else None
    return _text(
        [
            _ended(known, now)
            if known.id == secret
            else msgspec.structs.replace(known, ended_at=None)
            if known is going_on
            else known
            for known in all_
        ]
    )


def first(digest: Digest, at: datetime) -> str:
    """The one that a token is made with."""
    return _text([KnownSecret(secret_id(digest.value), rfc3339(at))])


def _ended(known: KnownSecret, end: str) -> KnownSecret:
    ended_at = end if known.ended_at is None else min(known.ended_at, end)
    return msgspec.structs.replace(known, ended_at=ended_at)


def _text(secrets: Sequence[KnownSecret]) -> str:
    return _encoder.encode(secrets).decode()
