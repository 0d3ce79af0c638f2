"""D6: a command does what the request for the same does: to the token, to its secrets,
and in the trail.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest

from domain.api_token.permissions import Permission
from tests.api.cli.test_commands import told
from tests.api.cli.test_parity import EVERYWHERE, ROUTES, VERBS, flags_of
from tests.api.expected import INSTANT, use
from tests.api.trail import audit
from tests.conftest import new_database, now
from tests.presenting import UNLIMITED
from tests.service import Caller, RunningService, running_service
from tests.turns import by_turns

TEAM, OTHER, USER = (str(UUID(int=number)) for number in (11, 12, 13))
THEIRS, OURS = (str(UUID(int=number)) for number in (21, 22))
"""Two teams: the policy of one is set over HTTP, that of the other at the command line."""
END: Final = "2999-01-01T00:00:00.000Z"
IN_30_DAYS: Final = (now() + timedelta(days=30)).isoformat()
HOUR: Final = timedelta(hours=1)


class Write(msgspec.Struct, frozen=True):
    """A command with its flags, and the body of the request for the same.

    before: what is done to the token first, over HTTP.
    """

    verb: str
    flags: str = ""
    body: Mapping[str, Any] = {}
    before: str = ""


WHY: Final = {"reason": "agreed"}
NEW: Final = {"team_id": TEAM, "name": "Okta"}
HOLDER: Final = {"user_id": USER, "permissions": [*Permission]}
"""A request names every permission, which a command gives where none is named."""
WRITES: Final = [
    Write(
        "token create",
        f"--team {TEAM} --name Okta --expires-at {END} --reason agreed",
        NEW | WHY | {"expires_at": END},
    ),
    Write("token change", "--name Entra --reason agreed", {"name": "Entra"} | WHY),
    Write("token change", f"--expires-at {END}", {"expires_at": END}),
    Write("token change", "--never-expires", {"expires_at": None}),
    Write("token rotate"),
    Write(
        "token rotate",
        "--overlap-seconds 7200 --reason agreed",
        {"overlap_seconds": 7200} | WHY,
    ),
    Write("token complete-rotation", "--reason agreed", WHY, before="token rotate"),
    Write("token cancel-rotation", "--reason agreed", WHY, before="token rotate"),
    Write("token suspend", "--reason agreed", WHY),
    Write("token resume", "--reason agreed", WHY, before="token suspend"),
    Write(
        "token allow-networks",
        "192.0.2.0/24 2001:db8::1 --reason agreed",
        {"networks": ["192.0.2.0/24", "2001:db8::1"]} | WHY,
    ),
    Write("token allow-any-network", "--reason agreed", WHY, before="token allow-networks"),
    Write("token revoke", "--reason agreed", WHY),
    Write(
        "token setup-link",
        "--base-url https://ledger.example.com --reason agreed",
        WHY,
    ),
    Write("token end-setup-link", "--reason agreed", WHY, before="token setup-link"),
    Write(
        "policy set",
        f"--team {OURS} --max-lifetime-days 900 --expiry-required --max-live-tokens 7",
        {"max_lifetime_days": 900, "expiry_required": True, "max_live_tokens": 7},
    ),
    Write("api-token create", f"--user {USER}", HOLDER),
    Write(
        "api-token create",
        f"--user {USER} --team {TEAM} --team {OTHER} --permission audit:read "
        "--expires-in-days 30 --reason agreed",
        HOLDER
        | {"teams": [TEAM, OTHER], "permissions": ["audit:read"], "expires_at": IN_30_DAYS}
        | WHY,
    ),
    Write("api-token create", f"--user {USER} --never-expires", HOLDER | {"expires_at": None}),
    Write("api-token rotate"),
    Write(
        "api-token rotate",
        "--overlap-seconds 7200 --reason agreed",
        {"overlap_seconds": 7200} | WHY,
    ),
    Write("api-token revoke", "--reason agreed", WHY),
]
BEFORE: Final = {write.verb: write for write in WRITES if write.verb == "token allow-networks"}
"""Of what is done first, that which says nothing without its body."""
ELSEWHERE: Final = {
    "token report-leak": "tests/api/leaks",
    "token revoke-many": "test_revocation.py",
    "token allow-networks NETWORK": "as the words of its row, which have no name",
    "token allow-networks --dry-run": "test_networks.py",
    "token revoke --if-unused-since": "test_revocation.py",
    "projections rebuild": "test_projections.py",
    "projections retry": "test_projections.py",
}
ROUTE_OF: Final = {
    verb: ROUTES[operation]
    for operation, verb in VERBS.items()
    if not ROUTES[operation].startswith("GET ")
}
OF_ONE: Final = {"id", "token_id", "use_id", "position"}
"""Never the same of two tokens."""
OF_A_CALL: Final = {"api_token_id", "operator", "source", "user_agent"}
"""What tells a command from a request: `tests/api/promises/test_who_did_what.py`."""


@pytest.fixture(scope="module")
def service(server: str) -> Iterator[RunningService]:
    with (
        new_database(server) as database,
        running_service(database, environment=UNLIMITED) as service,
    ):
        yield service


@pytest.fixture(scope="module")
def admin(service: RunningService) -> Caller:
    return service.api_token()


@pytest.mark.parametrize("write", by_turns(WRITES, one_of=4), ids=[write.verb for write in WRITES])
def test_a_command_does_what_the_request_does(
    service: RunningService, admin: Caller, write: Write
) -> None:
    began, found = now(), []
    for do in (over_http, at_the_command_line):
        first = over_http(service, admin, made_for(write), "")
        if write.before:
            over_http(service, admin, BEFORE.get(write.before, Write(write.before)), first["id"])
        answer = do(service, admin, write, first["id"])
        id_ = answer["id"] if write.verb.endswith("create") else first["id"]
        if write.verb == "policy set":
            id_ = THEIRS if do is over_http else OURS
        lets_in = [is_let_in(service, token) for token in (first, answer) if "token" in token]
        found.append((lets_in, known(service, admin, write.verb, id_, began=began)))
    assert found[0] == found[1]


def test_every_flag_of_every_such_command_is_given() -> None:
    """A new one needs a row here, or the place where it is tested."""
    given = {(write.verb, word) for write in WRITES for word in write.flags.split()}
    left = {
        f"{verb} {flag}"
        for verb in ROUTE_OF.keys() - ELSEWHERE.keys()
        for flag in flags_of(verb) - EVERYWHERE - {"--user"}
        if (verb, flag) not in given
    }
    assert left <= ELSEWHERE.keys()


def made_for(write: Write) -> Write:
    """What makes a token for it."""
    is_of_an_api_token = write.verb.startswith("api-token")
    verb, body = ("api-token create", HOLDER) if is_of_an_api_token else ("token create", NEW)
    return Write(verb, body=body)


def over_http(service: RunningService, admin: Caller, write: Write, token_id: str) -> Any:
    method, path = ROUTE_OF[write.verb].split()
    path = path.format(token_id=token_id, team_id=THEIRS)
    if method == "DELETE":
        answer = service.client.request(method, path, auth=admin, params=dict(write.body))
    else:
        answer = service.client.request(method, path, auth=admin, json=write.body)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else {}


def at_the_command_line(service: RunningService, admin: Caller, write: Write, token_id: str) -> Any:
    """As a request, on behalf of the same user."""
    place = [token_id] if "TOKEN-ID" in flags_of(write.verb) else []
    words = [*write.verb.split(), *place, *write.flags.split()]
    if "--user" in flags_of(write.verb) and "--user" not in words:
        words += ["--user", str(admin.user_id)]
    return told(service.database.app, *words)


def is_let_in(service: RunningService, token: Mapping[str, Any]) -> bool:
    """Whether the secret is good that was shown of a token."""
    secret = token["token"]
    if secret.startswith("scim_"):
        return use(service, secret).status_code == 501
    answer = service.client.get("/whoami", headers={"Authorization": f"Bearer {secret}"})
    return answer.status_code == 200


def known(
    service: RunningService, admin: Caller, verb: str, id_: str, *, began: datetime
) -> list[Any]:
    """What is told of a token, or of a team's policy, but for what is never the same of two.

    Instants are told in hours from the beginning of the test.
    """
    what, by = {
        "token": ("scim-token", "token_id"),
        "api-token": ("api-token", "token_id"),
        "policy": ("policy", "team_id"),
    }[verb.split(maxsplit=1)[0]]
    answers = [service.client.get(f"/{what}/{id_}", auth=admin)]
    if what == "scim-token":
        answers += [
            service.client.get(f"/{what}/{id_}/{part}", auth=admin)
            for part in ("secrets", "setup-link", "networks")
        ]
    told_ = [answer.json() if answer.is_success else answer.status_code for answer in answers]
    rows = audit(service, admin, order="oldest", **{by: id_})
    mine = [row for row in rows if not row["kind"].endswith(".used")]
    if what == "api-token":
        mine = [row | {"user_id": None} for row in mine]  # a command has none to name
    return [alike(each, began) for each in (*told_, *mine)]


def alike(told_: Any, began: datetime) -> Any:
    if isinstance(told_, list):
        return [alike(each, began) for each in told_]
    if isinstance(told_, dict):
        left = told_.keys() - OF_ONE - OF_A_CALL
        return {name: alike(told_[name], began) for name in sorted(left)}
    if not isinstance(told_, str):
        return told_
    text = re.sub(r"\b[0-9a-f]{8}\b", "-", told_.replace(OURS, THEIRS))
    return INSTANT.sub(lambda at: f"{(datetime.fromisoformat(at[0]) - began) / HOUR:.0f} h", text)
