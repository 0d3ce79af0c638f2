"""`POST /leak-report/github`: an endpoint of GitHub's secret scanning partner programme.

Whoever calls is known by the signature of the body; there is no API token. Source: docs.github.com,
"Secret scanning partner program".
"""

from hashlib import sha256
from typing import Annotated, Final

import msgspec
from litestar import post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example

from api.admission import FOR_ANYONE
from api.doors.decide import user_agent_of
from api.errors import NoGoodToken
from api.http.json_body import READS_BODY, StrictRequest
from api.http.problems import documented
from api.resources.leaks.foreign_body import read_list
from api.resources.leaks.report import LeakedSecret, outcomes_of
from api.resources.leaks.signature import Signatures
from api.service import InjectedService
from domain.authority import SignedReport
from domain.leaks.report import REPORTS_MAX
from projections.described import one_of

PATH: Final = "/leak-report/github"
KEY_ID: Final = "github-public-key-identifier"
SIGNATURE: Final = "github-public-key-signature"
NOT_SIGNED: Final = "The signature is not one of GitHub's for this body."


class GithubMatch(msgspec.Struct, frozen=True):
    """A match of our pattern. type: that the pattern is registered under."""

    token: str
    type: str
    url: str | None = None
    source: str | None = None


class Feedback(msgspec.Struct, frozen=True):
    """Whether a match was a secret of ours. token_hash: SHA-256 of it, 64 hex digits."""

    token_hash: Annotated[str, msgspec.Meta(extra_json_schema={"format": "sha256"})]
    token_type: str
    label: Annotated[str, one_of("true_positive", "false_positive")]


def github_reports(signatures: Signatures) -> HTTPRouteHandler:
    """The route, for deployments that take part. signatures: of the programme."""

    @post(
        PATH,
        operation_id="reportLeaksFromGithub",
        opt=FOR_ANYONE | READS_BODY,
        summary="Take reports of GitHub's secret scanning partner programme",
        tags=["Leaks"],
        status_code=200,
        security=[{}],
        responses={
            200: ResponseSpec(
                list[Feedback],
                generate_examples=False,
                description="Which of them were secrets of this ledger.",
                examples=[Example(value=[Feedback("0" * 64, "acme_scim_token", "true_positive")])],
            ),
            **documented(400, 401, 413, 415, 429, 503),
        },
    )
    async def report(request: StrictRequest, service: InjectedService) -> list[Feedback]:
        """The headers Github-Public-Key-Identifier and -Signature sign the body as it came."""
        source = service.doors.client_addresses.address(request.scope)
        service.doors.throttle_source(source, "leak-report")
        body = await request.body()
        key_id, signature = (request.headers.get(name, "") for name in (KEY_ID, SIGNATURE))
        if not signatures.is_good(body, key_id=key_id, signature=signature):
            raise NoGoodToken(NOT_SIGNED, was_presented=True)
        by = SignedReport(source, user_agent_of(request.scope))
        matches = read_list(body, GithubMatch)
        feedback: list[Feedback] = []
        for start in range(0, len(matches), REPORTS_MAX):
            part = matches[start : start + REPORTS_MAX]
            found = [
                LeakedSecret(each.token, each.url or None, f"github {each.source or ''}".rstrip())
                for each in part
            ]
            outcomes = await outcomes_of(service, found, by=by, teams=None)
            feedback += [
                _feedback(match, outcome.state)
                for match, outcome in zip(part, outcomes, strict=True)
            ]
        return feedback

    return report


def _feedback(match: GithubMatch, state: str) -> Feedback:
    return Feedback(
        sha256(match.token.encode()).hexdigest(),
        match.type,
        "false_positive" if state in {"unknown", "malformed"} else "true_positive",
    )
