"""Read what another program sends by its own contract: fields that we do not know are passed by."""

from typing import TypeVar

import msgspec

from api.errors import BadRequest
from api.http.json_body import NOT_JSON, NOT_VALID

T = TypeVar("T")


def read_list(body: bytes, item: type[T]) -> list[T]:
    """The items of a JSON array. Raises BadRequest, which quotes nothing."""
    try:
        return msgspec.json.decode(body, type=list[item])  # type: ignore[valid-type]
    except msgspec.ValidationError:
        raise BadRequest(NOT_VALID) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest(NOT_JSON) from None
