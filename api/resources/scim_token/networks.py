"""The extension `/scim-token/{id}/networks`: from which networks alone a token is good."""

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias
from uuid import UUID

import msgspec
from litestar import Controller, delete, get, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import Body, FromPath

from api.admission import requires
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.http.values import Check
from api.resources.api_calls import InjectedCall, InjectedKey
from api.resources.scim_token.bodies import EXAMPLE, Reason, ReasonInQuery
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.scim_token.networks.decide import NETWORKS_MAX, kept_networks
from domain.scim_token.token import ScimToken

NETWORK_MAX_LENGTH: Final = 64
"""The longest that is written out, an IPv4 address in IPv6 clothes with its length, has 49."""
_ASKED: Final = {"pattern": r"^[0-9A-Fa-f:.]+(%[^/]*)?(/[0-9.]+)?$"}
_KEPT: Final = {"pattern": r"^[0-9a-f:.]+/[0-9]{1,3}$"}

AskedNetwork: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=NETWORK_MAX_LENGTH, extra_json_schema=_ASKED)
]
KeptNetwork: TypeAlias = Annotated[str, msgspec.Meta(extra_json_schema=_KEPT)]


class AllowNetworks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The networks that replace those before. reason: why, for the audit trail."""

    networks: Annotated[
        list[AskedNetwork],
        msgspec.Meta(
            min_length=1,
            max_length=NETWORKS_MAX,
            description="1 to 200, in CIDR notation; an address stands for itself.",
        ),
        Check(lambda networks, _: kept_networks(networks)),
    ]
    reason: Reason | None = None


class AllowedNetworks(msgspec.Struct, frozen=True):
    """From where a token is good.

    networks: in CIDR notation, each in its canonical spelling; from anywhere where there is none.
    """

    networks: Sequence[KeptNetwork]


class UnrestrictedScimToken(msgspec.Struct, frozen=True):
    """The token that is good from anywhere now."""

    id: UUID


_ASK: Final = {"networks": ["192.0.2.0/24", "2001:db8::1"], "reason": "their provider's addresses"}
_ANSWER: Final = ResponseSpec(
    AllowedNetworks,
    description="Good from these networks alone; from anywhere where there is none.",
    examples=[Example(value=AllowedNetworks(["192.0.2.0/24", "2001:db8::1/128"]))],
)


class NetworksController(Controller):
    """`/scim-token/{id}/networks`."""

    path = "/scim-token"
    tags = ("SCIM tokens",)

    @get(
        "/{token_id:uuid}/networks",
        operation_id="getScimTokenNetworks",
        opt=requires(Permission.SCIM_TOKENS_READ),
        summary="See from which networks a SCIM token is good (extension)",
        responses={200: _ANSWER, **documented(400, 401, 403, 404, 503)},
    )
    async def read(
        self, request: StrictRequest, service: InjectedService, token_id: FromPath[UUID]
    ) -> AllowedNetworks:
        """Also of a revoked token. Foreign and missing ones are 404."""
        token = await service.ledger.scim_token(token_id)
        request.user.api_token.require_team(token.team_id)
        return _document(token)

    @put(
        "/{token_id:uuid}/networks",
        operation_id="setScimTokenNetworks",
        opt=requires(Permission.SCIM_TOKENS_WRITE),
        summary="Let a SCIM token in from certain networks alone (extension)",
        status_code=200,
        responses={200: _ANSWER, **documented(400, 401, 403, 404, 413, 415, 422, 503)},
    )
    async def replace(
        self,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        token_id: FromPath[UUID],
        data: Annotated[AllowNetworks, Body(examples=[Example(value=_ASK)])],
    ) -> AllowedNetworks:
        """These replace those before, for all of its secrets, everywhere, from now on. Repeated, it
        records nothing new.

        From elsewhere, and where a presenter's address is not known, the doors answer as for a
        revoked token; the audit trail says `network`. Whoever holds a secret may still end the
        token from anywhere. A revoked token is not changed: 404.
        """
        token = await service.ledger.allow_networks(
            token_id, data.networks, by=call, key=key, reason=data.reason
        )
        return _document(token)

    @delete(
        "/{token_id:uuid}/networks",
        operation_id="deleteScimTokenNetworks",
        opt=requires(Permission.SCIM_TOKENS_WRITE),
        summary="Let a SCIM token in from anywhere again (extension)",
        status_code=200,
        responses={
            200: ResponseSpec(
                UnrestrictedScimToken,
                description="Good from anywhere, from now on.",
                examples=[Example(value=UnrestrictedScimToken(EXAMPLE.id))],
            ),
            **documented(400, 401, 403, 404, 413, 415, 503),
        },
    )
    async def lift(
        self,
        service: InjectedService,
        call: InjectedCall,
        token_id: FromPath[UUID],
        reason: ReasonInQuery = None,
    ) -> UnrestrictedScimToken:
        """Repeated, it answers the same and records nothing new. Of a revoked token it is 404."""
        await service.ledger.allow_any_network(token_id, by=call, reason=reason)
        return UnrestrictedScimToken(token_id)


def _document(token: ScimToken) -> AllowedNetworks:
    return AllowedNetworks(token.networks)
