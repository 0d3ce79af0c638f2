"""The extension `/scim-token/{id}/setup-link`: hand a token over to whoever connects it."""

from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Controller, Response, delete, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import FromPath, JSONBody
from litestar.types import HTTPScope

from api.admission import requires
from api.errors import BadRequest
from api.http.json_body import OptionalBody, StrictRequest
from api.http.problems import documented
from api.resources.api_calls import InjectedCall, InjectedKey
from api.resources.scim_token.bodies import EXAMPLE, Reasoned, ReasonInQuery
from api.service import InjectedService, Service
from domain.api_token.permissions import Permission
from domain.setup_link import SetupCode
from projections.described import Instant, SecretDigits, rfc3339

ROOT: Final = "/console/setup"


class CreatedSetupLink(msgspec.Struct, frozen=True):
    """A link that is shown in this answer only.

    id: what it is called in the trail. ends_at: from when on it opens nothing.
    """

    id: SecretDigits
    url: Annotated[str, msgspec.Meta(description="Give it to whoever connects the provider.")]
    ends_at: Instant


class EndedSetupLink(msgspec.Struct, frozen=True):
    """The token that no link opens now."""

    id: UUID


def path_of(token_id: UUID, code: SetupCode) -> str:
    """Where a link leads."""
    return f"{ROOT}/{token_id}/{code.reveal()}"


def url_of(scope: HTTPScope, service: Service, token_id: UUID, code: SetupCode) -> str:
    """The whole address, as the caller reached us."""
    return service.doors.client_addresses.base_url(scope) + path_of(token_id, code)


_NO_PAGE: Final = (
    "The page that a setup link leads to is one of the console, which is off here: "
    "SCIM_LEDGER_CONSOLE=true turns it on."
)
_EXAMPLE: Final = CreatedSetupLink(
    id="5e1f09ab",
    url=f"https://ledger.example.com{ROOT}/{EXAMPLE.id}/<43 letters and digits, shown once>",
    ends_at="2021-08-11T10:00:00.000Z",
)


class SetupLinkController(Controller):
    """`/scim-token/{id}/setup-link`."""

    path = "/scim-token"
    tags = ("SCIM tokens",)
    opt = requires(Permission.SCIM_TOKENS_WRITE)

    @post(
        "/{token_id:uuid}/setup-link",
        operation_id="createSetupLink",
        operation_class=OptionalBody,
        summary="Make a link that hands a SCIM token over (extension)",
        status_code=201,
        responses={
            201: ResponseSpec(
                CreatedSetupLink,
                description="The link is in this answer only.",
                examples=[Example(value=_EXAMPLE)],
            ),
            **documented(400, 401, 403, 404, 409, 413, 415, 422, 503),
        },
    )
    async def create(  # noqa: PLR0917 - each of them injected
        self,
        request: StrictRequest,
        service: InjectedService,
        call: InjectedCall,
        key: InjectedKey,
        token_id: FromPath[UUID],
        data: JSONBody[Reasoned],
    ) -> Response[CreatedSetupLink]:
        """For 24 hours its holder can have a new secret made and shown, once, and see whether it
        was used. A link of this token before this one ends.

        A secret that nobody has used yet ends when the new one is shown; one that is in use goes on
        as in a rotation. 409 while a rotation is under way, and where the console is off.
        """
        if not service.has_console:
            raise BadRequest(_NO_PAGE, status=409)
        token, code = await service.ledger.create_setup_link(
            token_id, by=call, key=key, reason=data.reason
        )
        assert token.setup_link is not None
        link = token.setup_link
        url = url_of(request.scope, service, token_id, code)
        return Response(CreatedSetupLink(link.id, url, rfc3339(link.ends_at)))

    @delete(
        "/{token_id:uuid}/setup-link",
        operation_id="endSetupLink",
        summary="End the link that hands a SCIM token over (extension)",
        status_code=200,
        responses={
            200: ResponseSpec(
                EndedSetupLink,
                description="No link opens this token, from now on.",
                examples=[Example(value=EndedSetupLink(EXAMPLE.id))],
            ),
            **documented(400, 401, 403, 404, 413, 415, 503),
        },
    )
    async def end(
        self,
        service: InjectedService,
        call: InjectedCall,
        token_id: FromPath[UUID],
        reason: ReasonInQuery = None,
    ) -> EndedSetupLink:
        """What it has shown stays good. Repeated, it answers the same and records nothing new."""
        await service.ledger.end_setup_link(token_id, by=call, reason=reason)
        return EndedSetupLink(token_id)
