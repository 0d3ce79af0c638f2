"""Every type of problem (RFC 9457) in one table; the page of each says what to do."""

from collections.abc import Mapping
from typing import Final, NamedTuple

ROOT: Final = "/problems"


class ProblemType(NamedTuple):
    """slug: last part of its URI reference. remedy: what whoever gets it should do."""

    slug: str
    status: int
    title: str
    remedy: str

    @property
    def uri(self) -> str:
        """Stable; also the path of its page."""
        return f"{ROOT}/{self.slug}"


_ALL: Final = (
    ProblemType(
        "bad-request",
        400,
        "Bad request",
        "The request is not what the documentation describes, or not "
        "HTTP. `detail` says what is wrong "
        "with it.",
    ),
    ProblemType(
        "validation",
        400,
        "The request is not valid",
        "`errors` names every field of the body (/name), parameter or "
        "header that breaks a rule, and "
        "what it must be. Mend all of them; nothing was changed.",
    ),
    ProblemType(
        "unauthenticated",
        401,
        "Authentication needed",
        "Send a good API token: Authorization: Bearer, one space, the token. One that is unknown, "
        "revoked or expired is refused alike. A SCIM token is for "
        "/scim/v2 only. API tokens are made "
        "with POST /api-token, and the first one with `scim-ledger api-token create`.",
    ),
    ProblemType(
        "permission-denied",
        403,
        "Permission denied",
        "The API token is good and lacks the permission that `detail` names. Use one that has it.",
    ),
    ProblemType(
        "not-found",
        404,
        "Not found",
        "There is nothing at this address that the API token may see: "
        "it never was, it was revoked, or "
        "it is of a team that the token is not for.",
    ),
    ProblemType(
        "method-not-allowed",
        405,
        "Method not allowed",
        "The header Allow lists what this address takes.",
    ),
    ProblemType(
        "not-acceptable",
        406,
        "Not acceptable",
        "None of the formats that Accept asks for can be given. `detail` lists those that can.",
    ),
    ProblemType(
        "secret-already-shown",
        409,
        "The secret was already shown",
        "The request with this Idempotency-Key was carried out, and "
        "its answer had the secret. If that "
        "answer was lost, revoke or rotate the token that `token_id` "
        "names; the secret is kept nowhere.",
    ),
    ProblemType(
        "rotation-underway",
        409,
        "A rotation is under way",
        "The token has two good secrets. Complete or cancel the rotation, wait for the end of the "
        "older one, or rotate with overlap_seconds 0.",
    ),
    ProblemType(
        "rotation-finished",
        409,
        "No rotation is under way",
        "The token has one good secret, or none: its rotation has finished, or there was none. "
        "GET /scim-token/{id}/secrets tells which ended when.",
    ),
    ProblemType(
        "last-manager",
        409,
        "The last manager",
        "Without this API token nobody could manage API tokens over HTTP where it can. Create "
        "another one with api_tokens:manage first (POST /api-token), with the same teams or for "
        "all; or revoke it with `scim-ledger api-token revoke`.",
    ),
    ProblemType(
        "already-underway",
        409,
        "Already under way",
        "What is asked for is being done. GET the same address for how far it is.",
    ),
    ProblemType(
        "used-since",
        412,
        "Used since then",
        "The token was used at or after the instant in If-Unused-Since, for the last time at "
        "`last_used_at`: somebody needs it, and it was not revoked. Find out who "
        "(GET /scim-token/{id}/events), or revoke it without that header.",
    ),
    ProblemType(
        "too-large",
        413,
        "Body too large",
        "No request needs more than 64 KiB.",
    ),
    ProblemType(
        "uri-too-long",
        414,
        "URI too long",
        "No request needs a target of more than 8 KiB.",
    ),
    ProblemType(
        "unsupported-media-type",
        415,
        "Unsupported media type",
        "Send the body as `detail` says, with that Content-Type and without a Content-Encoding.",
    ),
    ProblemType(
        "idempotency-key-reused",
        422,
        "Idempotency key reused",
        "An Idempotency-Key stands for one request. Use a new one for another.",
    ),
    ProblemType(
        "policy",
        422,
        "A policy does not allow this",
        "`errors` names every rule that the token would break: those of its team and those for all "
        "(/policy). Ask for another end, revoke a token that is not needed, or have the policy "
        "changed. Nothing was changed.",
    ),
    ProblemType(
        "too-many-requests",
        429,
        "Too many requests",
        "Wait for as many seconds as Retry-After says, then repeat the request.",
    ),
    ProblemType(
        "header-fields-too-large",
        431,
        "Header fields too large",
        "No request needs more than 16 KiB or 100 header fields.",
    ),
    ProblemType(
        "internal",
        500,
        "Internal error",
        "A fault of ours. Tell whoever runs the service the id in "
        "`instance`: it finds the cause in the log.",
    ),
    ProblemType(
        "not-implemented",
        501,
        "Not implemented",
        "The request needs something that this server does not do. `detail` says what.",
    ),
    ProblemType(
        "unavailable",
        503,
        "Temporarily unavailable",
        "The ledger cannot answer right now; nothing was lost. Repeat the request, with the same "
        "Idempotency-Key if it has one, after as many seconds as "
        "Retry-After says. Without that header, "
        "repeating does not help until whoever runs the service has acted.",
    ),
    ProblemType(
        "too-many-connections",
        503,
        "Too many connections",
        "The server has all the connections that it can serve. Connect "
        "again later, and keep connections "
        "open.",
    ),
)
PROBLEM_TYPES: Final[Mapping[str, ProblemType]] = {each.slug: each for each in _ALL}
