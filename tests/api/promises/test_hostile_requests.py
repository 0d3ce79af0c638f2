"""Whatever stands in a path, a query or a header, the answer is a problem and never a fault (A12,
A15, A21).

The routes are those of the OpenAPI document, so a new one is asked the same without anybody
thinking of it.
"""

import json
import re
from collections.abc import Iterator
from itertools import product
from typing import Any, Final
from uuid import uuid4

import pytest
import uvloop

from tests.api.expected import WARNINGS, assert_invalid, assert_problem, create
from tests.raw_http import Answer, Client, Lost
from tests.service import Caller, RunningService
from tests.turns import by_turns

METHODS: Final = {"get", "put", "post", "delete", "patch"}
HOSTILE: Final = [
    *(
        "",
        "0",
        "-1",
        "253402300800",
        "253402300800.5",
        "-62135596801",
        "1e400",
        "NaN",
        "Infinity",
        "null",
    ),
    *(
        "9" * 19,
        "9" * 25,
        "9" * 5000,
        "-" + "9" * 400,
        "0x10",
        "1_000",
        "+1",
        " 1",
        "007",
        "%",
        "%zz",
        "%00",
    ),
    *(
        "%ED%A0%80",
        "%FF%FE",
        "%F0%9F%9A%80",
        "%E2%80%AE",
        "a%0d%0ab",
        "%2e%2e%2f",
        "a" * 3000,
        "[]",
        "{}",
    ),
    *(
        "true",
        "True",
        "2021-08-10",
        "2021-08-10T10:00:00",
        "2021-02-30T10:00:00Z",
        "2021-08-10T25:00:00Z",
    ),
    *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00%2B23:59", "2021-08-10T10:00:00%2B99:99"),
    *("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.001Z", "1970-01-02T00:00:00Z"),
    *("8999-12-31T23:59:59.999Z", "::1%25x"),
    *(
        "10000-01-01T00:00:00Z",
        "2021-08-10T10:00:60Z",
        str(uuid4()),
        "{" + str(uuid4()) + "}",
        "scim_token.used",
    ),
]
"""Percent-encoded where a query would need it;
as they are where it is the percent sign that hurts.
"""
PATHS: Final = [
    *(
        "/docs/assets/x%00",
        "/docs/assets/" + "a" * 3000,
        "/docs/assets/..%2f..%2fapp.py",
        "/docs/assets/%FF",
    ),
    *(
        "/scim-token/%00",
        "/scim-token/" + "9" * 3000,
        "/scim-token/%ED%A0%80/events",
        "//scim-token//",
    ),
    *(
        "/projections/%00",
        "/projections/" + "x" * 3000,
        "/projections/%F0%9F%9A%80/rebuild",
        "/problems/%00",
    ),
    *(
        "/%00",
        "/%FF",
        "/" + "a/" * 500,
        "/..%2f..",
        "/healthz/%00",
        "/audit%20",
        "/events;x=1",
        "/%25%30%30",
    ),
]
HEADERS: Final = [
    *(
        b"Host: x:99999",
        b"Host: x:y",
        b"Host: [::1",
        b"Host: a b",
        b"Host: \xff",
        b"Host: @x",
        b"Host: x/y",
    ),
    *(
        b"Accept: \xff",
        b"Accept: ,;q=,",
        b"Accept: */*;q=nan",
        b"Accept: */*;q=" + b"9" * 400,
        b"Accept: ;",
    ),
    *(
        b"Idempotency-Key: \xff",
        b"Idempotency-Key: " + b"k" * 3000,
        b"If-Unused-Since: \xff",
        b"Content-Type: \xff",
        b"Content-Type: ;",
    ),
    *(
        b"Content-Encoding: gzip",
        b"Content-Encoding: \xff",
        b"X-Forwarded-For: ,,\xff",
        b"User-Agent: \x80",
    ),
    *(
        b"Cookie: \xff=;;=",
        b"Range: bytes=9-1",
        b"If-Modified-Since: \xff",
        b"Accept-Language: \xff",
    ),
]


SHARES: Final = [
    pytest.param(7, id="one in seven"),
    pytest.param(1, id="all", marks=pytest.mark.long),
]
"""Of all combinations; the lists have no length that seven divides, so each value has its turn."""


