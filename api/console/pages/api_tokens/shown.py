"""Show the secret of an API token, in the answer to the command that made it and no other."""

from uuid import UUID

from litestar.response import Template

from api.console.layout import page
from api.http.json_body import StrictRequest
from domain.secret import Secret


def shown(request: StrictRequest, token_id: UUID, secret: Secret | None) -> Template:
    """The page of a new secret; without one, for a form that was sent before, that it was shown."""
    return page(
        request,
        "api_secret.html",
        title="Shown already" if secret is None else "The new secret",
        status=409 if secret is None else 200,
        token_id=token_id,
        secret=None if secret is None else secret.reveal(),
    )
