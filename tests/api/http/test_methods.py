"""A17: one table of methods per path, for 405, OPTIONS and HEAD.

A16: a SCIM token where none belongs.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import product
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.methods import is_normal
from domain.api_token.permissions import Permission
from tests.api.expected import assert_problem, assert_unauthenticated, create, topics
from tests.service import Caller, RunningService
from tests.turns import by_turns

METHODS: Final = {"get", "put", "post", "delete", "patch"}
ALL: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
BESIDES: Final = (
    "/docs",
    "/docs/openapi.json",
    "/docs/assets/swagger-ui.css",
    "/docs/assets/NOTICE",
)
PUBLIC: Final = ("/healthz", "/readyz", "/revoke", "/docs")
NO_BODY: Final = "The resource does not support this method."


@pytest.fixture(scope="module")
def table(service: RunningService, admin: Caller) -> Mapping[str, set[str]]:
    """Every path of the document, with something in its place, and its methods."""
    document = service.client.get("/docs/openapi.json").json()
    token_id = create(service, admin)["id"]
    return {
        path.format(token_id=token_id, team_id=uuid4(), name="token_sources"): {
            *("OPTIONS",),
            *(method.upper() for method in item.keys() & METHODS),
            *(["HEAD"] if "get" in item else []),
        }
        for path, item in document["paths"].items()
    } | {path: {"GET", "HEAD", "OPTIONS"} for path in BESIDES}


def test_what_a_path_does_not_take_is_405_with_what_it_takes(
    service: RunningService, admin: Caller, table: Mapping[str, set[str]]
) -> None:
    for path, methods in table.items():
        for method in ALL:
            if method not in methods:
                answer = service.client.request(method, path, auth=admin)
                assert answer.status_code == 405, (method, path)
                assert answer.headers["allow"] == ", ".join(sorted(methods)), (method, path)
                if method != "HEAD":
                    assert_problem(answer, 405, "method-not-allowed", NO_BODY)


def test_no_cache_keeps_an_answer_that_does_not_allow_it(
    service: RunningService, admin: Caller, table: Mapping[str, set[str]]
) -> None:
    for path in (*table, "/", "/favicon.ico", "/no/such/path"):
        for method, auth in product(ALL, (admin, None)):
            answer = service.client.request(method, path, auth=auth)
            (said,) = answer.headers.get_list("cache-control")
            may_keep = path in {"/", "/favicon.ico"} or path.startswith("/docs/assets/")
            is_kept = may_keep and method in {"GET", "HEAD"}
            assert said.startswith("public" if is_kept else "no-store"), (method, path)


def test_options_says_what_a_path_takes(
    service: RunningService, admin: Caller, table: Mapping[str, set[str]]
) -> None:
    for path, methods in table.items():
        answer = service.client.options(path, auth=admin)
        assert (answer.status_code, answer.content) == (204, b""), path
        assert answer.headers["allow"] == ", ".join(sorted(methods)), path
        assert "content-length" not in answer.headers


def test_options_comes_after_authentication(
    service: RunningService, table: Mapping[str, set[str]]
) -> None:
    for path in table:
        is_public = path.startswith(PUBLIC)
        assert service.client.options(path).status_code == (204 if is_public else 401), path


@pytest.mark.long
def test_a_head_is_a_get_without_its_body(
    service: RunningService, admin: Caller, table: Mapping[str, set[str]]
) -> None:
    for path, methods in table.items():
        if "GET" in methods:
            with httpx.Client(base_url=service.url, trust_env=False) as client:
                got, asked = client.get(path, auth=admin), client.head(path, auth=admin)
                # nothing was left on the connection
                assert client.get("/healthz").status_code == 200
            assert asked.status_code == got.status_code, path
            assert asked.content == b""
            they_grow = ("/events", "/audit", "/metrics", "/readyz", "/projections")
            if not path.startswith(they_grow):
                assert stable(asked) == stable(got), path
            assert asked.headers.keys() == got.headers.keys()


def stable(answer: httpx.Response) -> dict[str, str]:
    return {
        name: value
        for name, value in answer.headers.items()
        if name not in {"x-request-id", "date"}
    }


@pytest.mark.parametrize(
    "path", ["/audit?format=ndjson", "/audit?format=csv", "/events?wait=1&after={head}"]
)
def test_a_head_of_a_stream_ends(service: RunningService, admin: Caller, path: str) -> None:
    head = service.query("SELECT max(notification_id) FROM ledger.events")[0][0]
    answer = service.client.head(path.format(head=head), auth=admin)
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_head_is_refused_like_a_get(service: RunningService, admin: Caller) -> None:
    reader = service.api_token(Permission.AUDIT_READ)
    assert service.client.head("/audit").status_code == 401
    for path, caller, status in (
        (f"/scim-token/{uuid4()}", admin, 404),
        ("/scim-token", reader, 403),
        ("/nowhere", admin, 404),
    ):
        answer = service.client.head(path, auth=caller)
        assert (answer.status_code, answer.content) == (status, b"")
        assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("path", "method"),
    by_turns(
        product(
            [
                "/Users",
                "//scim/v2/Users",
                "/scim/Users",
                "/",
                "/scim-token",
                "/scim/v3/Users",
                "/v2/Users",
            ],
            ["GET", "POST", "PATCH"],
        ),
        one_of=4,
    ),
)
def test_a_scim_token_beside_its_door_is_told_where_the_door_is(
    service: RunningService, admin: Caller, path: str, method: str
) -> None:
    """A16: the prefix tells what it is; good or not, nobody is asked."""
    if (path, method) == ("/", "GET"):
        return  # a page for everybody
    token: dict[str, Any] = create(service, admin)
    url = service.url + path
    answer = service.client.request(
        method, url, headers={"Authorization": f"Bearer {token['token']}"}
    )
    detail = "This is a SCIM token; the base URL ends in /scim/v2"
    assert_unauthenticated(answer, detail, was_presented=True)
    assert topics(service, token["id"]) == ["scim_token.created.v1"]


@pytest.mark.parametrize("path", ["/scim/v2/Users", "/gateway/nginx", "/gateway/forward"])
def test_an_api_token_at_a_door_is_told_what_it_is(
    service: RunningService, admin: Caller, path: str
) -> None:
    answer = service.client.get(path, auth=admin)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="scim", error="invalid_token"'
    assert answer.json()["detail"] == "This is an API token; here a SCIM token is presented"


@pytest.mark.parametrize(
    "spell",
    [
        "{{{0}}}".format,
        "urn:uuid:{0}".format,
        "uuid:{0}".format,
        "{{urn:uuid:{0}}}".format,
        "-{0}".format,
        "{0}-".format,
        lambda id_: id_.replace("-", "", 1),
        lambda id_: f"{id_[0]}-{id_[1:].replace('-', '')}",
        lambda id_: f"{id_[:3]}_{id_[3:].replace('-', '')}",
        lambda id_: f"\N{FULLWIDTH DIGIT ONE}{id_[1:]}",
    ],
)
def test_a_uuid_of_another_form_names_nothing(
    service: RunningService, admin: Caller, spell: Callable[[str], str]
) -> None:
    """Neither does a body or a query take it; a path would have as many spellings as it is read."""
    token = create(service, admin)
    path = f"/scim-token/{quote(spell(token['id']))}"
    assert service.client.get(path, auth=admin).status_code == 404
    assert service.client.delete(path, auth=admin).status_code == 404
    assert service.client.get(f"/scim-token/{token['id']}", auth=admin).status_code == 200


@pytest.mark.parametrize("written", [str, lambda id_: id_.hex, lambda id_: str(id_).upper()])
@given(id_=st.uuids())
def test_any_uuid_may_stand_in_a_path_as_in_a_body(
    written: Callable[[UUID], str], id_: UUID
) -> None:
    text = written(id_)
    assert msgspec.convert(text, UUID) == id_
    assert is_normal(f"/scim-token/{text}/events")


@given(
    st.text("0123456789abcdefABCDEF-{}_:+ xX", min_size=30, max_size=45)
    | st.uuids().map(lambda id_: f"{{urn:uuid:{id_}}}")
)
def test_a_path_takes_no_uuid_that_a_body_does_not(text: str) -> None:
    try:
        msgspec.convert(text, UUID)
    except msgspec.ValidationError:
        with suppress(ValueError):
            assert UUID(text)
            assert not is_normal(f"/scim-token/{text}")
    else:
        assert is_normal(f"/scim-token/{text}")
