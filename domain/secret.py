"""The bearer secret: mint, parse, digest. Pure; the only randomness enters as an argument.

Format: the issuer's prefix if there is one (`acme_`), the kind (`scim_live_`), 43 base62 characters
(256 random bits), 6 base62 characters of CRC-32 over all that precedes. The checksum tells garbage
from a leaked token without a database; it proves nothing.

What is stored is HMAC-SHA-256 of the whole text under a deployment key, the *pepper*. A secret of
256 random bits needs no slow hash (NIST SP 800-63B §5.1.1.2): there is nothing to guess.
"""

import hmac
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Final, NoReturn, TypeAlias
from zlib import crc32

import msgspec

ENTROPY_BYTES: Final = 32
BODY_LENGTH: Final = 43
CHECKSUM_LENGTH: Final = 6
DIGEST_BYTES: Final = 32
FINGERPRINT_BYTES: Final = 16
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class SecretKind(StrEnum):
    """Who holds the secret and where it works;
    the value is what stands before its random characters.
    """

    SCIM_LIVE = "scim_live_"
    SCIM_TEST = "scim_test_"
    API_LIVE = "api_live_"
    API_TEST = "api_test_"


PREFIX_PATTERN: Final = "[a-z0-9]{2,16}"
"""What an issuer may call itself: scanners want secrets that no other issuer's look like."""
BODY_PATTERN: Final = rf"[0-9A-Za-z]{{{BODY_LENGTH + CHECKSUM_LENGTH}}}"
SECRET_PATTERN: Final = rf"(?:{PREFIX_PATTERN}_)?(?:scim|api)_(?:live|test)_{BODY_PATTERN}"
"""Published for secret scanners; anchored use is ours."""
_PAIRS: Final = {
    high + low: len(_ALPHABET) * value_of_high + value_of_low
    for value_of_high, high in enumerate(_ALPHABET)
    for value_of_low, low in enumerate(_ALPHABET)
}
"""Two characters at a time: the checksum of every presented secret is read on the hot path."""
_PAIR_OF: Final = tuple(_PAIRS)
_SECRET: Final = re.compile(rf"({'|'.join(SecretKind)}){BODY_PATTERN}")
_PREFIXED: Final = re.compile(rf"{PREFIX_PATTERN}_({'|'.join(SecretKind)}){BODY_PATTERN}")
_IS_PREFIX: Final = re.compile(PREFIX_PATTERN).fullmatch


_KINDS: Final = {str(kind): kind for kind in SecretKind}


class MalformedSecretError(ValueError):
    """The text is not a secret of ours. Carries no part of the text."""


class Secret:
    """A bearer secret in memory.

    Shown once, through `reveal`; every other way to print it shows stars.
    """

    __slots__ = ("_text", "kind")

    def __init__(self, text: str, kind: SecretKind) -> None:
        self._text = text
        self.kind = kind

    def reveal(self) -> str:
        """The secret itself. Call it only where the answer to its creator is built."""
        return self._text

    def __repr__(self) -> str:
        return f"{self.kind}***"

    def __format__(self, format_spec: str) -> str:
        return format(repr(self), format_spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text, other._text)

    def __hash__(self) -> int:
        return hash((type(self), self.kind))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret does not leave its process")


