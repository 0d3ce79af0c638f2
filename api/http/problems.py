"""Turn errors into RFC 9457 problems, by one table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import msgspec
import structlog
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import HTTPScope, Send

from api.errors import BadRequest, FieldError, InvalidCursor, NoGoodToken, TooManyRequests
from api.http.asgi_answer import respond
from api.http.problem_types import PROBLEM_TYPES
from domain.errors import (
    AlreadyUnderway,
    CommandIdReused,
    Confined,
    InvalidValue,
    LastManager,
    NoRotationUnderway,
    NotFound,
    PermissionDenied,
    PolicyViolated,
    ProjectionStopped,
    RotatedTooSoon,
    RotationUnderway,
    SecretAlreadyShown,
    Unauthenticated,
    Unavailable,
    UsedSince,
)
from domain.kept_text import without_secrets
from projections.described import Instant, rfc3339

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
ANYWHERE: Final = (400, 414, 431, 500, 501, 503)
"""Where a request is not understood, or nobody can answer it, whatever it asks for."""
BROKEN_OFF: Final = "is_broken_off"
"""Of a request's state: its answer was begun and is not ended, so that it does not look whole."""
DENIED: Final = "denied"
"""Of a request's state: the permission that its caller lacked, for whoever records the refusal."""
CHALLENGE: Final = 'Bearer realm="scim-ledger"'
INVALID_TOKEN: Final = f'{CHALLENGE}, error="invalid_token"'
_INSUFFICIENT: Final = f'{CHALLENGE}, error="insufficient_scope"'

logger = structlog.get_logger()


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every error of this API (RFC 9457).

    type: stable URI reference, e.g. /problems/validation. instance: the request's id as a URN.
    errors: with /problems/validation and /problems/policy only. token_id: with
    /problems/secret-already-shown only. last_used_at: with /problems/used-since only.
    """

    type: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uri-reference"})]
    title: str
    status: int
    detail: str
    instance: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uri"})] | None = None
    errors: Sequence[FieldError] | None = None
    token_id: UUID | None = None
    last_used_at: Instant | None = None


class Answer(NamedTuple):
    """A problem and the headers that go with it."""

    problem: Problem
    headers: Mapping[str, str]


_USUAL: Final = {
    400: "bad-request",
    401: "unauthenticated",
    403: "permission-denied",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    409: "secret-already-shown",
    412: "used-since",
    413: "too-large",
    415: "unsupported-media-type",
    422: "idempotency-key-reused",
    429: "too-many-requests",
    500: "internal",
    503: "unavailable",
}
"""The type of a problem of which nothing is known but its status."""
FAILED: Final = "The request failed on our side; the request id finds it in the log."
_DETAILS: Final = {
    404: "There is no such resource.",
    405: "The resource does not support this method.",
    413: "The body is larger than 64 KiB.",
    429: "There are too many requests. Wait, then try again.",
    500: FAILED,
    503: "The ledger cannot answer right now; nothing was lost. Try again.",
}
VIEW_STOPPED: Final = (
    "The view that answers this has stopped, and goes on when "
    "whoever runs the service has mended it. "
    "Authentication goes on; nothing was lost."
)


OF_ANOTHER_LIST: Final = BadRequest(
    "The cursor is not one of this list.", [FieldError("next_cursor", "is not one of this list")]
)
ALREADY_SHOWN: Final = (
    "This request was carried out before; its secret was shown then. Revoke or rotate the token."
)
FINISHED: Final = "No rotation is under way: it has finished, or there was none."
LAST_MANAGER: Final = (
    "It is the last API token that may manage API tokens where it can. It was not revoked."
)
JUST_ROTATED: Final = "The token was rotated a moment ago. Wait, then try again."
USED_SINCE: Final = "The token was used since then. It was not revoked."
UNDERWAY: Final = "It is under way already; its status tells how far it is."
FOR_EVERY_TEAM: Final = (
    "The API token has the permission, but for some teams alone; this needs one for every team."
)
NOT_ALLOWED: Final = "A policy does not allow this token."
KEY_REUSED: Final = "The Idempotency-Key was used for another request."


def problem(
    status: int, detail: str | None = None, *, slug: str | None = None, **members: Any
) -> Problem:
    """A problem of a type from the table: of `slug`, or of what is usual for the status."""
    if members.get("errors"):
        slug = slug or "validation"
    kind = PROBLEM_TYPES[slug or _USUAL.get(status, "bad-request")]
    return Problem(
        type=kind.uri,
        title=kind.title,
        status=status,
        detail=detail or _DETAILS.get(status, kind.title),
        **members,
    )


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """The problem responses of an operation, for its OpenAPI description; some are everywhere."""
    return {
        status: ResponseSpec(
            Problem, generate_examples=False, media_type=MEDIA_TYPE, description="RFC 9457 problem"
        )
        for status in sorted({*ANYWHERE, *statuses})
    }


def answer(error: Exception) -> Answer:
    """What a client is told about `error`, by the nearest of its classes in the table below.

    Never its text, unless the text was written for clients.
    """
    told = next(_TOLD[class_] for class_ in type(error).__mro__ if class_ in _TOLD)
    found = told(error)
    # The framework raises what a dependency raised from a group that has it: a circle, with all of
    # the request.
    error.__cause__ = error.__context__ = None
    return found


def encode(found: Problem, request_id: str) -> bytes:
    """The body's bytes.

    A pointer may be of a client's making: of a secret in it only stars are repeated.
    """
    errors = found.errors and [
        FieldError(without_secrets(each.pointer), each.detail) for each in found.errors
    ]
    stamped = msgspec.structs.replace(found, instance=f"urn:uuid:{request_id}", errors=errors)
    return msgspec.json.encode(stamped)


async def send_problem(send: Send, scope: HTTPScope, found: Answer) -> None:
    """Answer a raw ASGI request with a problem."""
    await respond(
        send,
        scope,
        status=found.problem.status,
        media_type=MEDIA_TYPE,
        body=encode(found.problem, scope["state"]["request_id"]),
        headers=found.headers,
    )


def _challenged(status: int, detail: str, challenge: str) -> Answer:
    """RFC 6750 §3."""
    return Answer(problem(status, detail), {"WWW-Authenticate": challenge})


def _sentence(error: RotationUnderway) -> str:
    """What the ledger says of it: it knows what can be done about it there."""
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}."


def _again(found: Problem, after_s: int) -> Answer:
    return Answer(found, {"Retry-After": str(after_s)})


def _denied(error: PermissionDenied) -> Answer:
    challenge = f'{_INSUFFICIENT}, scope="{error.permission}"'
    return _challenged(403, f"The API token lacks the permission {error.permission}.", challenge)


def _invalid(error: InvalidValue) -> Answer:
    fields = [FieldError(error.pointer, error.detail)]
    return Answer(problem(400, "A value is not valid.", errors=fields), {})


def _violated(error: PolicyViolated) -> Answer:
    fields = [FieldError(each.pointer, each.detail) for each in error.violations]
    return Answer(problem(422, NOT_ALLOWED, slug="policy", errors=fields), {})


def _bad_request(error: BadRequest) -> Answer:
    return Answer(problem(error.status, error.detail, errors=error.errors or None), error.headers)


def _not_convertible(error: ValidationException) -> Answer:
    """The framework's complaint about query, path or headers: the names, and no value."""
    extra = error.extra if isinstance(error.extra, list) else []
    fields = [
        FieldError(str(item.get("key", "")).rstrip("_"), "is not valid")
        for item in extra
        if isinstance(item, dict)
    ]
    return _bad_request(BadRequest("A parameter is not valid.", fields))


