"""RFC 9457 problems: one table from what went wrong to what a client is told."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import msgspec
import structlog
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import HTTPScope, Send

from api.doors.rate_limit import TooManyRequests
from api.http.asgi_answer import respond
from api.http.problem_types import PROBLEM_TYPES
from domain.errors import (
    AlreadyUnderway,
    CommandIdReused,
    InvalidValue,
    NotFound,
    PermissionDenied,
    ProjectionStopped,
    RotatedTooSoon,
    RotationUnderway,
    SecretAlreadyShown,
    Unauthenticated,
    Unavailable,
)
from domain.kept_text import without_secrets

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
ANYWHERE: Final = (400, 414, 431, 500, 501, 503)
"""Where a request is not understood, or nobody can answer it, whatever it asks for."""
DENIED: Final = "denied"
"""Of a request's state: the permission that its caller lacked, for whoever records the refusal."""
CHALLENGE: Final = 'Bearer realm="scim-ledger"'
INVALID_TOKEN: Final = f'{CHALLENGE}, error="invalid_token"'

logger = structlog.get_logger()


class FieldError(msgspec.Struct, frozen=True):
    """One broken rule. pointer: RFC 6901, into the body; or the name of a query parameter."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every error of this API (RFC 9457).

    type: stable URI reference, e.g. /problems/validation. instance: the request's id as a URN.
    errors: with /problems/validation only. token_id: with /problems/secret-already-shown only.
    """

    type: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uri-reference"})]
    title: str
    status: int
    detail: str
    instance: Annotated[str, msgspec.Meta(extra_json_schema={"format": "uri"})] | None = None
    errors: Sequence[FieldError] | None = None
    token_id: UUID | None = None


class Answer(NamedTuple):
    """A problem and the headers that go with it."""

    problem: Problem
    headers: Mapping[str, str]


class BadRequest(Exception):
    """The request breaks a rule of the contract before any command exists.

    detail, errors: written for clients. status: a 4xx.
    """

    def __init__(
        self,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.status = status
        self.headers = headers or {}


class NoGoodToken(Exception):
    """401: no API token, or none that is good. detail: what to change, without the value."""

    def __init__(self, detail: str, *, was_presented: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.was_presented = was_presented


_USUAL: Final = {
    400: "bad-request",
    401: "unauthenticated",
    403: "permission-denied",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    409: "secret-already-shown",
    413: "too-large",
    415: "unsupported-media-type",
    422: "idempotency-key-reused",
    429: "too-many-requests",
    500: "internal",
    503: "unavailable",
}
"""The type of a problem of which nothing is known but its status."""
_DETAILS: Final = {
    404: "There is no such resource.",
    405: "The resource does not support this method.",
    413: "The body is larger than 64 KiB.",
    429: "There are too many requests. Wait, then try again.",
    500: "The request failed on our side; the request id finds it in the log.",
    503: "The ledger cannot answer right now; nothing was lost. Try again.",
}
VIEW_STOPPED: Final = (
    "The view that answers this has stopped, and goes on when "
    "whoever runs the service has mended it. "
    "Authentication goes on; nothing was lost."
)


def problem(
    status: int, detail: str | None = None, *, slug: str | None = None, **members: Any
) -> Problem:
    """A problem of a type from the table: of `slug`, or of what is usual for the status."""
    if members.get("errors"):
        slug = "validation"
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


def answer(error: Exception) -> Answer:  # noqa: C901, PLR0911, PLR0912 - a table: one case per outcome
    """What a client is told about `error`.

    Never its text, unless the text was written for clients.
    """
    match error:
        case InvalidValue():
            fields = [FieldError(error.pointer, error.detail)]
            return Answer(problem(400, "A value is not valid.", errors=fields), {})
        case BadRequest():
            return Answer(
                problem(error.status, error.detail, errors=error.errors or None), error.headers
            )
        case NoGoodToken():
            challenge = INVALID_TOKEN if error.was_presented else CHALLENGE
            return Answer(problem(401, error.detail), {"WWW-Authenticate": challenge})
        case Unauthenticated():
            return Answer(
                problem(401, "The API token is not valid."), {"WWW-Authenticate": INVALID_TOKEN}
            )
        case PermissionDenied():
            challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{error.permission}"'
            detail = f"The API token lacks the permission {error.permission}."
            return Answer(problem(403, detail), {"WWW-Authenticate": challenge})
        case NotFound():
            return Answer(problem(404), {})
        case SecretAlreadyShown():
            detail = (
                "This request was carried out before; its secret was shown then. Revoke or "
                "rotate the token."
            )
            return Answer(problem(409, detail, token_id=error.originator_id), {})
        case RotationUnderway():
            detail = (
                "The token has two good secrets already. Wait until the "
                "older one ends, or rotate it with "
                "overlap_seconds 0, which ends both at once."
            )
            return Answer(problem(409, detail, slug="rotation-underway"), {})
        case RotatedTooSoon():
            detail = "The token was rotated a moment ago. Wait, then try again."
            return Answer(problem(429, detail), {"Retry-After": str(error.retry_after_s)})
        case AlreadyUnderway():
            detail = "It is under way already; its status tells how far it is."
            return Answer(problem(409, detail, slug="already-underway"), {})
        case CommandIdReused():
            return Answer(problem(422, "The Idempotency-Key was used for another request."), {})
        case TooManyRequests():
            return Answer(problem(429), {"Retry-After": str(error.retry_after_s)})
        case ProjectionStopped():
            return Answer(problem(503, VIEW_STOPPED), {})  # no Retry-After: that would be a promise
        case Unavailable():
            return Answer(problem(503), {"Retry-After": str(RETRY_AFTER_S)})
        case HTTPException(status_code=status) if status < 500:  # noqa: PLR2004
            return Answer(problem(status), _allow(error))
        case _:
            # The class alone: a message may quote what was sent.
            logger.error("request.failed", error=type(error).__qualname__, where=_frames(error))
            return Answer(problem(500), {})


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


def _allow(error: HTTPException) -> Mapping[str, str]:
    return {
        name.title(): value
        for name, value in (error.headers or {}).items()
        if name.lower() == "allow"
    }


def _frames(error: Exception) -> str:
    """Where it happened, without values and without the message."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(frames[-8:])
