"""A setup link: what it holds, and how a token remembers it. Pure.

Its code is 256 random bits in 43 base62 characters. What is stored is HMAC-SHA-256 of them under a
key that is derived from the newest key of the pepper for nothing else: the link is no secret of a
token. It is looked for under every key, so a pepper that is rotated does not end it.
"""

import hmac
import re
from datetime import datetime, timedelta
from typing import Final, NoReturn

import msgspec

from domain.secret import BODY_LENGTH, DIGEST_BYTES, SecretId, base62, secret_id

LIFETIME: Final = timedelta(hours=24)
KEY_PURPOSE: Final = "setup-link"
CODE_PATTERN: Final = rf"[0-9A-Za-z]{{{BODY_LENGTH}}}"
_IS_CODE: Final = re.compile(CODE_PATTERN).fullmatch


class SetupCode:
    """The code of a setup link in memory; printed in any other way than `reveal`, it is stars."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The code itself. Call it only where the link is built for whoever asked for it."""
        return self._text

    def __repr__(self) -> str:
        return "SetupCode(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("the code of a setup link does not leave its process")


class SetupLink(msgspec.Struct, frozen=True):
    """The link of a token, as its state holds it.

    digest: of its code, 32 bytes. ends_at: the first instant at which it opens nothing.
    revealed_at: when it showed a new secret, which it does once. secret: which one.
    key_generation: as of `Digest`.
    """

    digest: bytes
    ends_at: datetime
    revealed_at: datetime | None = None
    secret: SecretId | None = None
    key_generation: int = 1

    @property
    def id(self) -> SecretId:
        """What the link is called where it may be shown."""
        return secret_id(self.digest)

    @property
    def not_before(self) -> datetime:
        """When it was made; an earlier instant where its token was to end within its lifetime."""
        return self.ends_at - LIFETIME


def mint_code(entropy: bytes) -> SetupCode:
    """Make a code from 32 random bytes."""
    return SetupCode(base62(int.from_bytes(entropy, "big"), BODY_LENGTH))


def read_code(text: str) -> SetupCode | None:
    """The code in the address of a page; None where it cannot be one."""
    return None if _IS_CODE(text) is None else SetupCode(text)


def digest_of(code: SetupCode, key: bytes) -> bytes:
    """What is stored of a code. key: derived for `KEY_PURPOSE`."""
    return hmac.digest(key, code.reveal().encode(), "sha256")


NO_DIGEST: Final = bytes(DIGEST_BYTES)
"""Compared with where there is no link: that takes as long as where there is another one."""
