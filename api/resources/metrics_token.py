"""The tokens of whoever collects the metrics, from a file: they are good while the database, which
knows the API tokens, is away, and open nothing else.
"""

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import TYPE_CHECKING, Final

from api.settings import PREFIX, SettingsError
from domain.secret import MalformedSecretError, parse

if TYPE_CHECKING:  # the command line reads the file, and starts without the framework
    from litestar.types import HTTPScope

NAME: Final = f"{PREFIX}METRICS_TOKEN_FILE"
MIN_LENGTH: Final = 32


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
    """Those in the file, separated by white space; none without one. Raises SettingsError."""
    if file is None:
        return MetricsTokens()
    try:
        tokens = file.read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{NAME} cannot be read") from None
    if not tokens or any(len(token) < MIN_LENGTH or not token.isprintable() for token in tokens):
        raise SettingsError(f"{NAME} needs tokens of {MIN_LENGTH} characters or more")
    if any(map(_is_of_the_ledger, tokens)):
        raise SettingsError(f"{NAME} holds a token of a ledger, which ends by its revocation only")
    return MetricsTokens(tokens)


def _is_of_the_ledger(token: str) -> bool:
    try:
        parse(token)
    except MalformedSecretError:
        return False
    return True
