"""Check the query and the headers of a request before its handler, on every route.

A parameter that is not known, or said twice, is a mistake that would widen an answer or change
another effect than was meant. All that is wrong is told at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Final

import msgspec
from litestar import Request
from litestar.handlers import BaseRouteHandler
from litestar.params import HeaderParameter, QueryParameter
from litestar.typing import FieldDefinition

from api.errors import BadRequest, FieldError
from api.http.values import Value, named
from domain.errors import InvalidValue

REFUSAL: Final = "refusal"
ANY_QUERY: Final = {"any_query": True}
"""The `opt` of a route that has no parameter and leaves alone what others add to its address."""
ONCE: Final = "must not be given more than once"
UNKNOWN: Final = "is not a parameter of this resource"
SINGLE: Final = {
    b"content-type": "Content-Type",
    b"idempotency-key": "Idempotency-Key",
    b"if-unused-since": "If-Unused-Since",
}
"""Of these, two say two things (RFC 9110 §5.3).

Host and Authorization are refused before, for every door.
"""
_ERRORS_MAX: Final = 20
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
"""Where nobody is authenticated, nothing is asked that depends on the time."""


def check_parameters(request: Request[Any, Any, Any]) -> None:
    """Raise BadRequest unless every parameter is one of the handler's, there once,
    and what it must be; so must each header field be that the handler reads.

    A handler whose `opt` has a REFUSAL raises that instead.
    """
    handler = request.route_handler
    single = [name for name, _ in request.scope["headers"] if name in SINGLE]
    if len(single) > len(set(single)):
        errors = [FieldError(text, ONCE) for name, text in SINGLE.items() if single.count(name) > 1]
        raise _refusal(handler, "A header is given more than once.", errors)
    headers = _headers(handler)
    asks = bool(request.scope["query_string"]) and "any_query" not in handler.opt
    if not asks and not headers:
        return
    caller = request.scope.get("user")
    at = _NEVER if caller is None else caller.at
    sent = {name: [request.headers[name]] for name in headers if name in request.headers}
    errors = [
        *(_errors(request.query_params.dict(), _parameters(handler), at) if asks else ()),
        *_errors(sent, headers, at),
    ]
    if errors:
        is_unknown = all(error.detail == UNKNOWN for error in errors)
        about = "A parameter is not known." if is_unknown else "A parameter is not valid."
        raise _refusal(handler, about, errors[:_ERRORS_MAX])


def _refusal(handler: BaseRouteHandler, detail: str, errors: Sequence[FieldError]) -> Exception:
    """What a route refuses with: OAuth's have errors of their own."""
    refusal: Exception = handler.opt.get(REFUSAL, BadRequest)(detail, errors)
    return refusal


def _errors(
    given: Mapping[str, list[Any]], known: Mapping[str, Value], at: datetime
) -> Iterator[FieldError]:
    for name, value in known.items():
        texts = given.get(name)
        if texts is None:
            continue
        if len(texts) > 1 and not value.is_list:
            yield FieldError(name, ONCE)
            continue
        try:
            for text in texts:
                value.read_text(text, at=at)
        except InvalidValue as refusal:
            yield FieldError(name, refusal.detail)
    for name in given:
        if name not in known:
            yield FieldError(named(name), UNKNOWN)


@cache
def _parameters(handler: BaseRouteHandler) -> Mapping[str, Value]:
    """The query's parameters of a handler by name, in its order, then of what it is given."""
    own = handler.parsed_fn_signature.parameters
    given = handler.resolve_dependencies()
    fields = [*own.items()]
    for name in own:
        if name in given:
            fields += given[name].parsed_fn_signature.parameters.items()
    found = {}
    for name, field in fields:
        if isinstance(field.kwarg_definition, QueryParameter):
            found[field.kwarg_definition.name or name] = Value(
                _typed(field, field.kwarg_definition)
            )
    return found


@cache
def _headers(handler: BaseRouteHandler) -> Mapping[str, Value]:
    """The header fields that a handler itself reads, by name."""
    found = {}
    for field in handler.parsed_fn_signature.parameters.values():
        if isinstance(field.kwarg_definition, HeaderParameter):
            assert field.kwarg_definition.name is not None
            found[field.kwarg_definition.name] = Value(_typed(field, field.kwarg_definition))
    return found


def _typed(field: FieldDefinition, bounds: QueryParameter | HeaderParameter) -> Any:
    """The type with what the framework keeps apart from it: bounds, and rules of ours."""
    type_ = field.annotation
    if bounds.ge is not None or bounds.le is not None:
        type_ = Annotated[int, msgspec.Meta(ge=bounds.ge, le=bounds.le)]
    for rule in field.metadata:
        type_ = Annotated[type_, rule]
    return type_
