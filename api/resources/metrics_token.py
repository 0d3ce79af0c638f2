"""The tokens of whoever collects the metrics, from a file: they are good while the database, which
knows the API tokens, is away, and open nothing else.
"""

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import TYPE_CHECKING, Final

from api.settings import PREFIX, UnusableFile, shown, text_of
from domain.secret import MalformedSecretError, parse

if TYPE_CHECKING:  # the command line reads the file, and starts without the framework
    from litestar.types import HTTPScope

NAME: Final = f"{PREFIX}METRICS_TOKEN_FILE"
MIN_LENGTH: Final = 32
REMEDY: Final = (
    f"write random tokens of {MIN_LENGTH} characters or more into it, "
    "readable to the user that the service runs as"
)


class MetricsTokens:
    """Knows the tokens. Each is compared in constant time, by a digest, whatever its length."""

    def __init__(self, tokens: Sequence[str] = ()) -> None:
        self._digests = [sha256(token.encode()).digest() for token in tokens]

    def are_presented(self, scope: "HTTPScope") -> bool:
        """Whether a request presents one of them, as a bearer token and beside no other."""
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if not self._digests or len(values) != 1:
            return False
        scheme, _, token = values[0].partition(b" ")
        presented = sha256(token.strip(b" ")).digest()
        is_known = [compare_digest(presented, digest) for digest in self._digests]
        return any(is_known) and scheme.lower() == b"bearer"


def metrics_tokens(file: Path | None) -> MetricsTokens:
    """Those in the file, separated by white space; none without one. Raises UnusableFile."""
    if file is None:
        return MetricsTokens()
    tokens = text_of(NAME, file, remedy=REMEDY).split()
    if any(len(token) < MIN_LENGTH or not token.isprintable() for token in tokens):
        raise UnusableFile(f"{NAME}: {shown(file)} holds a token that is too short", REMEDY)
    if any(map(_is_of_the_ledger, tokens)):
        raise UnusableFile(
            f"{NAME}: {shown(file)} holds a token of a ledger, which ends by its revocation only",
            REMEDY,
        )
    return MetricsTokens(tokens)


def _is_of_the_ledger(token: str) -> bool:
    try:
        parse(token)
    except MalformedSecretError:
        return False
    return True
