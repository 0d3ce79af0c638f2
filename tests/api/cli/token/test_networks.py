"""`scim-ledger token networks`, `allow-networks` and `allow-any-network`."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from domain.scim_token.events import Presentation, Used
from domain.scim_token.networks.decide import NETWORKS_MAX
from domain.secret import secret_id
from projections.token_activity.queries import PRESENTERS
from tests.api.cli.test_commands import TEAM, USER, VALUE, refused, run, told
from tests.api.expected import use
from tests.conftest import Database, new_database
from tests.domain.scenario import FIRST, T0, T1, T2, Given, created, revoked
from tests.projections.given_events import record
from tests.service import RunningService, running_service
from tests.turns import by_turns

OFFICE, CLOUD = "192.0.2.0/24", "2001:db8::/32"
LOOPBACK: Final = "127.0.0.0/8"
OKTA: Final = "Okta SCIM Client 1.0.0"
ABSENT: Final = str(uuid4())
IS_NONE: Final = "must be a network or an address, such as 192.0.2.0/24 or 2001:db8::1"
IS_EITHER: Final = (
    f"has bits beyond its length: the network would be {OFFICE}, one address goes without a length"
)
CREATE: Final = ("token", "create", "--team", TEAM, "--name", "Okta", "--user", USER)


def used_from(
    source: str | None, at: datetime = T1, *, count: int = 1, user_agent: str | None = None
) -> Given:
    presentation = Presentation(door="scim", source=source, user_agent=user_agent)
    return Used(count, at, presentation, secret_id(FIRST.value)), at


def presenter(source: str | None, **fields: Any) -> dict[str, Any]:
    """One who presented a token once, at T1."""
    once = {"uses": 1, "last_used_at": "2021-08-10T11:00:00.000Z"}
    return {"source": source, **once, "door": "scim", "user_agent": None} | fields


@pytest.fixture(scope="module")
def service(server: str) -> Iterator[RunningService]:
    with new_database(server) as database, running_service(database) as running:
        yield running


def test_a_restriction_holds_beside_a_running_service_until_it_is_lifted(
    service: RunningService,
) -> None:
    url = service.database.app
    token = told(url, *CREATE)
    allow = ("token", "allow-networks", token["id"], OFFICE)
    assert told(url, "token", "networks", token["id"]) == {"networks": [], "outside": []}
    assert use(service, token["token"]).status_code == 501

    rehearsed = told(url, *allow, "--dry-run")
    assert rehearsed["networks"] == [OFFICE]
    assert [each["source"] for each in rehearsed["outside"]] == ["127.0.0.1"]
    assert use(service, token["token"]).status_code == 501, "nothing was changed"

    assert told(url, *allow, "--reason", "only from there") == {"networks": [OFFICE]}
    assert use(service, token["token"]).status_code == 401
    # all of its uses, the last of them not a minute ago, were from elsewhere
    found = told(url, "token", "networks", token["id"])
    assert found["networks"] == [OFFICE]
    assert [(each["source"], each["uses"]) for each in found["outside"]] == [("127.0.0.1", 2)]

    assert told(url, *allow, LOOPBACK) == {"networks": [OFFICE, LOOPBACK]}
    assert use(service, token["token"]).status_code == 501
    assert told(url, "token", "networks", token["id"])["outside"] == []

    told(url, "token", "allow-networks", token["id"], OFFICE)
    lifted = told(url, "token", "allow-any-network", token["id"], "--reason", "moved")
    assert lifted == {"networks": []}
    assert use(service, token["token"]).status_code == 501
    rows = told(url, "token", "history", token["id"])
    set_ = [(row["reason"], row["note"]) for row in rows if row["kind"].endswith("networks_set")]
    assert set_ == [
        ("only from there", OFFICE),
        (None, f"{OFFICE}, {LOOPBACK}"),
        (None, OFFICE),
        ("moved", "any network"),
    ]


def test_a_rehearsal_tells_everybody_of_the_newest_uses_who_is_outside(database: Database) -> None:
    token_id = str(
        record(
            database,
            created(T0),
            used_from("198.51.100.7", T0 + timedelta(minutes=1), count=3),
            used_from("192.0.2.7", user_agent=OKTA),
            used_from("2001:db8::7"),
            used_from("2001:db9::7", user_agent=OKTA),
            used_from(None),
            used_from("198.51.100.7", count=4),
        )
    )
    before = told(database.app, "token", "history", token_id)
    line = ("token", "allow-networks", token_id)
    assert told(database.app, *line, OFFICE, CLOUD, "--dry-run") == {
        "networks": [OFFICE, CLOUD],
        "outside": [
            presenter("198.51.100.7", uses=7),
            presenter(None),
            presenter("2001:db9::7", user_agent=OKTA),
        ],
    }
    for all_ in ("0.0.0.0/0", "::/0"):
        assert told(database.app, *line, all_, "--dry-run")["networks"] == [all_]
    everywhere = told(database.app, *line, "0.0.0.0/0", "::/0", "--dry-run")
    assert everywhere["outside"] == [presenter(None)], "an unknown address is in no network"
    assert told(database.app, "token", "history", token_id) == before
    assert told(database.app, "token", "networks", token_id) == {"networks": [], "outside": []}


def test_nobody_is_passed_over_where_a_page_would_show_a_few(database: Database) -> None:
    sources = [f"198.51.100.{number}" for number in range(3 * PRESENTERS)]
    token_id = str(record(database, created(T0), *map(used_from, sources)))
    told(database.app, "token", "allow-networks", token_id, OFFICE)
    found = told(database.app, "token", "networks", token_id)
    assert [each["source"] for each in found["outside"]] == sources[::-1]


def test_for_people_a_table_comes_before_the_networks(database: Database) -> None:
    token_id = str(
        record(database, created(T0), used_from("192.0.2.7"), used_from(None, user_agent=OKTA))
    )
    told_ = run(database.app, "token", "networks", token_id)
    assert told_.stdout.splitlines() == ["networks: any", "outside: 0"]
    done = run(database.app, "token", "allow-networks", token_id, OFFICE, CLOUD)
    assert (done.exit_code, done.stdout) == (0, f"networks: {OFFICE}, {CLOUD}\n")
    header, row, *lines = run(database.app, "token", "networks", token_id).stdout.splitlines()
    assert header.split() == ["source", "uses", "last_used_at", "door", "user_agent"]
    assert row.split(maxsplit=4) == ["-", "1", "2021-08-10T11:00:00.000Z", "scim", OKTA]
    assert lines == [f"networks: {OFFICE}, {CLOUD}", "outside: 1"]
    lifted = run(database.app, "token", "allow-any-network", token_id)
    assert (lifted.exit_code, lifted.stdout) == (0, "networks: any\n")


def test_networks_are_kept_in_one_spelling_and_replace_those_before(database: Database) -> None:
    token_id = told(database.app, *CREATE)["id"]
    line = ("token", "allow-networks", token_id)
    given = ("2001:DB8:0::/32", "192.0.2.7", "192.0.2.7/32", "::ffff:192.0.2.0/120")
    kept = ["2001:db8::/32", "192.0.2.7/32", OFFICE]
    assert told(database.app, *line, *given, "--dry-run")["networks"] == kept
    assert told(database.app, *line, *given) == {"networks": kept}
    assert told(database.app, *line, "--dry-run", OFFICE) == {"networks": [OFFICE], "outside": []}
    assert told(database.app, "token", "networks", token_id)["networks"] == kept
    assert told(database.app, *line, OFFICE) == {"networks": [OFFICE]}


def test_a_token_is_shown_with_the_networks_that_it_has_or_had(database: Database) -> None:
    made = told(database.app, *CREATE)
    told(database.app, "token", "allow-networks", made["id"], OFFICE)
    (*_, row) = told(database.app, "token", "history", made["id"])
    shown = told(database.app, "token", "show", made["id"])
    assert shown == {name: made[name] for name in made if name != "token"} | {"networks": [OFFICE]}
    renamed = told(database.app, "token", "change", made["id"], "--name", "Entra")
    assert renamed["networks"] == [OFFICE]
    told(database.app, "token", "allow-any-network", made["id"])
    assert "networks" not in told(database.app, "token", "show", made["id"])
    later = datetime.fromisoformat(row["at"]) + timedelta(milliseconds=1)
    for as_of, networks in ((later.isoformat(), [OFFICE]), (made["created_at"], None)):
        then = told(database.app, "token", "show", made["id"], "--as-of", as_of)
        assert then.get("networks") == networks


@pytest.mark.parametrize(
    ("networks", "said"),
    by_turns(
        [
            ([], "NETWORK is required; see --help"),
            ([""], f"NETWORK: number 1 {IS_NONE}"),
            (["none"], f"NETWORK: number 1 {IS_NONE}"),
            (["null"], f"NETWORK: number 1 {IS_NONE}"),
            (["[]"], f"NETWORK: number 1 {IS_NONE}"),
            ([OFFICE, VALUE], f"NETWORK: number 2 {IS_NONE}"),
            ([f"{OFFICE},{CLOUD}"], f"NETWORK: number 1 {IS_NONE}"),
            ([CLOUD, "192.0.2.7/24"], f"NETWORK: number 2 {IS_EITHER}"),
            (
                [f"10.0.{number}.0/24" for number in range(NETWORKS_MAX + 1)],
                f"NETWORK: must be {NETWORKS_MAX} at most",
            ),
            ([OFFICE, "--reason", "r" * 201], "--reason: must be 1 to 200 characters"),
        ],
        one_of=3,
    ),
)
def test_what_is_no_network_changes_nothing(
    database: Database, networks: list[str], said: str
) -> None:
    """The list of a script that found nothing neither lifts a restriction nor replaces it."""
    token_id = told(database.app, *CREATE)["id"]
    told(database.app, "token", "allow-networks", token_id, LOOPBACK)
    line = ("token", "allow-networks", token_id, *networks)
    assert refused(database.app, *line, exit_code=2) == said
    assert refused(database.app, *line, "--dry-run", exit_code=2) == said
    assert told(database.app, "token", "networks", token_id)["networks"] == [LOOPBACK]


def test_of_a_revoked_token_they_are_told_and_never_set(database: Database) -> None:
    token_id = str(record(database, created(T0), revoked(T2)))
    assert told(database.app, "token", "networks", token_id) == {"networks": [], "outside": []}
    for line in (
        *(("allow-networks", id_, OFFICE) for id_ in (token_id, ABSENT)),
        *(("allow-networks", id_, OFFICE, "--dry-run") for id_ in (token_id, ABSENT)),
        *(("allow-any-network", id_) for id_ in (token_id, ABSENT)),
        ("networks", ABSENT),
    ):
        assert refused(database.app, "token", *line) == "no such token"


def test_the_trail_names_whoever_it_was_done_for(database: Database) -> None:
    token_id = told(database.app, *CREATE)["id"]
    told(database.app, "token", "allow-networks", token_id, OFFICE, "--user", USER)
    told(database.app, "token", "allow-any-network", token_id, "--user", str(UUID(int=3)))
    told(database.app, "token", "allow-any-network", token_id)
    rows = told(database.app, "token", "history", token_id)
    assert [row["user_id"] for row in rows[1:]] == [USER, str(UUID(int=3))]
