"""Show a secret once: the answer to the command that made it, and no other."""

from uuid import UUID

from litestar.response import Template

from api.console.layout import page
from api.http.json_body import StrictRequest
from api.service import Service
from domain.secret import Secret


def reveal(
    request: StrictRequest,
    service: Service,
    token_id: UUID,
    secret: Secret | None,
    *,
    name: str = "",
    is_new: bool = True,
) -> Template:
    """The page of a new secret; without one, for a form that was sent before, that it was shown."""
    if secret is None:
        return page(
            request, "shown_once.html", title="Shown already", status=409, token_id=token_id
        )
    return page(
        request,
        "reveal.html",
        title="The new secret",
        token_id=token_id,
        secret=secret.reveal(),
        name=name,
        is_new=is_new,
        base_url=base_url(request, service),
    )


def base_url(request: StrictRequest, service: Service) -> str | None:
    """What an identity provider is told beside the secret; None where only a gateway knows it.

    Our own /scim/v2 is told where a SCIM service stands behind it: elsewhere it is a 501.
    """
    if service.scim_base_url is not None or not service.has_upstream:
        return service.scim_base_url
    return f"{service.doors.client_addresses.base_url(request.scope)}/scim/v2"
