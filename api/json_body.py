"""Reading a JSON body strictly: one media type, one meaning, and errors that say where and never what."""

import json
import re
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException

from api.problems import BadRequest, FieldError

_AT: Final = re.compile(r"^(.*?)(?: - at `\$\.?([^`]*)`)?$", re.DOTALL)
_FIELD: Final = re.compile(r"^Object (missing required|contains unknown) field `(.*)`$", re.DOTALL)
_NAME: Final = re.compile(r"[a-z_]{1,32}")
_INVALID: Final = "is not valid"


class StrictRequest(Request[Any, Any, State]):
    """Litestar's request, with the body decoded at once into the handler's type.

    Refused with BadRequest: another content type (415), no body, malformed JSON, duplicate keys, unknown or
    missing fields, wrong types.
    """

    async def json(self) -> Any:
        """The body as the struct that the handler asks for."""
        type_ = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        return decode(await self.body(), type_, content_type=self.headers.get("content-type", ""))

    async def body(self) -> bytes:
        """The body, of which there must be some where a handler reads it."""
        try:
            return await super().body() or b" "
        except InternalServerException:  # what Litestar makes of a client that hung up meanwhile
            raise BadRequest("The body ended too early.") from None


def decode(body: bytes, type_: Any, *, content_type: str) -> Any:
    """Decode strictly into `type_`. Raises BadRequest."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BadRequest("The body must be application/json.", status=415)
    try:
        _strict.decode(body.decode())
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        raise BadRequest("The body is not valid.", [_located(str(error))]) from None
    except (ValueError, RecursionError):
        raise BadRequest("The body is not well-formed JSON.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest("The body names a field twice.")
    return found


_strict: Final = json.JSONDecoder(object_pairs_hook=_unique)


def _located(message: str) -> FieldError:
    """A validator's message as pointer and detail, without any value: a secret may be where it should not."""
    match = _AT.match(message)
    assert match is not None
    text, path = match[1], (match[2] or "").replace(".", "/").replace("[", "/").replace("]", "")
    pointer = f"/{path}" if path else ""
    field = _FIELD.match(text)
    if field is not None:
        detail = "is required" if field[1].startswith("missing") else "is not a field of this resource"
        name = field[2] if _NAME.fullmatch(field[2]) else "*"
        return FieldError(f"{pointer}/{name}", detail)
    return FieldError(pointer, text if text.startswith("Expected") else _INVALID)
