"""GitHub's signatures: ECDSA over P-256 with SHA-256, of a body exactly as it came.

Source: docs.github.com, "Secret scanning partner program", "Implement signature verification".
"""

import binascii
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from api.settings import PREFIX, Settings, SettingsError, UnusableFile, shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

VARIABLE: Final = f"{PREFIX}GITHUB_KEYS_FILE"
_CURVE: Final = "secp256r1"
REMEDY: Final = (
    "fetch them anew (docs/how-to/answer-a-leak.md#github), readable to the user that the service "
    "runs as"
)


class _Key(msgspec.Struct, frozen=True):
    """As api.github.com/meta/public_keys/secret_scanning names it."""

    key_identifier: str
    key: str


class _Keys(msgspec.Struct, frozen=True):
    public_keys: list[_Key]


class Signatures:
    """The public keys of a file, by their identifiers."""

    def __init__(self, keys: "Mapping[str, EllipticCurvePublicKey]") -> None:
        self._keys = keys

    def is_good(self, body: bytes, *, key_id: str, signature: str) -> bool:
        """Whether the key of this identifier signed the body. signature: DER in base64."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - of the extra
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

        key = self._keys.get(key_id)
        if key is None:
            return False
        try:
            key.verify(b64decode(signature, validate=True), body, ECDSA(SHA256()))
        except (binascii.Error, ValueError, InvalidSignature):
            return False
        return True


def github_keys(settings: Settings) -> "Signatures | None":
    """Those of the settings; None where they name none. Raises what `read_keys` raises."""
    return None if settings.github_keys_file is None else read_keys(settings.github_keys_file)


def read_keys(path: Path) -> Signatures:
    """The keys of a file as GitHub's address answers them.

    Raises SettingsError where it cannot be read, holds something else, or the extra is missing.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - of the extra
        from cryptography.hazmat.primitives.asymmetric.ec import (  # noqa: PLC0415
            EllipticCurvePublicKey,
        )
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
            load_pem_public_key,
        )
    except ImportError:
        raise SettingsError(
            f"{VARIABLE} needs the extra leaks: docs/how-to/install.md#extras installs it"
        ) from None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Keys).public_keys
        keys = {each.key_identifier: load_pem_public_key(each.key.encode()) for each in found}
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise UnusableFile(f"{VARIABLE}: {shown(path)} {what}", REMEDY) from None
    except (msgspec.DecodeError, UnicodeError, ValueError, UnsupportedAlgorithm):
        what = "does not hold GitHub's public keys"
        raise UnusableFile(f"{VARIABLE}: {shown(path)} {what}", REMEDY) from None
    good = {
        key_id: key
        for key_id, key in keys.items()
        if isinstance(key, EllipticCurvePublicKey) and key.curve.name == _CURVE
    }
    if not good or len(good) < len(keys):
        raise UnusableFile(f"{VARIABLE}: {shown(path)} must hold keys of the curve P-256", REMEDY)
    return Signatures(good)
