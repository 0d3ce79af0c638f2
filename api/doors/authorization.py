"""Read the Authorization header: one function for every door (RFC 6750 §2.1, RFC 9110 §11.4).

Between the scheme and the token stands one space or more. Blanks around the whole value are no part
of it: the server took them off.
A token in a query string or a body is never read.
"""

import re
from base64 import b64decode
from typing import Final

import msgspec
from litestar.types import HTTPScope

from domain.secret import MalformedSecretError, Secret, parse

MISSING: Final = "Send the token in the Authorization header: Bearer, one space, the token."
MALFORMED: Final = "The token is not one of this service; check that it was pasted whole."
DOUBLED: Final = 'The header says "Bearer" twice; paste the token alone into the token field.'
BLANKS: Final = "There are blanks around or inside the token; remove them."
SPACE: Final = "Between Bearer and the token stands one space, and nothing else."
SCHEME: Final = "The scheme must be Bearer."
SEVERAL: Final = "The request carries more than one Authorization header."
IN_BASIC: Final = "With Basic, the password is the API token; the user name is not looked at."
_BEARER: Final = "bearer"
_BASIC: Final = "basic"
_BLANK: Final = re.compile(r"\s")


class NotPresentable(Exception):
    """The header holds no secret that could be looked up.

    reason: "missing", "malformed" or "ambiguous"; detail: what to change, without the value.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Credentials(msgspec.Struct, frozen=True):
    """A well-formed secret as it was presented.

    form: "bearer", "basic", or "bare" without the scheme word.
    """

    secret: Secret
    form: str


def read(
    scope: HTTPScope, *, is_bare_accepted: bool = False, is_basic_accepted: bool = False
) -> Credentials:
    """The secret that a request presents. Raises NotPresentable.

    is_bare_accepted: take a secret of exactly our format without the scheme word, as Okta's
    "Header" mode sends it. is_basic_accepted: take one that is the password of Basic (RFC 7617), as
    clients of OAuth authenticate themselves (RFC 6749 §2.3.1).
    """
    value: bytes | None = None
    for name, found in scope["headers"]:
        if name == b"authorization":
            if value is not None:
                raise NotPresentable("ambiguous", SEVERAL)
            value = found
    if value is None:
        raise NotPresentable("missing", MISSING)
    text = value.decode("latin-1")
    scheme, blank, rest = text.partition(" ")
    is_bearer = scheme.lower() == _BEARER
    is_basic = is_basic_accepted and scheme.lower() == _BASIC
    try:
        if is_basic:
            return Credentials(parse(_password(rest)), "basic")
        if not blank and is_bare_accepted:
            return Credentials(parse(text), "bare")
        if is_bearer:
            return Credentials(parse(rest.lstrip(" ")), "bearer")
    except MalformedSecretError:
        if is_basic:
            raise NotPresentable("malformed", IN_BASIC) from None
    detail = _advice(rest) if is_bearer else _advice_on_scheme(text, is_bare_accepted)
    raise NotPresentable("malformed", detail)


def speaks_basic(scope: HTTPScope) -> bool:
    """Whether a request speaks Basic, whatever it says."""
    return any(
        name == b"authorization" and value[: len(_BASIC)].lower() == _BASIC.encode()
        for name, value in scope["headers"]
    )


def _password(text: str) -> str:
    """Of a user name and a password (RFC 7617 §2). Raises MalformedSecretError."""
    try:
        return b64decode(text.strip(" "), validate=True).decode("latin-1").partition(":")[2]
    except ValueError:
        raise MalformedSecretError from None


def _advice(text: str) -> str:
    """What is wrong with a text that stands where the token belongs."""
    if text.strip().lower().startswith(_BEARER):
        return DOUBLED
    if _BLANK.search(text):
        return BLANKS
    return MALFORMED


def _advice_on_scheme(text: str, is_bare_accepted: bool) -> str:
    """What is wrong with a text that does not begin with the scheme and a space."""
    within = text.strip()
    if text.lower().startswith(_BEARER):
        return SPACE
    if text != within and (is_bare_accepted or within.lower().startswith(_BEARER)):
        return BLANKS
    return _advice(text) if is_bare_accepted and " " not in text else SCHEME
