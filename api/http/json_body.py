"""Read a JSON body strictly; errors say where a mistake is and never quote it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple, NoReturn, get_args, get_origin

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation, RequestBody

from api.errors import BadRequest, FieldError
from api.http.values import Value, named
from domain.errors import InvalidValue
from domain.eventstore.lookups.api_tokens import Caller

NOT_VALID: Final = "The body is not valid."
NOT_JSON: Final = "The body is not well-formed JSON."
_JSON: Final = "application/json"
_ERRORS_MAX: Final = 20
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD"})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
ITEMS: Final = range(1, 101)
"""How many there may be in a body that is an array."""


READS_BODY: Final = {"reads_body": True}
"""The `opt` of a route that reads its body by itself, such as a form."""


class StrictRequest(Request[Caller, Any, State]):
    """Litestar's request, with the body decoded at once into the handler's type. user: who called.

    Refused with BadRequest: another content type or a coded content (415), no body where one is
    needed, malformed JSON, duplicate keys, unknown or missing fields, wrong values.
    """

    def list_field(self, name: str) -> str:
        """A header field that is a list: all its lines as one (RFC 9110 §5.3), empty for none."""
        return ", ".join(self.headers.getall(name, []))

    async def json(self) -> Any:
        """The body as the struct that the handler asks for."""
        type_ = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        content_type = self.headers.get("content-type", "")
        body = await self.body()
        if _is_left_out(body, content_type, self.route_handler):
            return type_()
        return decode(body, type_, content_type=content_type, at=self.user.at)

    async def body(self) -> bytes:
        """The body, of which there must be some where a handler reads it."""
        codings = self.list_field("content-encoding").lower().split(",")
        if any(coding.strip() not in {"", "identity"} for coding in codings):
            raise BadRequest(
                "The body must not be coded; leave Content-Encoding out.",
                status=415,
                headers={"Accept-Encoding": "identity"},  # RFC 9110 §12.5.3
            )
        try:
            return await super().body() or b" "
        except InternalServerException:  # what Litestar makes of a client that hung up meanwhile
            raise BadRequest("The body ended too early.") from None


async def refuse_body(request: Request[Any, Any, Any]) -> None:
    """Raise BadRequest for a body that nobody reads: who sends one means something by it.

    A GET has none that means anything (RFC 9110 §9.3.1), and an empty object says nothing.
    """
    handler = request.route_handler
    if (
        request.method in _WITHOUT_BODY
        or "data" in handler.parsed_fn_signature.parameters
        or "reads_body" in handler.opt
        or not any(name in _FRAMING for name, _ in request.scope["headers"])
    ):
        return
    if (await request.body()).strip() not in {b"", b"{}"}:
        raise BadRequest("This resource takes no body.")


@dataclass
class OptionalBody(Operation):
    """An operation whose body may be left out, with or without its type: one without fields."""

    def __post_init__(self) -> None:
        """Litestar's hook for what it cannot see in the handler."""
        assert isinstance(self.request_body, RequestBody)
        self.request_body.required = False


def _is_left_out(body: bytes, content_type: str, handler: HTTPRouteHandler) -> bool:
    return (
        handler.operation_class is OptionalBody
        and not body.strip()
        and _media_type(content_type) in {"", _JSON}
    )


class _Field(NamedTuple):
    """A field of an object. of: the struct, where it is an object of its own."""

    value: Value
    is_required: bool
    of: Any | None


def decode(body: bytes, type_: Any, *, content_type: str, at: datetime) -> Any:
    """Decode strictly into the struct `type_`, or a list of one, whose mistakes are told at once.

    Raises BadRequest. at: of the request.
    """
    if _media_type(content_type) != _JSON:
        raise BadRequest("The body must be application/json.", status=415)
    if get_origin(type_) is list:
        return _decode_list(body, *get_args(type_), at=at)
    found, errors = _read("", _document(body), type_, at)
    if errors:
        raise BadRequest(NOT_VALID, errors[:_ERRORS_MAX])
    return found


def _decode_list(body: bytes, item: Any, *, at: datetime) -> list[Any]:
    """As many of the struct `item` as `ITEMS` allows."""
    documents = _document(body)
    if not isinstance(documents, list) or len(documents) not in ITEMS:
        detail = f"must be an array of {ITEMS[0]} to {ITEMS[-1]} objects"
        raise BadRequest(NOT_VALID, [FieldError("", detail)])
    items, mistakes = [], []
    for number, document in enumerate(documents):
        found, errors = _read(f"/{number}", document, item, at)
        mistakes += errors
        items.append(found)
    if mistakes:
        raise BadRequest(NOT_VALID, mistakes[:_ERRORS_MAX])
    return items


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _document(body: bytes) -> Any:
    try:
        document = _strict.decode(body.decode())
        msgspec.json.decode(body)  # refuses what Python's lets through: lone surrogates
    except (ValueError, RecursionError):
        raise BadRequest(NOT_JSON) from None
    return document


def _read(pointer: str, document: Any, type_: Any, at: datetime) -> tuple[Any, list[FieldError]]:
    """The struct that an object says, or what is wrong with it and the objects in it.

    pointer: of the object (RFC 6901).
    """
    if not isinstance(document, dict):
        return None, [FieldError(pointer, "must be an object")]
    fields = _fields(type_)
    found: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, (value, is_required, of) in fields.items():
        within = f"{pointer}/{name}"
        if name not in document:
            errors += [FieldError(within, "is required")] if is_required else []
            continue
        try:
            if of is None:
                found[name] = value.read(document[name], at=at)
                continue
            found[name], inner = _read(within, document[name], of, at)
            errors += inner
            if not inner:
                value.check(found[name], at)
        except InvalidValue as refusal:
            is_of_a_part = refusal.pointer.startswith(f"/{name}/")
            place = pointer + refusal.pointer if is_of_a_part else within
            errors.append(FieldError(place, refusal.detail))
    errors += [
        FieldError(f"{pointer}/{named(name)}", "is not a field of this resource")
        for name in document
        if name not in fields
    ]
    return (None if errors else type_(**found)), errors


@cache
def _fields(type_: Any) -> Mapping[str, _Field]:
    return {
        field.encode_name: _Field(value := Value(field.type), field.required, value.struct)
        for field in msgspec.structs.fields(type_)
    }


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest("The body names a field twice.")
    return found


def _no_number(_: str) -> NoReturn:
    raise ValueError


_strict: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