class Digest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What we store instead of a secret.

    value: 32 bytes, HMAC-SHA-256 of the secret's text.
    key_generation: which pepper made it, from 1, so that the pepper can be rotated.
    """

    value: bytes
    key_generation: int


class Pepper:
    """The deployment's digest keys, newest last.

    New secrets use the newest; presented ones try them all.

    keys: each at least 32 bytes. Generations count from 1 in the order given; a key is never
    removed from the front of the list, or the generations of stored digests would change their
    meaning. None stands in the place of one that was retired; the newest never is.
    """

    MIN_KEY_BYTES: Final = 32

    def __init__(self, keys: Iterable[bytes | None]) -> None:
        keys = tuple(keys)
        if not keys or keys[-1] is None:
            raise ValueError("a pepper needs at least one key, and its newest")
        if any(key is not None and len(key) < self.MIN_KEY_BYTES for key in keys):
            raise ValueError(f"a pepper key needs at least {self.MIN_KEY_BYTES} bytes")
        # Begun once and copied for each text: a third less than looking up the algorithm every
        # time.
        self._generation = len(keys)
        self._held = {
            generation: hmac.new(key, digestmod="sha256")
            for generation, key in enumerate(keys, start=1)
            if key is not None
        }
        self._newest_first = tuple(reversed(self._held.values()))

    def __repr__(self) -> str:
        return f"Pepper(generations={self.generation})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pepper does not leave its process")

    @property
    def generation(self) -> int:
        """The newest key's generation."""
        return self._generation

    @property
    def fingerprints(self) -> list[bytes | None]:
        """16 bytes of each key, the oldest first, None in the place of one that was retired:
        they tell keys apart, and nothing else about them.
        """
        return [
            _mac(begun, "fingerprint:")[:FINGERPRINT_BYTES] if begun is not None else None
            for begun in map(self._held.get, range(1, self.generation + 1))
        ]

    def digest(self, secret: Secret) -> Digest:
        """Digest a freshly minted secret under the newest key."""
        return Digest(_mac(self._newest_first[0], secret.reveal()), self.generation)

    def candidates(self, secret: Secret) -> list[bytes]:
        """The digests under which a presented secret may be stored, newest generation first."""
        text = secret.reveal()
        return [_mac(begun, text) for begun in self._newest_first]

    def derived(self, purpose: str) -> list[bytes]:
        """32-byte keys for another purpose (cursors, say), one from each key, the newest first:
        what an older one made is still known after a rotation.
        """
        return [_mac(begun, f"derive:{purpose}") for begun in self._newest_first]


SecretId: TypeAlias = Annotated[str, msgspec.Meta(min_length=8, max_length=8)]
"""What a secret is called where it may be shown: 8 hex digits, the first of its digest.

They tell the secrets of a token apart; of a keyed digest, they say nothing about the secret. No
secret is as short: none can stand in a field of this type by mistake.
"""


def secret_id(digest: bytes) -> SecretId:
    """The id of the secret of `digest`."""
    return digest[:4].hex()


def is_prefix(text: str) -> bool:
    """Whether an issuer's secrets may begin with `text`, and an underscore behind it."""
    return _IS_PREFIX(text) is not None


def mint(kind: SecretKind, entropy: bytes, *, prefix: str | None = None) -> Secret:
    """Make a secret of `kind` from 32 random bytes. prefix: of the issuer, see `is_prefix`."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"entropy must be {ENTROPY_BYTES} bytes")
    if prefix is not None and not is_prefix(prefix):
        raise ValueError(f"a prefix must be {PREFIX_PATTERN}")
    issuer = "" if prefix is None else f"{prefix}_"
    body = issuer + kind + base62(int.from_bytes(entropy, "big"), BODY_LENGTH)
    return Secret(body + _checksum(body), kind)


def parse(text: str) -> Secret:
    """Read a presented secret, whatever issuer's prefix it has: another deployment's is unknown.

    Raises MalformedSecretError on a wrong prefix, length, character or checksum.
    """
    match = _SECRET.fullmatch(text) or _PREFIXED.fullmatch(text)
    if match is None or _read_checksum(text) != crc32(text[:-CHECKSUM_LENGTH].encode("ascii")):
        raise MalformedSecretError("not a secret of this service")
    return Secret(text, _KINDS[match[1]])


def _mac(begun: hmac.HMAC, text: str) -> bytes:
    mac = begun.copy()
    mac.update(text.encode())
    return mac.digest()


def _read_checksum(text: str) -> int:
    base = len(_PAIR_OF)
    return (_PAIRS[text[-6:-4]] * base + _PAIRS[text[-4:-2]]) * base + _PAIRS[text[-2:]]


def _checksum(text: str) -> str:
    return base62(crc32(text.encode("ascii")), CHECKSUM_LENGTH)


def base62(number: int, length: int) -> str:
    """The last `length` digits of a number in base 62."""
    pairs = []
    for _ in range(-(-length // 2)):
        number, value = divmod(number, len(_PAIR_OF))
        pairs.append(_PAIR_OF[value])
    return "".join(reversed(pairs))[-length:]
