"""A leak of a secret: where it was found, and which secrets of a token are marked for it. Pure."""

from hashlib import sha256
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from domain.kept_text import kept

URL_MAX_LENGTH: Final = 300
SOURCE_MAX_LENGTH: Final = 100
PLACES_MAX: Final = 10
"""Places that are recorded of one secret: who cleans up needs some, and nobody fills the ledger."""
_PLACE_BYTES: Final = 8

Place = Annotated[str, msgspec.Meta(min_length=16, max_length=16)]
"""A place as the state of a token remembers it: 16 hex digits of a digest of its URL."""


class Leak(msgspec.Struct, frozen=True):
    """Where a secret was found, as it is kept: see `leak`."""

    url: str | None = None
    source: str | None = None

    @property
    def place(self) -> Place:
        """What makes two leaks of one secret the same."""
        return place_of(self.url)


def leak(url: str | None, source: str | None) -> Leak:
    """A leak from what a reporter says. url: without user, query and fragment, which may be secrets
    of others, 300 characters at most. source: what was searched, or who searched; 100 at most.
    Secrets of ours are cut out of both.
    """
    return Leak(
        None if url is None else kept(_plain(url), max_length=URL_MAX_LENGTH),
        None if source is None else kept(source, max_length=SOURCE_MAX_LENGTH),
    )


def place_of(url: str | None) -> Place:
    """How a token's state remembers a place."""
    return sha256((url or "").encode()).digest()[:_PLACE_BYTES].hex()


def _plain(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="", fragment="").geturl()
    except ValueError:
        return url.partition("?")[0].partition("#")[0].rpartition("@")[2]
