"""Strict JSON: one media type, one meaning; errors say where and never what."""

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.testing import RequestFactory
from litestar.types import HTTPDisconnectEvent

from api.errors import BadRequest
from api.http.json_body import StrictRequest, decode
from api.http.values import Check
from domain.errors import InvalidValue

JSON: Final = "application/json"
NOT_JSON: Final = "The body is not well-formed JSON."
SECRET: Final = "scim_live_" + "s" * 49
UNKNOWN: Final = "is not a field of this resource"
NO_UUID: Final = "must be a UUID, such as 05daecaf-4365-42e8-8370-8127de5dd717"
NO_INSTANT: Final = "must be an instant, such as 2021-08-10T10:00:00.000Z"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
ID: Final = "05daecaf-4365-42e8-8370-8127de5dd717"


def must_be_later(ends: datetime, at: datetime) -> None:
    if ends <= at:
        raise InvalidValue("/ignored", "must be later")


class Body(msgspec.Struct, forbid_unknown_fields=True):
    id: UUID
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=5)] = "n"
    at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    count: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0
    ends: Annotated[datetime, Check(must_be_later)] | None = None


class AllOptional(msgspec.Struct, forbid_unknown_fields=True):
    count: int = 7


def refused(body: bytes | dict[str, Any], content_type: str = JSON) -> BadRequest:
    sent = body if isinstance(body, bytes) else msgspec.json.encode(body)
    with pytest.raises(BadRequest) as refusal:
        decode(sent, Body, content_type=content_type, at=NOW)
    shown = f"{refusal.value} {refusal.value.detail} {refusal.value.errors}"
    assert SECRET not in shown
    assert refusal.value.__cause__ is None
    return refusal.value


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        " application/json ;x=y",
    ],
)
def test_json_is_decoded_at_once_into_its_type(content_type: str) -> None:
    assert decode(f'{{"id": "{ID}"}}'.encode(), Body, content_type=content_type, at=NOW) == Body(
        UUID(ID)
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/json",
        "application/jsonp",
        "application/json, text/plain",
        "text/plain;application/json",
    ],
)
def test_another_media_type_is_415_before_the_body_is_looked_at(content_type: str) -> None:
    refusal = refused(b"{", content_type)
    assert (refusal.status, refusal.detail) == (415, "The body must be application/json.")


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({}, "/id", "is required"),
        ({"id": ID, "nom": 1}, "/nom", UNKNOWN),
        ({"id": ID, SECRET: 1}, "/*", UNKNOWN),
        ({"id": ID, "UPPER": 1}, "/UPPER", UNKNOWN),
        ({"id": ID, "a/b`": 1}, "/*", UNKNOWN),
        ({"id": SECRET}, "/id", NO_UUID),
        ({"id": 7}, "/id", NO_UUID),
        ({"id": ID, "name": ""}, "/name", "must be a string of 1 to 5 characters"),
        ({"id": ID, "name": SECRET}, "/name", "must be a string of 1 to 5 characters"),
        ({"id": ID, "name": None}, "/name", "must be a string of 1 to 5 characters"),
        ({"id": ID, "at": SECRET}, "/at", NO_INSTANT),
        ({"id": ID, "at": 253402300800}, "/at", NO_INSTANT),
        ({"id": ID, "at": "253402300800"}, "/at", NO_INSTANT),
        ({"id": ID, "at": "2021-02-30T10:00:00Z"}, "/at", NO_INSTANT),
        (
            {"id": ID, "at": "2021-08-10T10:00:00"},
            "/at",
            "needs a time zone, such as a Z at the end",
        ),
        ({"id": ID, "count": -1}, "/count", "must be a whole number from 0 to 9"),
        ({"id": ID, "count": 1.0}, "/count", "must be a whole number from 0 to 9"),
        ({"id": ID, "count": True}, "/count", "must be a whole number from 0 to 9"),
        ({"id": ID, "count": 10**400}, "/count", "must be a whole number from 0 to 9"),
        ({"id": ID, "ends": "2021-08-10T10:00:00Z"}, "/ends", "must be later"),
    ],
)
def test_a_wrong_value_is_located_and_not_quoted(
    body: dict[str, Any], pointer: str, detail: str
) -> None:
    refusal = refused(json.dumps(body).encode())
    assert (refusal.status, refusal.detail) == (400, "The body is not valid.")
    assert [(error.pointer, error.detail) for error in refusal.errors] == [(pointer, detail)]


