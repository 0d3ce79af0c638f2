"""Parse the target of a request under `/scim/v2`, once, for door and proxy.

Whoever stands behind us may read an address in its own way: decode it once more, take `;` for the
end of a step, `\\` for a `/`, or `..` for a way up. An address that could lead out of the
upstream's own path in any of these readings is refused; every other one goes on byte for byte, an
encoded `/` inside an id too.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from litestar.types import HTTPScope

from api.doors.scim_messages import ROOT

PLAINLY: Final = (
    "Write the address plainly: /scim/v2, a slash, no . and .. steps, nothing encoded twice."
)
_ROOT: Final = ROOT.encode()
_PRINTABLE: Final = re.compile(rb"[!-\"$-~]*")
_ENCODED: Final = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*")
_STEPS: Final = re.compile(rb"[/\\]")
_ONLY_DOTS: Final = re.compile(rb"[. ]*\.[. ]*")
_DECODED_AT_MOST: Final = 3


class NotPlain(Exception):
    """The address of a request can be read in more than one way."""


def below_root(scope: HTTPScope) -> bytes:
    """What follows `/scim/v2` in the path, as it was sent: empty, or from a `/` on.

    Raises NotPlain.
    """
    raw_path, query = scope["raw_path"], scope["query_string"]
    below = raw_path.removeprefix(_ROOT)
    if not raw_path.startswith(_ROOT) or below[:1] not in {b"", b"/"}:
        raise NotPlain
    if not (
        _PRINTABLE.fullmatch(below) and _PRINTABLE.fullmatch(query) and _ENCODED.fullmatch(below)
    ):
        raise NotPlain
    if b"." in below or b"%" in below:
        _check_steps(_decoded(below))
    return below


def _decoded(path: bytes) -> bytes:
    """The path as whoever decodes most eagerly would read it."""
    for _ in range(_DECODED_AT_MOST):
        decoded = unquote_to_bytes(path)
        if decoded == path:
            return path
        path = decoded
    raise NotPlain


def _check_steps(path: bytes) -> None:
    try:
        text = path.decode()
    except UnicodeDecodeError:  # an overlong dot, say
        raise NotPlain from None
    if not text.isprintable():
        raise NotPlain
    if any(_ONLY_DOTS.fullmatch(step.partition(b";")[0]) for step in _STEPS.split(path)):
        raise NotPlain
