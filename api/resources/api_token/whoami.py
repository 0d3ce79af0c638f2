"""`GET /whoami`: what the API token of a call may do."""

from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example

from api.admission import requires
from api.http.json_body import StrictRequest
from api.http.problems import documented
from api.resources.api_token.documents import WHOAMI_EXAMPLE, WhoAmI, who


@get(
    "/whoami",
    operation_id="whoami",
    opt=requires(None),
    tags=["API tokens"],
    summary="Tell the caller about its own API token",
    responses={
        200: ResponseSpec(
            WhoAmI, description="The caller's.", examples=[Example(value=WHOAMI_EXAMPLE)]
        ),
        **documented(400, 401, 503),
    },
)
async def whoami(request: StrictRequest) -> WhoAmI:
    """Whose it is, what it allows, for which teams, and when it ends. Any good one may ask."""
    return who(request.user.api_token)
