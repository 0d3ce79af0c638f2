"""Holds every answer of a service against the service's own OpenAPI document."""

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator


class Undocumented(AssertionError):
    """The service answered what its document does not say."""


class Documented:
    """An httpx response hook: `client.event_hooks["response"].append(Documented(document))`.

    Paths and methods that are not in the document (unknown routes, the SCIM door, 405) are not its
    business.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._components = document["components"]
        self._paths = [  # a concrete path is matched before a templated one (OpenAPI 3.1 §4.8.8.2)
            (
                re.compile(re.sub(r"\{\w+\}", "[^/]+", path)),
                {method.upper(): operation for method, operation in operations.items()},
            )
            for path, operations in sorted(
                document["paths"].items(), key=lambda item: item[0].count("{")
            )
        ]
        self.seen: set[tuple[str, int]] = set()
        """Operation ids and statuses that came by."""

    def __call__(self, response: httpx.Response) -> None:
        """Raise Undocumented unless the document says so."""
        operation = self._find(response.request)
        if operation is None:
            return
        name, status = operation["operationId"], response.status_code
        described = operation["responses"].get(str(status))
        if described is None:
            raise Undocumented(f"{name} answered {status}")
        response.read()
        media_type = response.headers["content-type"]
        content = described["content"].get(media_type)
        if content is None:
            raise Undocumented(f"{name} answered {status} with {media_type}")
        body = response.text if media_type.startswith("text/plain") else response.json()
        errors = list(self.validator(content["schema"]).iter_errors(body))
        if errors:
            raise Undocumented(f"{name} answered {status} with a body that {errors[0].message}")
        self.seen.add((name, status))

    def validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        """For a schema of the document, with formats asserted."""
        return Draft202012Validator(
            {"allOf": [schema], "components": self._components},
            format_checker=Draft202012Validator.FORMAT_CHECKER,
        )

    def _find(self, request: httpx.Request) -> dict[str, Any] | None:
        for path, operations in self._paths:
            if path.fullmatch(request.url.path):
                return operations.get(request.method)
        return None
