"""Complete the OpenAPI document where the handlers' types do not say enough."""

from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import (
    Components,
    License,
    OpenAPI,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Reference,
    Schema,
    SecurityScheme,
    Tag,
)
from litestar.params import KwargDefinition
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from api.http.problems import MEDIA_TYPE

_UNBOUNDED: Final = (None, None)
_PROBLEM: Final = Reference(ref="#/components/schemas/Problem")

BEARER: Final = "apiToken"
CLIENT: Final = "client"
"""Security schemes: the same token as a bearer's, and as the password of a client of OAuth."""

DESCRIPTION: Final = """
Issues SCIM bearer tokens (shown once), answers whose they are, revokes with immediate effect,
and keeps a ledger of everything that happened. Errors are RFC 9457 problems.
"""


TAGS: Final = (
    Tag(
        "SCIM tokens",
        "Issue, change, rotate and revoke them, one or many; hand one over by a link.",
    ),
    Tag(
        "Authentication",
        "Whether a presented token is good, and whose it is: for your own services.",
    ),
    Tag(
        "Audit trail",
        "What happened, when, by whom and from where; use over time; a feed to follow.",
    ),
    Tag("Policies", "How long tokens live at most, and how many a team may have."),
    Tag("Leaks", "Reports of secrets that were found where they do not belong."),
    Tag("API tokens", "Who may call this API, and what they may do."),
    Tag("Operations", "Health, readiness, metrics, and the views and their rebuilds."),
)
"""The groups of the document, in the order in which somebody new needs them."""


def document(*, assets: str, opt: Mapping[str, Any]) -> OpenAPIConfig:
    """How the document is made and shown. assets: path of what its page loads. opt: of its
    routes.
    """
    return _Config(
        title="SCIM token ledger",
        version=version("scim-ledger"),
        description=DESCRIPTION.strip(),
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        openapi_router=Router(
            "/docs", route_handlers=[], include_in_schema=False, dto=None, return_dto=None, opt=opt
        ),
        use_handler_docstrings=True,
        tags=[*TAGS],
        components=Components(
            security_schemes={
                BEARER: SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="An API token: scim-ledger api-token create.",
                ),
                CLIENT: SecurityScheme(
                    type="http",
                    scheme="basic",
                    description="The password is an API token; the user name is not looked at.",
                ),
            }
        ),
        security=[{BEARER: []}],
        render_plugins=[
            SwaggerRenderPlugin(
                path="/",
                js_url=f"{assets}/swagger-ui-bundle.js",
                css_url=f"{assets}/swagger-ui.css",
                standalone_preset_js_url=f"{assets}/swagger-ui-standalone-preset.js",
                favicon='<link rel="icon" href="data:,">',
            ),
            JsonRenderPlugin(path="/openapi.json"),
        ],
    )


class Described(OpenAPISchemaPlugin):
    """Tells of a value what its type tells, where the framework tells less: of a string, see
    `projections.described`; of a whole number its bounds, which are whole numbers, too.
    """

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Whether it is such a value."""
        if field_definition.annotation is int:
            return _bounds(field_definition) != _UNBOUNDED
        return field_definition.annotation is str and _told(field_definition) is not None

    def to_openapi_schema(
        self,
        field_definition: FieldDefinition,
        schema_creator: object,  # noqa: ARG002
    ) -> Schema:
        """Its schema."""
        if field_definition.annotation is int:
            least, most = _bounds(field_definition)
            return Schema(type=OpenAPIType.INTEGER, minimum=least, maximum=most)
        meta = _told(field_definition)
        assert meta is not None
        told = meta.extra_json_schema or {}
        return Schema(
            type=OpenAPIType.STRING,
            format=told.get("format"),
            enum=told.get("enum"),
            pattern=told.get("pattern"),
            min_length=meta.min_length,
            max_length=meta.max_length,
        )


def _bounds(field_definition: FieldDefinition) -> tuple[Any, Any]:
    said = (field_definition.kwarg_definition, *field_definition.metadata)
    found = (
        (each.ge, each.le) for each in said if isinstance(each, KwargDefinition | msgspec.Meta)
    )
    return next((bounds for bounds in found if bounds != _UNBOUNDED), _UNBOUNDED)


def _told(field_definition: FieldDefinition) -> msgspec.Meta | None:
    found = (meta for meta in field_definition.metadata if isinstance(meta, msgspec.Meta))
    return next((meta for meta in found if meta.extra_json_schema), None)


class _Config(OpenAPIConfig):
    def to_openapi_schema(self) -> OpenAPI:
        found = super().to_openapi_schema()
        return _Document(**{each.name: getattr(found, each.name) for each in fields(found)})


class _Document(OpenAPI):
    """A document without what stands, in our types, for a value that is left out: None of a
    parameter, which is null to JSON, and UNSET of a body's field, which leaves a choice of one.
    """

    def to_schema(self) -> dict[str, Any]:
        document = super().to_schema()
        for path in document["paths"].values():
            for operation in path.values():
                for parameter in operation.get("parameters", ()):
                    parameter["schema"] = _without_null(parameter["schema"])
        for schema in document["components"]["schemas"].values():
            for name, property_ in schema.get("properties", {}).items():
                schema["properties"][name] = _without_choice_of_one(property_)
        return document


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    match schema:
        case {"oneOf": [kind, {"type": "null"}], **rest}:
            return {**kind, **rest}
        case {"type": ["null", kind], "enum": words, **rest}:
            return {"type": kind, "enum": [word for word in words if word is not None], **rest}
        case _:
            return schema


def _without_choice_of_one(schema: dict[str, Any]) -> dict[str, Any]:
    match schema:
        case {"oneOf": [kind], **rest}:
            return {**kind, **rest}
        case _:
            return schema


def or_problem(operation: Operation, status: int) -> None:
    """Describe a problem beside the other body of a status;
    the framework describes one per status.
    """
    response = (operation.responses or {})[str(status)]
    assert isinstance(response, OpenAPIResponse)
    assert response.content is not None
    response.content[MEDIA_TYPE] = OpenAPIMediaType(schema=_PROBLEM)