@pytest.fixture(scope="module")
def document(service: RunningService) -> dict[str, Any]:
    found: dict[str, Any] = service.client.get("/docs/openapi.json").json()
    return found


def operations(document: dict[str, Any], read: object) -> Iterator[tuple[str, str, list[str]]]:
    """Method, path, names of the query's parameters; ids but that of what is read are nobody's."""
    for template, item in document["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                path = template.replace("{name}", "token_sources").replace(
                    "{token_id}", str(read if method == "get" else uuid4())
                )
                path = path.replace("{slug}", "validation").replace("{team_id}", str(uuid4()))
                parameters = operation.get("parameters", ())
                yield (
                    method.upper(),
                    path,
                    [each["name"] for each in parameters if each["in"] == "query"],
                )


def ask(
    service: RunningService, caller: Caller, requests: list[tuple[str, str, bytes]]
) -> list[Answer | None]:
    """One after the other, each on what connection is left;
    None where it was answered by hanging up.
    """

    async def story() -> list[Answer | None]:
        answers: list[Answer | None] = []
        async with Client(service.url) as client:
            for method, target, header in requests:
                host = b"" if header.startswith(b"Host:") else b"Host: ledger\r\n"
                length = b"Content-Length: 0\r\n" if method == "POST" else b""
                head = (
                    f"{method} {target} HTTP/1.1\r\nAuthorization: Bearer "
                    f"{caller.secret}\r\n".encode()
                )
                try:
                    answers.append(await client.ask(head + host + length + header + b"\r\n\r\n"))
                except Lost:
                    answers.append(None)
        return answers

    return uvloop.run(story())


def recorded(service: RunningService) -> list[tuple[Any, ...]]:
    """Every event but that a caller was there, or was refused, and what is told by the clock."""
    return service.query(
        "SELECT notification_id FROM ledger.events WHERE topic NOT LIKE 'api_token.used.%%'"
        " AND topic NOT LIKE 'api_token.refused.%%' AND topic NOT LIKE 'refusal_tally.%%'"
        " AND topic <> ALL(%s)",
        list(WARNINGS),
    )


def assert_no_fault(
    service: RunningService, requests: list[tuple[str, str, bytes]], caller: Caller
) -> None:
    before = recorded(service)
    for request, answer in zip(requests, ask(service, caller, requests), strict=True):
        shown = (request, answer and answer.raw[:600])
        assert answer is not None, shown
        assert answer.status < 500, shown
        if answer.status >= 400:
            media_type = answer.headers["content-type"]
            if request[1].startswith(("/introspect", "/revoke")) and answer.status == 400:
                assert set(answer.json()) <= {
                    "error",
                    "error_description",
                    "type",
                    "title",
                    "status",
                    "detail",
                    "instance",
                }
            else:
                assert media_type == "application/problem+json", shown
                assert answer.json()["status"] == answer.status, shown
    assert recorded(service) == before


@pytest.mark.parametrize("every", SHARES)
def test_no_value_of_any_parameter_is_a_fault(
    service: RunningService, admin: Caller, document: dict[str, Any], every: int
) -> None:
    """A12: 253402300800 was an instant that nothing can hold, and a 500."""
    token_id = create(service, admin)["id"]
    requests = [
        (method, f"{path}?{name}={value}", b"A: b")
        for method, path, names in operations(document, token_id)
        for name, value in product(names, HOSTILE)
        if (path, name) != ("/events", "wait") and method in {"GET", "DELETE"}
    ]
    assert len(requests) > 1000
    sent = [(m, t.replace(" ", "%20"), h) for m, t, h in requests[::every]]
    assert_no_fault(service, sent, admin)


BODIES: Final[list[object]] = [
    *(None, True, 0, -1, 253402300800, 2**63, 10**400, 1.5, 1e308),
    *("", " ", "\0", "\u202e", "\u200b", "9" * 5000),
    *(
        [],
        [[]],
        {},
        {"a": {}},
        "2021-02-30T10:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
    ),
    *(
        "253402300800",
        str(uuid4()) + "x",
        "scim_live_x",
        "::1%x",
        "x" * 9000,
        "\N{ROCKET}" * 300,
        "\ud800",
    ),
]


