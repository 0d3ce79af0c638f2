"""The OpenAPI document says what the service does, and its page needs nothing from elsewhere."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from domain.api_token import Permission
from domain.secret import SECRET_PATTERN
from tests.api.documented import Documented, Undocumented
from tests.api.expected import create, use
from tests.service import Caller, RunningService

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


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_operation_has_an_id_of_its_own(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    assert len(operations) == sum(len(path) for path in document["paths"].values())
    assert {
        *("createScimToken", "listScimTokens", "getScimToken", "deleteScimToken", "rotateScimToken"),
        *("liveness", "readiness"),
    } <= operations.keys()
    for operation in operations.values():
        assert operation["summary"]
        assert operation["description"]


def test_every_operation_of_the_resource_has_an_example_of_its_success(
    operations: dict[str, dict[str, Any]],
) -> None:
    for name, operation in operations.items():
        if name.endswith(("ScimToken", "ScimTokens")):
            (success,) = (answer for status, answer in operation["responses"].items() if status[0] == "2")
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
            is_public = operation.get("security", document["security"]) != document["security"]
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
        powerless, foreigner = service.api_token(Permission.AUDIT_READ), service.api_token(teams=[uuid4()])
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
        client.delete(path, auth=admin)
        client.get("/healthz")
        client.get("/readyz")
    assert documented.seen >= {
        *(("createScimToken", status) for status in (201, 400, 401, 403, 404, 409, 413, 415, 422)),
        *(("listScimTokens", status) for status in (200, 400, 401, 403)),
        *(("getScimToken", status) for status in (200, 400, 401, 403, 404)),
        *(("deleteScimToken", status) for status in (200, 400, 401, 403, 404)),
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
    loaded = re.findall(r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=["']([^"']+)["']""", answer.text)
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
    node = json.loads(json.dumps({"content": {"schema": schema, "examples": {"one": {"value": {}}}}}))
    ((found, value),) = _examples(node)
    assert not Draft202012Validator(found).is_valid(value)
