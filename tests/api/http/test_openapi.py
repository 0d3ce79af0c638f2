"""The OpenAPI document says what the service does, and its page needs nothing from elsewhere."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from jsonschema import Draft202012Validator
from litestar.testing import TestClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import build
from api.resources.feed import POSITION_MAX
from api.settings import Settings
from domain.api_token.permissions import Permission
from domain.secret import SECRET_PATTERN
from projections.audit_trail.view import KINDS, outcome_of
from tests.api.documented import Documented, Undocumented
from tests.api.expected import create, use
from tests.service import PEPPER_KEY, Caller, RunningService

PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
OTHER_BODIES: Final = {
    ("introspectScimToken", "400"),
    ("burnScimToken", "400"),
    ("readiness", "503"),
}
"""Where a refusal may have the body of another standard, or of an orchestrator's probe."""
FREE: Final = {
    "ours": {"detail", "error_description", "problems", "title"},
    "of people and programs": {
        "name",
        "note",
        "operator",
        "reason",
        "user_agent",
        "method",
        "error",
    },
    "of a request": {
        "path",
        "path_class",
        "source",
        "token_type_hint",
        "pointer",
        "url",
    },
    "opaque": {"token", "next_cursor", "subject", "secret"},
}
"""The strings that may be anything: no list of words and no format would be true of them."""
METHODS: Final = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