@pytest.mark.parametrize("every", SHARES)
def test_no_value_of_a_body_is_a_fault(
    service: RunningService, admin: Caller, document: dict[str, Any], every: int
) -> None:
    """A12, for each field of each JSON body;
    the others are left out, so nothing can take effect but a rule of a policy.
    """
    before, asked, taken = recorded(service), 0, 0
    for (path, item), method in product(document["paths"].items(), ("post", "put", "patch")):
        content = item.get(method, {}).get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            continue
        found = re.search(r"#/components/schemas/(\w+)", json.dumps(content))
        assert found is not None, path
        schema = document["components"]["schemas"][found[1]]
        for name, value in product(schema["properties"], BODIES):
            asked += 1
            if asked % every:
                continue
            sent = json.dumps({name: value}).encode()
            answer = service.client.request(
                method,
                path.format(token_id=uuid4(), team_id=uuid4()),
                auth=admin,
                content=sent,
                headers=[("Content-Type", "application/json")],
            )
            assert answer.status_code < 500, (path, name, value)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
            taken += method == "put" and answer.is_success
    assert asked > 200
    assert len(recorded(service)) - len(before) <= taken
    # The rules for every team are also those of the other tests.
    service.client.put("/policy", auth=admin, json={}).raise_for_status()


def test_no_path_is_a_fault(service: RunningService, admin: Caller) -> None:
    requests = [(method, path, b"A: b") for method in ("GET", "DELETE", "POST") for path in PATHS]
    assert_no_fault(service, requests, admin)


@pytest.mark.parametrize("every", SHARES)
def test_no_header_is_a_fault(
    service: RunningService, admin: Caller, document: dict[str, Any], every: int
) -> None:
    requests = [
        (method, path, header)
        for method, path, _ in operations(document, uuid4())
        for header in HEADERS
        if "rebuild" not in path and "retry" not in path
    ]
    assert_no_fault(service, requests[::every], admin)


@pytest.mark.parametrize(
    "host", ["x:99999", "x:65536", "x:y", "[::1", "a b", "@x", "x/y", "x?y", "h\xf6st"]
)
def test_a_host_that_is_none_is_refused(service: RunningService, admin: Caller, host: str) -> None:
    """RFC 9112 §3.2: a server must answer it with 400."""
    (answer,) = ask(service, admin, [("GET", "/events", f"Host: {host}".encode("latin-1"))])
    assert answer is not None
    assert (answer.status, answer.json()["detail"]) == (400, "The Host header is not valid.")


@pytest.mark.parametrize(
    "host",
    ["x", "x:80", "x:", "", "127.0.0.1:8080", "[::1]:8080", "a_b.example", "[fe80::1%25eth0]"],
)
def test_a_host_is_named_in_the_feed_as_the_client_knows_it(
    service: RunningService, admin: Caller, host: str
) -> None:
    create(service, admin)
    (answer,) = ask(service, admin, [("GET", "/events?limit=1", f"Host: {host}".encode())])
    assert answer is not None
    assert answer.status == 200
    source = answer.json()[0]["source"]
    assert source == (f"http://{host}/events" if host else f"{service.url}/events")


def test_what_no_route_has_is_refused_by_every_route(
    service: RunningService, admin: Caller, document: dict[str, Any]
) -> None:
    """A15: a parameter with a typo, also where there are none at all."""
    before = recorded(service)
    asked = [
        (f"{method} {path}", answer)
        for method, path, _ in operations(document, uuid4())
        for answer in ask(service, admin, [(method, f"{path}?teem_id=x", b"A: b")])
    ]
    for name, answer in asked:
        assert answer is not None
        assert answer.status == 400, (name, answer.raw)
        if name not in {"POST /introspect", "POST /revoke"}:
            assert answer.json()["errors"] == [
                {"pointer": "teem_id", "detail": "is not a parameter of this resource"}
            ], name
    assert recorded(service) == before


def test_what_a_route_has_is_refused_when_it_is_said_twice(
    service: RunningService, admin: Caller, document: dict[str, Any]
) -> None:
    """A15: the last one won; only `kind` is a list."""
    before = recorded(service)
    for method, path, names in operations(document, uuid4()):
        for name in names:
            (answer,) = ask(service, admin, [(method, f"{path}?{name}=1&{name}=1", b"A: b")])
            assert answer is not None
            assert answer.status == 400
            detail = answer.json()["errors"][0]["detail"]
            assert (detail == "must not be given more than once") == (name != "kind"), (path, name)
    assert recorded(service) == before


