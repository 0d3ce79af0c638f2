"""Read a form body strictly (application/x-www-form-urlencoded), for the OAuth endpoints.

Not Litestar's reader: it keeps the last thousand bodies in a cache, secrets and all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import parse_qsl

from litestar.enums import RequestEncodingType
from litestar.openapi.spec import (
    Example,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)

from api.errors import BadRequest, InvalidForm
from api.http.json_body import StrictRequest
from api.http.openapi import or_problem

MAX_FIELDS: Final = 20


async def read_form(request: StrictRequest) -> Mapping[str, str]:
    """The parameters that have a value (RFC 6749 §3.2: one without counts as left out).

    Raises BadRequest for another media type (415), InvalidForm for what is malformed or said twice.
    """
    if (
        request.headers.get("content-type", "").partition(";")[0].strip().lower()
        != RequestEncodingType.URL_ENCODED
    ):
        raise BadRequest("The body must be application/x-www-form-urlencoded.", status=415)
    body = await request.body()
    try:
        pairs = parse_qsl(
            body.strip().decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body.strip()),
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise InvalidForm("invalid_request", "The body is not a well-formed form.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidForm("invalid_request", "The body names a parameter twice.")
    return {name: value for name, value in fields.items() if value}


_TEXT: Final = OpenAPIType.STRING
_TOKEN: Final = {
    "token": Schema(type=_TEXT, description="The SCIM token."),
    "token_type_hint": Schema(type=_TEXT, description="Ignored."),
}


@dataclass
class TokenFormOperation(Operation):
    """An operation whose body is a form with the parameter `token`, for the OpenAPI document."""

    PARAMETERS: ClassVar[Mapping[str, Schema]] = _TOKEN

    def __post_init__(self) -> None:
        """Litestar's hook for what it cannot see in the handler."""
        or_problem(self, 400)
        self.request_body = RequestBody(
            required=True,
            content={
                RequestEncodingType.URL_ENCODED: OpenAPIMediaType(
                    schema=Schema(
                        type=OpenAPIType.OBJECT,
                        required=["token"],
                        properties=dict(self.PARAMETERS),
                    ),
                    examples={
                        "token": Example(value={"token": "scim_live_<49 letters and digits>"}),
                    },
                )
            },
        )


@dataclass
class PresentedTokenFormOperation(TokenFormOperation):
    """One whose form may also say where the token was presented from."""

    PARAMETERS: ClassVar[Mapping[str, Schema]] = _TOKEN | {
        "source": Schema(
            type=_TEXT,
            description="An extension (RFC 7662 §2.1): the IP address of whoever presented it. "
            "Without it, a token that is good from certain networks alone is not active.",
        )
    }