def _of_framework(error: HTTPException) -> Answer:
    if error.status_code >= 500:  # noqa: PLR2004
        return _fault(error)
    headers = {
        name.title(): value
        for name, value in (error.headers or {}).items()
        if name.lower() == "allow"
    }
    return Answer(problem(error.status_code), headers)


def _fault(error: Exception) -> Answer:
    """Ours. The class alone is logged: a message may quote what was sent."""
    logger.error("request.failed", error=type(error).__qualname__, where=where(error))
    return Answer(problem(500), {})


def where(error: BaseException) -> str:
    """Where it happened, without values and without the message."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(frames[-8:])


_TOLD: Final[Mapping[type, Callable[[Any], Answer]]] = {
    # what is wrong with the request
    BadRequest: _bad_request,
    NoGoodToken: lambda error: _challenged(
        401, error.detail, INVALID_TOKEN if error.was_presented else CHALLENGE
    ),
    TooManyRequests: lambda error: _again(problem(429), error.retry_after_s),
    InvalidCursor: lambda _: _bad_request(OF_ANOTHER_LIST),
    ValidationException: _not_convertible,
    HTTPException: _of_framework,
    # what the ledger refuses
    InvalidValue: _invalid,
    Unauthenticated: lambda _: _challenged(401, "The API token is not valid.", INVALID_TOKEN),
    PermissionDenied: _denied,
    Confined: lambda _: _challenged(403, FOR_EVERY_TEAM, _INSUFFICIENT),
    NotFound: lambda _: Answer(problem(404), {}),
    SecretAlreadyShown: lambda error: Answer(
        problem(409, ALREADY_SHOWN, token_id=error.originator_id), {}
    ),
    LastManager: lambda _: Answer(problem(409, LAST_MANAGER, slug="last-manager"), {}),
    RotationUnderway: lambda error: Answer(
        problem(409, _sentence(error), slug="rotation-underway"), {}
    ),
    NoRotationUnderway: lambda _: Answer(problem(409, FINISHED, slug="rotation-finished"), {}),
    RotatedTooSoon: lambda error: _again(problem(429, JUST_ROTATED), error.retry_after_s),
    UsedSince: lambda error: Answer(
        problem(412, USED_SINCE, last_used_at=rfc3339(error.last_used_at)), {}
    ),
    AlreadyUnderway: lambda _: Answer(problem(409, UNDERWAY, slug="already-underway"), {}),
    PolicyViolated: _violated,
    CommandIdReused: lambda _: Answer(problem(422, KEY_REUSED), {}),
    # what it cannot say
    ProjectionStopped: lambda _: Answer(problem(503, VIEW_STOPPED), {}),  # no promise of a time
    Unavailable: lambda _: _again(problem(503), RETRY_AFTER_S),
    Exception: _fault,
}
