"""The vectors that GitHub's documentation has published, each with its test key.

Source: docs.github.com, "Secret scanning partner program", and its earlier version.
"""

import json
from pathlib import Path
from typing import Final

KEY_ID: Final = "f9525bf080f75b3506ca1ead061add62b8633a346606dc5fe544e29231c6ee0d"
SIGNATURE: Final = (
    "MEUCIFLZzeK++IhS+y276SRk2Pe5LfDrfvTXu6iwKKcFGCrv"
    "AiEAhHN2kDOhy2I6eGkOFmxNkOJ+L2y8oQ9A2T9GGJo6WJY="
)
BODY: Final = b'[{"token":"some_token","type":"some_type","url":"some_url","source":"some_source"}]'
OLDER_KEY_ID: Final = "90a421169f0a406205f1563a953312f0be898d3c7b6c06b681aa86a874555f4a"
OLDER_SIGNATURE: Final = (
    "MEUCIQDKZokqnCjrRtw0tni+2Ltvl/uiMJ1EGumEsp1BsNr3"
    "2AIgQY1YXD2nlj+XNfGK4rBfkMJ1JDOQcYXxa2sY8FNkrKc="
)
OLDER_BODY: Final = b'[{"token":"some_token","type":"some_type","url":"some_url"}]'


def pem(*lines: str) -> str:
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


KEY: Final = pem(
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEsz9ugWDj5jK5ELBK42ynytbo38gP",
    "HzZFI03Exwz8Lh/tCfL3YxwMdLjB+bMznsanlhK0RwcGP3IDb34kQDIo3Q==",
)
OLDER_KEY: Final = pem(
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9MJJHnMfn2+H4xL4YaPDA4RpJqUq",
    "kCmRCBnYERxZanmcpzQSXs1X/AljlKkbJ8qpVIW4clayyef9gWhFbNHWAA==",
)


def keys_file(directory: Path, **keys: str) -> Path:
    """A file as GitHub's address answers it; more fields than we read."""
    path = directory / "keys.json"
    listed = [
        {"key_identifier": key_id, "key": key, "is_current": True} for key_id, key in keys.items()
    ]
    path.write_text(json.dumps({"public_keys": listed}))
    return path
