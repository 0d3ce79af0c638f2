"""GitLab's token revocation API, as a self-managed GitLab calls it.

Its pre-shared token is an API token of ours with `leaks:report`, sent without the word Bearer.
Source: docs.gitlab.com/development/sec/token_revocation_api.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example

from api.admission import requires
from api.errors import BadRequest
from api.http.json_body import READS_BODY, StrictRequest
from api.http.problems import documented
from api.resources.api_calls import InjectedCall
from api.resources.leaks.foreign_body import read_list
from api.resources.leaks.report import LeakedSecret, outcomes_of
from api.service import InjectedService
from domain.api_token.permissions import Permission
from domain.leaks.patterns import RULE_ID
from domain.leaks.report import REPORTS_MAX

ROOT: Final = "/leak-report/gitlab"
TYPE: Final = f"gitleaks_rule_id_{RULE_ID}"
"""What a finding by our gitleaks rule is called: see `gitleaks_rule`."""


class RevocableTypes(msgspec.Struct, frozen=True):
    """The types of token that can be revoked here."""

    types: list[str]


class GitlabFinding(msgspec.Struct, frozen=True):
    """A token that GitLab found. location: the URL of the file."""

    type: str
    token: str
    location: str | None = None


@get(
    f"{ROOT}/v1/revocable_token_types",
    operation_id="listRevocableTokenTypes",
    opt=requires(Permission.LEAKS_REPORT),
    summary="Which types of token GitLab may have revoked",
    tags=["Leaks"],
    responses={
        200: ResponseSpec(
            RevocableTypes,
            description="The types.",
            examples=[Example(value=RevocableTypes([TYPE]))],
        ),
        **documented(401, 403, 503),
    },
)
async def revocable_token_types() -> RevocableTypes:
    """One: that of our gitleaks rule."""
    return RevocableTypes([TYPE])


@post(
    f"{ROOT}/v1/revoke_tokens",
    operation_id="reportLeaksFromGitlab",
    opt=requires(Permission.LEAKS_REPORT) | READS_BODY,
    summary="Take findings of GitLab's secret detection",
    tags=["Leaks"],
    status_code=204,
    responses=documented(400, 401, 403, 413, 415, 503),
)
async def revoke_tokens(
    request: StrictRequest, service: InjectedService, call: InjectedCall
) -> None:
    """204: what was found is dealt with, as `POST /leak-report` does. 400: do not try again."""
    findings = read_list(await request.body(), GitlabFinding)
    if any(each.type != TYPE for each in findings):
        raise BadRequest("A type of token is not one that can be revoked here.")
    teams = request.user.api_token.teams
    for start in range(0, len(findings), REPORTS_MAX):
        found = [
            LeakedSecret(each.token, each.location, "gitlab")
            for each in findings[start : start + REPORTS_MAX]
        ]
        await outcomes_of(service, found, by=call, teams=teams)


OPERATIONS: Final[Sequence[Any]] = (revocable_token_types, revoke_tokens)