@pytest.fixture(scope="module")
def document(service: RunningService) -> dict[str, Any]:
    answer = service.client.get("/docs/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By operation id."""
    return {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in METHODS
    }


@pytest.mark.long
def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_operation_has_an_id_of_its_own(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    assert len(operations) == sum(len(path) for path in document["paths"].values())
    assert {
        *(
            "createScimToken",
            "listScimTokens",
            "getScimToken",
            "deleteScimToken",
            "rotateScimToken",
        ),
        *("liveness", "readiness"),
    } <= operations.keys()
    for operation in operations.values():
        assert operation["summary"]
        assert operation["description"]


def test_every_operation_of_the_resource_has_an_example_of_its_success(
    operations: dict[str, dict[str, Any]],
) -> None:
    for name, operation in operations.items():
        if name.endswith(("Token", "Tokens", "whoami")):
            (success,) = (
                answer for status, answer in operation["responses"].items() if status[0] == "2"
            )
            assert success["content"]["application/json"]["examples"], name


def test_examples_are_valid_by_their_own_schemas(document: dict[str, Any]) -> None:
    documented = Documented(document)
    found = list(_examples(document))
    assert len(found) >= 5
    errors = [
        (error.message, value)
        for schema, value in found
        for error in documented.validator(schema).iter_errors(value)
    ]
    assert errors == []


def test_nothing_in_the_document_looks_like_a_secret(service: RunningService) -> None:
    for path in ("/docs/openapi.json", "/docs"):
        text = service.client.get(path).text
        assert re.search(SECRET_PATTERN, text) is None
        assert re.search(r"Bearer [0-9A-Za-z_.-]{8,}", text) is None


def test_the_document_is_the_same_in_every_process(
    service: RunningService, document: dict[str, Any]
) -> None:
    """No example in it is made up by chance."""
    settings = Settings(database_url=service.database.app, pepper=PEPPER_KEY)
    with TestClient(build(settings)) as other:
        assert other.get("/docs/openapi.json").json() == document


def test_schemas_are_schemas(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_what_needs_no_token_says_so(service: RunningService, document: dict[str, Any]) -> None:
    assert document["security"] == [{"apiToken": []}]
    scheme = document["components"]["securitySchemes"]["apiToken"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            url = re.sub(r"\{\w+\}", str(uuid4()), path)
            answer = service.client.request(method.upper(), url)
            is_public = operation.get("security") == [{}]
            assert (answer.status_code != 401) == is_public, operation["operationId"]


def test_what_is_answered_is_documented(
    service: RunningService, document: dict[str, Any], admin: Caller
) -> None:
    documented = Documented(document)
    with httpx.Client(
        base_url=service.url, trust_env=False, verify=False, event_hooks={"response": [documented]}
    ) as client:
        token = create(service, admin)
        path, body = f"/scim-token/{token['id']}", {"team_id": str(uuid4()), "name": "Okta"}
        powerless, foreigner = (
            service.api_token(Permission.AUDIT_READ),
            service.api_token(teams=[uuid4()]),
        )
        key = {"Idempotency-Key": str(uuid4())}
        every = [("POST", "/scim-token"), ("GET", "/scim-token"), ("GET", path), ("DELETE", path)]
        every.append(("POST", f"{path}/rotate"))
        for method, where in every:
            asked: dict[str, str] = body if where == "/scim-token" else {}
            json_ = asked if method == "POST" else None
            client.request(method, where)
            client.request(method, where, auth=powerless, json=json_)
            client.request(method, where, auth=foreigner, json=json_)
            header = ("Authorization", f"Bearer {admin.secret}")
            assert client.request(method, where, headers=[header, header]).status_code == 400
        for where, sent in (("/scim-token", body), (f"{path}/rotate", {})):
            own = {"Idempotency-Key": str(uuid4())}
            for again in (sent, sent, {}, {"none": 1}):
                client.post(where, auth=admin, json=again, headers=own)
            client.post(where, auth=admin, content=b"{}")
            client.post(where, auth=admin, json={"name": "n" * 65536})
        client.post("/scim-token", auth=admin, json=body, headers=key)
        client.post("/scim-token", auth=admin, json=body | {"name": "Entra"}, headers=key)
        use(service, token["token"])
        client.get("/scim-token", auth=admin, params={"status": "all"})
        client.get(path, auth=admin)
        client.delete(path, auth=admin, headers={"If-Unused-Since": token["created_at"]})
        client.delete(path, auth=admin)
        client.get("/healthz")
        client.get("/readyz")
    assert documented.seen >= {
        *(("createScimToken", status) for status in (201, 400, 401, 403, 404, 409, 413, 415, 422)),
        *(("listScimTokens", status) for status in (200, 400, 401, 403)),
        *(("getScimToken", status) for status in (200, 400, 401, 403, 404)),
        *(("deleteScimToken", status) for status in (200, 400, 401, 403, 404, 412)),
        *(("rotateScimToken", status) for status in (200, 400, 401, 403, 404, 409, 413, 415)),
        *((("liveness"), 200), ("readiness", 200)),
    }


def test_planted_an_answer_off_the_document_is_caught(document: dict[str, Any]) -> None:
    request = httpx.Request("DELETE", f"http://ledger/scim-token/{UUID(int=0)}")
    for answer in (
        httpx.Response(418, json={}, request=request),
        httpx.Response(200, text="gone", request=request),
        httpx.Response(200, json={}, request=request),
        httpx.Response(200, json={"id": "Okta"}, request=request),
    ):
        with pytest.raises(Undocumented):
            Documented(document)(answer)


def test_the_page_loads_nothing_from_elsewhere(service: RunningService) -> None:
    answer = service.client.get("/docs")
    assert answer.status_code == 200
    page = answer.text.partition("spec: {")[0]  # what follows is the document itself
    loaded = re.findall(
        r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=["']([^"']+)["']""", answer.text
    )
    assert len(loaded) >= 4
    assert re.search(r"https?:|//[a-z]", page) is None
    for url in loaded:
        if url == "data:,":
            continue
        assert url.startswith("/docs/assets/")
        asset = service.client.get(url)
        assert asset.status_code == 200
        assert len(asset.content) > 1000
        kind = "css" if url.endswith(".css") else "javascript"
        assert kind in asset.headers["content-type"]


def _examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every example of the document, with the schema that it is an example of."""
    if isinstance(node, list):
        for child in node:
            yield from _examples(child)
    elif isinstance(node, dict):
        if "schema" in node:
            for example in node.get("examples", {}).values():
                yield node["schema"], example["value"]
        elif "type" in node and isinstance(node.get("examples"), list):
            for value in node["examples"]:
                yield node, value
        for child in node.values():
            yield from _examples(child)


def test_planted_an_example_against_its_schema_would_be_found() -> None:
    schema = {"type": "object", "required": ["last_used_at"]}
    node = json.loads(
        json.dumps({"content": {"schema": schema, "examples": {"one": {"value": {}}}}})
    )
    ((found, value),) = _examples(node)
    assert not Draft202012Validator(found).is_valid(value)


def bare_strings(node: Any, name: str = "") -> Iterator[str]:
    """The names of all strings of which nothing is said but that they are strings."""
    if isinstance(node, list):
        for child in node:
            yield from bare_strings(child, name)
    elif isinstance(node, dict):
        types = node.get("type")
        is_string = types == "string" or (isinstance(types, list) and "string" in types)
        if is_string and not node.keys() & {"enum", "const", "format", "pattern"}:
            yield name
        for key, child in node.items():
            if key == "properties":
                for property_, schema in child.items():
                    yield from bare_strings(schema, property_)
            elif key == "content":
                # A stream of lines is no string of JSON.
                yield from bare_strings(
                    [
                        child[kind]
                        for kind in child
                        if kind.endswith(("/json", "+json", "form-urlencoded"))
                    ]
                )
            elif key not in {"examples", "example", "enum"}:
                yield from bare_strings(child, str(node.get("name", name)))


def test_of_every_string_it_is_said_what_it_may_be(document: dict[str, Any]) -> None:
    """A18: an enumeration, an instant, a UUID; or it is one of those above."""
    free = {name for names in FREE.values() for name in names}
    assert set(bare_strings(document)) == free


def test_planted_a_bare_string_would_be_found() -> None:
    loose = {"type": "string"}
    optional = {"oneOf": [{"type": "string"}, {"type": "null"}]}
    schema = {
        "properties": {
            "state": loose,
            "ends_at": optional,
            "kinds": {"type": "array", "items": loose},
        }
    }
    query = [{"name": "order", "in": "query", "schema": optional}]
    body = {"content": {"application/json": {"schema": {"type": ["string", "null"]}}}}
    assert list(bare_strings([schema, query, body])) == ["state", "ends_at", "kinds", "order", ""]
    exact = {"type": "string", "format": "date-time"}
    assert list(bare_strings({"properties": {"ends_at": exact}, "examples": [schema]})) == []


def test_the_words_of_an_enumeration_are_those_that_there_are(document: dict[str, Any]) -> None:
    def words(schema: str, name: str) -> set[str]:
        found = document["components"]["schemas"][schema]["properties"][name]
        return set(found.get("enum") or found["oneOf"][0]["enum"])

    assert words("AuditEvent", "kind") == words("CloudEvent", "type") == KINDS
    assert words("AuditEvent", "outcome") == {outcome_of(kind) for kind in KINDS}
    assert words("AuditEvent", "door") == {
        *("scim", "nginx", "forward", "envoy"),
        *("verify", "introspect", "revoke", "api", "leak-report"),
    }
    assert words("Verified", "reason") == {
        *("malformed", "unknown", "revoked", "suspended", "expired", "network"),
    }
    assert words("ProjectionStatus", "state") == words("ProjectionHealth", "state")
    for _, parameter in _parameters(document):
        if parameter["name"] == "kind":
            assert set(parameter["schema"]["items"]["enum"]) == KINDS


def test_no_parameter_is_null(document: dict[str, Any]) -> None:
    """What is left out is not there: `null` would be four letters."""
    found = [parameter for _, parameter in _parameters(document)]
    assert len(found) > 80
    for parameter in found:
        schema = parameter["schema"]
        assert schema.keys().isdisjoint({"oneOf", "anyOf"}), parameter
        assert schema.get("type") in {"string", "integer", "boolean", "array", None}, parameter
        assert None not in schema.get("enum", ()), parameter


def test_there_is_no_choice_of_one(document: dict[str, Any]) -> None:
    choices = [*_under("oneOf", document)]
    assert len(choices) > 30
    assert min(map(len, choices)) == 2


def test_every_tag_is_described(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    described = [tag["name"] for tag in document["tags"] if tag["description"]]
    assert sorted(described) == sorted(
        {tag for operation in operations.values() for tag in operation["tags"]}
    )


def test_the_bounds_of_whole_numbers_are_whole_and_all_there(document: dict[str, Any]) -> None:
    bounds = [*_under("minimum", document), *_under("maximum", document)]
    assert len(bounds) > 20
    assert {type(bound) for bound in bounds} == {int}
    assert POSITION_MAX in bounds
    policy = document["components"]["schemas"]["PolicyDocument"]["properties"]
    assert policy["max_live_tokens"]["oneOf"][0]["minimum"] == 0


def _under(key: str, node: Any) -> Iterator[Any]:
    """Everything that stands under a key."""
    if isinstance(node, list):
        for child in node:
            yield from _under(key, child)
    elif isinstance(node, dict):
        if key in node:
            yield node[key]
        for child in node.values():
            yield from _under(key, child)


def test_what_is_shown_as_an_example_of_a_request_is_taken(
    service: RunningService, document: dict[str, Any]
) -> None:
    """On any day: an end that has passed is refused."""
    taken = set()
    for path, method, operation in _operations(document):
        for kind, body in operation.get("requestBody", {}).get("content", {}).items():
            for example in body["schema"].get("examples", []) if kind.endswith("/json") else []:
                url = path.format(token_id=create(service, service.api_token())["id"], name="usage")
                answer = service.client.request(method, url, auth=service.api_token(), json=example)
                assert answer.status_code in {200, 201}, (method, path, answer.text)
                taken.add(operation["operationId"])
    assert taken >= {
        *("createScimToken", "changeScimToken", "createApiToken"),
        *("revokeScimTokens", "reportLeaks"),
    }


@pytest.mark.parametrize("sent", [b"", b" \r\n"])
@pytest.mark.parametrize("fields", [{}, {"Content-Type": "application/json"}])
def test_a_body_is_left_out_where_the_document_says_that_it_may_be(
    service: RunningService,
    admin: Caller,
    document: dict[str, Any],
    fields: dict[str, str],
    sent: bytes,
) -> None:
    """A PUT of nothing is none of a policy without rules."""
    before = service.query("SELECT count(*) FROM ledger.events WHERE topic LIKE '%%policy%%'")
    seen = set()
    for path, method, operation in _operations(document):
        if "requestBody" in operation:
            url = path.format(token_id=uuid4(), team_id=uuid4())
            answer = service.client.request(
                method, url, auth=admin, content=sent, headers={"Idempotency-Key": url, **fields}
            )
            is_required = operation["requestBody"].get("required", False)
            assert (answer.status_code in {400, 415}) == is_required, (path, answer.text)
            seen.add(is_required)
    assert seen == {True, False}
    assert (
        service.query("SELECT count(*) FROM ledger.events WHERE topic LIKE '%%policy%%'") == before
    )


def test_every_refusal_is_documented_as_a_problem(operations: dict[str, dict[str, Any]]) -> None:
    """A18: also where the framework would add a shape of its own."""
    for name, operation in operations.items():
        refusals = {
            status: found for status, found in operation["responses"].items() if status[0] in "45"
        }
        assert {"400", "414", "431", "500", "501", "503"} <= refusals.keys(), name
        assert ("401" in refusals) == (operation.get("security") != [{}]), name
        for status, refusal in refusals.items():
            more = refusal["content"].keys() - PROBLEM.keys()
            assert refusal["content"].items() >= PROBLEM.items(), (name, status)
            assert not more or (more == {"application/json"} and (name, status) in OTHER_BODIES), (
                name
            )


def test_each_operation_answers_what_is_documented(
    service: RunningService, document: dict[str, Any], admin: Caller
) -> None:
    """A18: good, without a token, with a parameter that is not known,
    with too much of everything.
    """
    documented = Documented(document)
    with httpx.Client(
        base_url=service.url, trust_env=False, event_hooks={"response": [documented]}
    ) as client:
        client.post("/projections/usage/rebuild", auth=admin)
        for path, method, operation in _operations(document):
            token = create(service, admin)
            is_api_token = path.startswith("/api-token")
            token_id = service.api_token().id if is_api_token else token["id"]
            url = path.format(token_id=token_id, team_id=token["team_id"], name="usage")
            sent = _sent(operation, token)
            client.request(method, url, auth=admin, **sent)
            client.request(method, url, **sent)
            client.request(method, url, auth=admin, params={"unheard-of": "1"}, **sent)
            client.request(method, url, headers={"Host": "a b"}, **sent)
            client.request(method, f"{url}?{'x' * 9000}", **sent)
            client.request(method, url, headers={"X-Much": "x" * 20_000}, **sent)
            answered = {
                status for name, status in documented.seen if name == operation["operationId"]
            }
            assert answered >= {400, 414, 431}, operation["operationId"]
            assert answered & {200, 201, 202, 409}, operation["operationId"]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _parameters(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for _, _, operation in _operations(document):
        for parameter in operation.get("parameters", []):
            yield operation["operationId"], parameter


def _sent(operation: dict[str, Any], token: dict[str, Any]) -> dict[str, Any]:
    """A good body of an operation."""
    if "requestBody" not in operation:
        return {}
    if "application/x-www-form-urlencoded" in operation["requestBody"]["content"]:
        return {"data": {"token": token["token"]}}
    bodies: dict[str, Any] = {
        "createScimToken": {"team_id": token["team_id"], "name": "Okta"},
        "verifyScimToken": {"token": token["token"]},
        "createApiToken": {"user_id": str(uuid4()), "permissions": ["scim_tokens:read"]},
        "reportLeaks": [{"token": token["token"]}],
        "setScimTokenNetworks": {"networks": ["192.0.2.0/24"]},
        "revokeScimTokens": {"where": {"ids": [token["id"]]}, "reason": "nobody used it"},
    }
    return {"json": bodies.get(operation["operationId"], {})}
