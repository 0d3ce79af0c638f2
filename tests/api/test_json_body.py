"""Strict JSON: one media type, one meaning; errors say where and never what."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.testing import RequestFactory
from litestar.types import HTTPDisconnectEvent

from api.json_body import StrictRequest, decode
from api.problems import BadRequest

JSON: Final = "application/json"
NOT_JSON: Final = "The body is not well-formed JSON."
SECRET: Final = "scim_live_" + "s" * 49
ID: Final = "05daecaf-4365-42e8-8370-8127de5dd717"


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=0)]


class Body(msgspec.Struct, forbid_unknown_fields=True):
    id: UUID
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=5)] = "n"
    at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    inner: list[Inner] = []


def refused(body: bytes | dict[str, Any], content_type: str = JSON) -> BadRequest:
    sent = body if isinstance(body, bytes) else msgspec.json.encode(body)
    with pytest.raises(BadRequest) as refusal:
        decode(sent, Body, content_type=content_type)
    shown = f"{refusal.value} {refusal.value.detail} {refusal.value.errors}"
    assert SECRET not in shown
    assert refusal.value.__cause__ is None
    return refusal.value


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", " application/json ;x=y"],
)
def test_json_is_decoded_at_once_into_its_type(content_type: str) -> None:
    assert decode(f'{{"id": "{ID}"}}'.encode(), Body, content_type=content_type) == Body(UUID(ID))


@pytest.mark.parametrize(
    "content_type",
    ["", "text/json", "application/jsonp", "application/json, text/plain", "text/plain;application/json"],
)
def test_another_media_type_is_415_before_the_body_is_looked_at(content_type: str) -> None:
    refusal = refused(b"{", content_type)
    assert (refusal.status, refusal.detail) == (415, "The body must be application/json.")


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({}, "/id", "is required"),
        ({"id": ID, "nom": 1}, "/nom", "is not a field of this resource"),
        ({"id": ID, SECRET: 1}, "/*", "is not a field of this resource"),
        ({"id": ID, "UPPER": 1}, "/*", "is not a field of this resource"),
        ({"id": ID, "a/b`": 1}, "/*", "is not a field of this resource"),
        ({"id": SECRET}, "/id", "is not valid"),
        ({"id": 7}, "/id", "Expected `uuid`, got `int`"),
        ({"id": ID, "name": ""}, "/name", "Expected `str` of length >= 1"),
        ({"id": ID, "name": SECRET}, "/name", "Expected `str` of length <= 5"),
        ({"id": ID, "at": SECRET}, "/at", "is not valid"),
        ({"id": ID, "at": "2021-08-10T10:00:00"}, "/at", "Expected `datetime` with a timezone component"),
        ({"id": ID, "inner": {"count": 1}}, "/inner", "Expected `array`, got `object`"),
        ({"id": ID, "inner": [{"count": 0}, {"count": -1}]}, "/inner/1/count", "Expected `int` >= 0"),
        ({"id": ID, "inner": [{}]}, "/inner/0/count", "is required"),
        ({"id": ID, "inner": [{"count": 1, SECRET: 1}]}, "/inner/0/*", "is not a field of this resource"),
    ],
)
def test_a_wrong_value_is_located_and_not_quoted(body: dict[str, Any], pointer: str, detail: str) -> None:
    refusal = refused(body)
    assert (refusal.status, refusal.detail) == (400, "The body is not valid.")
    assert [(error.pointer, error.detail) for error in refusal.errors] == [(pointer, detail)]


@pytest.mark.parametrize(
    "body", [b"[]", b"7", b"null", b'"' + SECRET.encode() + b'"', b"true"], ids=lambda body: str(body[:5])
)
def test_what_is_no_object_is_refused_as_a_whole(body: bytes) -> None:
    (error,) = refused(body).errors
    assert error.pointer == ""
    assert error.detail.startswith("Expected `object`, got `")


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
        decode(sent, Body, content_type=JSON)
    except BadRequest as refusal:
        said = [refusal, refusal.detail, *refusal.errors]
    assert SECRET not in " ".join(map(str, said))


@given(sent=st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused(sent: bytes) -> None:
    with suppress(BadRequest):
        decode(sent, Body, content_type=JSON)


def test_a_client_that_hangs_up_is_no_failure_of_ours() -> None:
    async def hang_up() -> HTTPDisconnectEvent:
        return {"type": "http.disconnect"}

    request = StrictRequest(RequestFactory().get("/").scope, receive=hang_up)
    with pytest.raises(BadRequest, match="ended too early"):
        asyncio.run(request.body())
