"""SCIM messages: errors (RFC 7644 §3.12) and the discovery documents (RFC 7643 §5 to §7)."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

ROOT: Final = "/scim/v2"
GATEWAYS: Final = "/gateway"
"""What gateways are told there goes on to a client that speaks SCIM."""
MEDIA_TYPE: Final = "application/scim+json"
ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
LIST_RESPONSE: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
CORE: Final = "urn:ietf:params:scim:schemas:core:2.0"


class ScimError(msgspec.Struct, frozen=True):
    """RFC 7644 §3.12. status: the HTTP status as a string."""

    schemas: Sequence[str]
    status: str
    detail: str


@lru_cache(maxsize=256)
def error(status: int, detail: str) -> bytes:
    """The body of a SCIM error. Details are our own few texts."""
    return msgspec.json.encode(ScimError([ERROR], str(status), detail))


SERVICE_PROVIDER_CONFIG: Final[Mapping[str, Any]] = {
    "schemas": [f"{CORE}:ServiceProviderConfig"],
    "patch": {"supported": False},
    "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
    "filter": {"supported": False, "maxResults": 0},
    "changePassword": {"supported": False},
    "sort": {"supported": False},
    "etag": {"supported": False},
    "authenticationSchemes": [
        {
            "type": "oauthbearertoken",
            "name": "Bearer token",
            "description": "The SCIM token, in the Authorization header: "
            "Bearer, one space, the token.",
            "specUri": "https://www.rfc-editor.org/info/rfc6750",
            "primary": True,
        }
    ],
    "meta": {"resourceType": "ServiceProviderConfig", "location": "/scim/v2/ServiceProviderConfig"},
}
"""What works here without an upstream, and nothing else."""


def list_response(resources: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """RFC 7644 §3.4.2."""
    return {
        "schemas": [LIST_RESPONSE],
        "totalResults": len(resources),
        "startIndex": 1,
        "itemsPerPage": len(resources),
        "Resources": resources,
    }


DISCOVERY: Final[Mapping[str, bytes]] = {
    "ServiceProviderConfig": msgspec.json.encode(SERVICE_PROVIDER_CONFIG),
    # No resource type is served without an upstream, and so no schema.
    "ResourceTypes": msgspec.json.encode(list_response([])),
    "Schemas": msgspec.json.encode(list_response([])),
}
