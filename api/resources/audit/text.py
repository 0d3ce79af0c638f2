"""Audit rows as text: NDJSON and CSV, for the HTTP answers and the command line."""

import csv
import io
from collections.abc import Sequence
from typing import Final

import msgspec

from projections.audit_trail.view import AuditEvent

COLUMNS: Final = tuple(field.encode_name for field in msgspec.structs.fields(AuditEvent))
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the full-width forms of the first, which spreadsheets of East Asia take too."""
_encoder: Final = msgspec.json.Encoder()


def ndjson_rows(events: Sequence[AuditEvent]) -> bytes:
    """One JSON object a line."""
    return _encoder.encode_lines(events)


def csv_header() -> bytes:
    """The names of the columns (RFC 4180)."""
    return (",".join(COLUMNS) + "\r\n").encode()


def csv_rows(events: Sequence[AuditEvent]) -> bytes:
    """Rows of RFC 4180; an empty cell for null.

    A text that a spreadsheet would take for a formula gets an apostrophe in front: user agents and
    methods are a presenter's own words, and the file is opened by an auditor.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows([_cell(getattr(event, name)) for name in COLUMNS] for event in events)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
