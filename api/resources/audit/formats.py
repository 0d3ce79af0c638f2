"""JSON, NDJSON or CSV: choose by the request, document and stream each."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema

from api.errors import BadRequest
from api.resources.audit.text import csv_header, csv_rows
from projections.audit_trail.view import AuditEvent


class Format(StrEnum):
    """json: one page. ndjson, csv: every row, streamed."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"


MEDIA_TYPES: Final = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv",
}
_ACCEPTED: Final = {
    "*/*": Format.JSON,
    "application/*": Format.JSON,
    "application/json": Format.JSON,
    "application/x-ndjson": Format.NDJSON,
    "application/ndjson": Format.NDJSON,
    "application/jsonl": Format.NDJSON,
    "text/*": Format.CSV,
    "text/csv": Format.CSV,
}


@dataclass
class InEveryFormat(Operation):
    """An operation whose 200 comes in every format; the framework describes one per status."""

    def __post_init__(self) -> None:
        """Add the streamed formats to what the handler says of its JSON."""
        success = (self.responses or {})["200"]
        assert isinstance(success, OpenAPIResponse)
        assert success.content is not None
        for format_ in (Format.NDJSON, Format.CSV):
            text = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
            # the framework adds it to text
            charset = "; charset=utf-8" if format_ is Format.CSV else ""
            success.content[MEDIA_TYPES[format_] + charset] = text


def negotiate(asked: Format | None, accept: str) -> Format:
    """`?format=` if it was given, else the best of the Accept header (RFC 9110 §12.5.1), which is
    empty where none was sent.

    Raises BadRequest (406) where only other formats are accepted.
    """
    if asked is not None:
        return asked
    if not accept.strip():
        return Format.JSON
    ranges = [_quality(part) for part in accept.split(",")]
    good = [
        (quality, _ACCEPTED[media])
        for media, quality in ranges
        if media in _ACCEPTED and quality > 0
    ]
    if not good:
        raise BadRequest(
            "Answers are application/json, application/x-ndjson or text/csv.", status=406
        )
    return max(good, key=lambda found: found[0])[1]  # the first of the best


def _quality(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return media, float(parameter[2:])
            except ValueError:
                return media, 0.0
    return media, 1.0


async def csv(pages: AsyncIterator[Sequence[AuditEvent]]) -> AsyncIterator[bytes]:
    """The bytes of a table, one piece per page; the first one is there when the first page is."""
    header = csv_header()
    async for page in pages:
        yield header + csv_rows(page)
        header = b""
    if header:
        yield header