def test_all_that_is_wrong_with_a_query_is_told_at_once(
    service: RunningService, admin: Caller
) -> None:
    """D4: with what is allowed."""
    query = (
        "limit=0&status=gone&team_id=Okta&as_of=253402300800"
        "&never_used=maybe&teem=x&name=%E2%80%8B&limit=1"
    )
    assert_problem(
        service.client.get(f"/scim-token?{query}", auth=admin),
        400,
        "validation",
        "A parameter is not valid.",
        errors=[
            {
                "pointer": "team_id",
                "detail": f"must be a UUID, such as {'05daecaf-4365-42e8-8370-8127de5dd717'}",
            },
            {"pointer": "name", "detail": "must hold a character that can be seen"},
            {"pointer": "limit", "detail": "must not be given more than once"},
            {
                "pointer": "status",
                "detail": "must be one of: active, all, expired, revoked, suspended",
            },
            {"pointer": "never_used", "detail": "must be true or false"},
            {"pointer": "as_of", "detail": "must be an instant, such as 2021-08-10T10:00:00.000Z"},
            {"pointer": "teem", "detail": "is not a parameter of this resource"},
        ],
    )


def test_a_secret_in_place_of_a_name_is_not_echoed(service: RunningService, admin: Caller) -> None:
    answer = service.client.get(f"/scim-token?{admin.secret}=1", auth=admin)
    assert_invalid(
        answer, "*", "is not a parameter of this resource", about="A parameter is not known."
    )
    assert admin.secret not in answer.text


@pytest.mark.parametrize("header", ["Idempotency-Key", "Content-Type"])
def test_a_header_that_says_two_things_is_refused(
    service: RunningService, admin: Caller, header: str
) -> None:
    """A15: RFC 9110 §5.3 lets no sender repeat a field that is no list."""
    before = recorded(service)
    headers = [
        (header, "application/json"),
        (header, "application/json"),
        ("Content-Type", "application/json"),
    ]
    for path in ("/scim-token", f"/scim-token/{create(service, admin)['id']}/rotate"):
        before = recorded(service)
        body = b'{"team_id": "%s", "name": "Okta"}' % str(uuid4()).encode()
        answer = service.client.post(
            path, auth=admin, headers=headers[: 2 + (header != "Content-Type")], content=body
        )
        assert_invalid(
            answer,
            header,
            "must not be given more than once",
            about="A header is given more than once.",
        )
    assert recorded(service) == before


CODED: Final = ("/scim-token", "/verify", "/introspect", "/revoke", "/scim-token/{id}/rotate")
CODINGS: Final = ("gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x-gzip", "aes128gcm")


@pytest.mark.parametrize(("path", "coding"), by_turns(product(CODED, CODINGS), one_of=3))
def test_a_coded_body_is_not_taken_for_a_plain_one(
    service: RunningService, admin: Caller, path: str, coding: str
) -> None:
    """A21: RFC 9110 §15.5.16."""
    token = create(service, admin)
    before = recorded(service)
    is_form = path in {"/introspect", "/revoke"}
    sent: dict[str, Any] = (
        {"data": {"token": token["token"]}}
        if is_form
        else {"json": {"token": token["token"]} if path == "/verify" else {}}
    )
    if path == "/scim-token":
        sent = {"json": {"team_id": str(uuid4()), "name": "Okta"}}
    answer = service.client.post(
        path.format(id=token["id"]), auth=admin, headers={"Content-Encoding": coding}, **sent
    )
    detail = "The body must not be coded; leave Content-Encoding out."
    assert_problem(answer, 415, "unsupported-media-type", detail)
    assert answer.headers["accept-encoding"] == "identity"
    assert recorded(service) == before


def test_a_body_that_is_not_coded_may_say_so(service: RunningService, admin: Caller) -> None:
    body = {"team_id": str(uuid4()), "name": "Okta"}
    answer = service.client.post(
        "/scim-token", auth=admin, json=body, headers={"Content-Encoding": "identity"}
    )
    assert answer.status_code == 201
