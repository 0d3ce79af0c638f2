"""Complete the OpenAPI document where the handlers' types do not say enough."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import (
    Components,
    License,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Reference,
    Schema,
    SecurityScheme,
)
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from api.http.problems import MEDIA_TYPE

_PROBLEM: Final = Reference(ref="#/components/schemas/Problem")

DESCRIPTION: Final = """
Issues SCIM bearer tokens (shown once), answers whose they are, revokes with immediate effect,
and keeps a ledger of everything that happened. Errors are RFC 9457 problems.
"""


def document(*, assets: str, opt: Mapping[str, Any]) -> OpenAPIConfig:
    """How the document is made and shown. assets: path of what its page loads. opt: of its
    routes.
    """
    return OpenAPIConfig(
        title="SCIM token ledger",
        version=version("scim-ledger"),
        description=DESCRIPTION.strip(),
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        openapi_router=Router(
            "/docs", route_handlers=[], include_in_schema=False, dto=None, return_dto=None, opt=opt
        ),
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                "apiToken": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="An API token: scim-ledger api-token create.",
                )
            }
        ),
        security=[{"apiToken": []}],
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


class DescribedStrings(OpenAPISchemaPlugin):
    """Tells of a string what its `msgspec.Meta` tells: see `projections.described`."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        """Whether it is such a string."""
        return field_definition.annotation is str and bool(_told(field_definition))

    def to_openapi_schema(
        self,
        field_definition: FieldDefinition,
        schema_creator: object,  # noqa: ARG002
    ) -> Schema:
        """Its schema."""
        told = _told(field_definition)
        return Schema(
            type=OpenAPIType.STRING,
            format=told.get("format"),
            enum=told.get("enum"),
            pattern=told.get("pattern"),
        )


def _told(field_definition: FieldDefinition) -> Mapping[str, Any]:
    found = (
        meta.extra_json_schema
        for meta in field_definition.metadata
        if isinstance(meta, msgspec.Meta)
    )
    return next(filter(None, found), {})


def or_problem(operation: Operation, status: int) -> None:
    """Describe a problem beside the other body of a status;
    the framework describes one per status.
    """
    response = (operation.responses or {})[str(status)]
    assert isinstance(response, OpenAPIResponse)
    assert response.content is not None
    response.content[MEDIA_TYPE] = OpenAPIMediaType(schema=_PROBLEM)