def test_all_that_is_wrong_is_told_at_once() -> None:
    """D4: nobody mends a request one error at a time."""
    refusal = refused({"name": "", "at": 7, "ends": "2021-08-10T10:00:00Z", "nom": 1, SECRET: 2})
    assert [(error.pointer, error.detail) for error in refusal.errors] == [
        ("/id", "is required"),
        ("/name", "must be a string of 1 to 5 characters"),
        ("/at", NO_INSTANT),
        ("/ends", "must be later"),
        ("/nom", UNKNOWN),
        ("/*", UNKNOWN),
    ]


@pytest.mark.parametrize(
    "body",
    [b"[]", b"7", b"null", b'"' + SECRET.encode() + b'"', b"true"],
    ids=lambda body: str(body[:5]),
)
def test_what_is_no_object_is_refused_as_a_whole(body: bytes) -> None:
    (error,) = refused(body).errors
    assert (error.pointer, error.detail) == ("", "must be an object")


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n"])
def test_nothing_is_no_object_without_fields(body: bytes) -> None:
    """Who puts nothing in place of rules would take them all away."""
    with pytest.raises(BadRequest, match="not well-formed"):
        decode(body, AllOptional, content_type=JSON, at=NOW)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"{}", ""), (b"", ""), (b"", "text/plain"), (b"x=1", "text/plain")],
)
def test_a_body_that_is_there_needs_its_type(body: bytes, content_type: str) -> None:
    with pytest.raises(BadRequest, match=r"application/json"):
        decode(body, AllOptional, content_type=content_type, at=NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        SECRET.encode(),
        f'{{"{SECRET}"'.encode(),
        b"\xff\xfe",
        b"\x00",
        b'{"id": NaN}',
        b'{"id": Infinity}',
        b'{"name": "\\ud800"}',
        b'{"name": "\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"[" * 100_000,
        b"-" + b"9" * 100_000,
        msgspec.json.encode({"id": ID}).decode().encode("utf-16"),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    refusal = refused(body)
    assert (refusal.status, refusal.detail, list(refusal.errors)) == (400, NOT_JSON, [])


@pytest.mark.parametrize(
    "body",
    [
        f'{{"id": "{ID}", "id": "{ID}"}}',
        f'{{"id": "{ID}", "\\u0069d": "{ID}"}}',
        f'{{"{SECRET}": 1, "{SECRET}": 2}}',
        f'{{"id": "{ID}", "inner": [{{"count": 1, "count": 1}}]}}',
    ],
)
def test_a_field_named_twice_is_refused_at_any_depth(body: str) -> None:
    assert refused(body.encode()).detail == "The body names a field twice."


texts = st.text(max_size=8) | st.just(SECRET)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts | st.sampled_from(["id", "name"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(document=documents)
def test_any_json_is_taken_or_refused_without_an_echo(document: Any) -> None:
    sent = msgspec.json.encode(document)
    said: list[object] = []
    try:
        decode(sent, Body, content_type=JSON, at=NOW)
    except BadRequest as refusal:
        said = [refusal, refusal.detail, *refusal.errors]
    assert SECRET not in " ".join(map(str, said))


@given(sent=st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused(sent: bytes) -> None:
    with suppress(BadRequest):
        decode(sent, Body, content_type=JSON, at=NOW)


def test_a_client_that_hangs_up_is_no_failure_of_ours() -> None:
    async def hang_up() -> HTTPDisconnectEvent:
        return {"type": "http.disconnect"}

    request = StrictRequest(RequestFactory().get("/").scope, receive=hang_up)
    with pytest.raises(BadRequest, match="ended too early"):
        asyncio.run(request.body())
