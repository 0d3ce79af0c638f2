"""Complete the OpenAPI document where the handlers' types do not say enough."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Reference,
    Schema,
)
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from api.http.problems import MEDIA_TYPE

_PROBLEM: Final = Reference(ref="#/components/schemas/Problem")


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
