"""`scim-ledger projections …` and `verify`:
what an operator sees of the views, and how they are mended.
"""

import json
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.api_token.permissions import Permission
from domain.eventstore.event_registry import REGISTRY
from domain.scim_token.events import Created
from projections.follow import locks
from projections.registry import PROJECTIONS
from projections.scim_tokens import view as scim_tokens
from tests.api.cli import forked_cli
from tests.api.cli.forked_cli import Done
from tests.conftest import Database, catch_up
from tests.domain.scenario import T0, T1, T2, created, used
from tests.projections.given_events import record
from tests.service import RunningService, service_environment
from tests.turns import by_turns

NAMES: Final = [projection.name for projection in PROJECTIONS]
POISON: Final = 3
ERROR: Final = f"UnreadableEvent on a {Created.topic}"
WORKING: Final = (Permission.SCIM_TOKENS_READ, Permission.SCIM_TOKENS_WRITE, Permission.AUDIT_READ)
STOPPED: Final = {"scim_tokens", "audit_trail"}
"""The views that fold creations."""


def run(database: Database, *arguments: str) -> Done:
    return forked_cli.run(arguments, service_environment(database.app))


def told(database: Database, *arguments: str, exit_code: int = 0) -> Any:
    done = run(database, *arguments, "--json")
    assert done.exit_code == exit_code, (done.stdout, done.stderr)
    assert len(done.stdout.splitlines()) == 1
    return json.loads(done.stdout)


def refused(database: Database, *arguments: str) -> str:
    """The one clear line of a command that went wrong, behind what it told of its progress."""
    done = run(database, *arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    *_, line = done.stderr.splitlines()
    assert line.startswith("scim-ledger: ")
    return line.removeprefix("scim-ledger: ")


def as_owner(database: Database, statement: str, *parameters: object) -> None:
    with psycopg.connect(database.owner) as owner:
        assert owner.execute(statement.encode(), parameters).rowcount > 0


@pytest.fixture
def token_id(database: Database) -> UUID:
    """A token that was used, and every view caught up."""
    found = record(database, created(T0), used(T1))
    catch_up(database)
    return found


@pytest.fixture
def poisoned(database: Database) -> Database:
    """Two good events, one that no view of creations can apply, and one more."""
    record(database, created(T0), used(T1))
    as_owner(
        database,
        "INSERT INTO ledger.events (originator_id, originator_version, topic, at, command_id, "
        "state) "
        "VALUES (%s, 1, %s, %s, gen_random_uuid(), '{\"hunter2\"')",
        uuid4(),
        Created.topic,
        T1,
    )
    record(database, created(T2))
    catch_up(database)
    return database


def mend(database: Database) -> None:
    as_owner(
        database,
        "UPDATE ledger.events SET state = %s WHERE notification_id = %s",
        REGISTRY.encode(created(T0)[0]),
        POISON,
    )


class TestAStoppedView:
    def test_it_is_shown_with_position_event_and_error(self, poisoned: Database) -> None:
        shown = told(poisoned, "projections", "show", "scim_tokens")
        assert (shown["state"], shown["position"], shown["stopped_at"], shown["error"]) == (
            *("stopped", POISON - 1, POISON),
            ERROR,
        )
        assert (shown["head"], shown["lag"]) == (4, 2)
        assert shown["lag_s"] > 0
        listed = {view["name"]: view for view in told(poisoned, "projections", "list")}
        assert {name for name in NAMES if listed[name]["state"] == "stopped"} == STOPPED
        assert all(listed[name]["stopped_at"] == POISON for name in STOPPED)
        assert listed["usage"]["stopped_at"] is None

    def test_people_are_told_the_same_and_nothing_of_the_event(self, poisoned: Database) -> None:
        done = run(poisoned, "projections", "show", "scim_tokens")
        assert (done.exit_code, done.stderr) == (0, "")
        lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
        assert (lines["position"], lines["stopped_at"], lines["error"]) == ("2", "3", ERROR)
        table = run(poisoned, "projections", "list").stdout
        (row,) = (line for line in table.splitlines() if line.startswith("scim_tokens"))
        assert f" {POISON} " in row
        assert ERROR in row
        assert "hunter2" not in done.stdout + table

    @pytest.mark.parametrize(
        "command",
        by_turns(
            [
                (("token", "list"),),
                (("audit", "list"),),
                (("token", "history", str(UUID(int=1))),),
            ],
            one_of=3,
        ),
        ids=" ".join,
    )
    def test_what_is_read_from_it_is_not_answered(
        self, poisoned: Database, command: tuple[str, ...]
    ) -> None:
        """D5: a list that lacks what came after the event is worse than none."""
        said = refused(poisoned, *command)
        assert said.endswith(
            "it has stopped: scim-ledger projections list says at which event and why"
        )

    def test_it_tries_again_when_it_is_told_to(self, poisoned: Database) -> None:
        retry = ("projections", "retry", "scim_tokens")
        assert told(poisoned, *retry) == {"name": "scim_tokens", "was_stopped": True}
        assert told(poisoned, *retry) == {"name": "scim_tokens", "was_stopped": False}
        catch_up(poisoned)
        again = told(poisoned, "projections", "show", "scim_tokens")
        assert (again["state"], again["stopped_at"]) == ("stopped", POISON)

        mend(poisoned)
        done = run(poisoned, *retry)
        assert (done.exit_code, done.stdout.splitlines()) == (
            0,
            ["name: scim_tokens", "was_stopped: True"],
        )
        catch_up(poisoned)
        mended = told(poisoned, "projections", "show", "scim_tokens")
        assert (mended["state"], mended["lag"], mended["stopped_at"]) == ("live", 0, None)
        assert told(poisoned, "projections", "show", "audit_trail")["state"] == "stopped", (
            "not asked"
        )

    def test_a_rebuild_and_a_verification_name_the_event(self, poisoned: Database) -> None:
        said = f"event {POISON}: {ERROR}"
        # The live view is at 2: the rebuild goes no further than what it is compared with, unless
        # told to.
        as_owner(
            poisoned,
            "UPDATE ledger.projection_positions SET position = 4 WHERE name = 'scim_tokens'",
        )
        assert refused(poisoned, "projections", "rebuild", "scim_tokens") == said
        (found,) = told(poisoned, "projections", "verify", "scim_tokens", exit_code=1)
        assert found == {
            "name": "scim_tokens",
            "is_good": False,
            "difference": f"scim_tokens: {said}",
        }
        assert told(poisoned, "projections", "drop-old") == {"dropped": []}


class TestRebuild:
    def test_one_view(self, database: Database, token_id: UUID) -> None:
        assert token_id
        done = run(database, "projections", "rebuild", "scim_tokens")
        assert (done.exit_code, done.stdout.splitlines()) == (
            0,
            ["name: scim_tokens", "version: 2"],
        )
        progress = [
            line for line in done.stderr.splitlines() if not line.startswith("{")
        ]  # what is logged
        assert all(line.startswith("scim_tokens: ") for line in progress)
        assert progress[0].startswith("scim_tokens: building, 0 of 2")
        assert progress[-1].startswith("scim_tokens: switching, 2 of 2")

        assert told(database, "projections", "drop-old") == {"dropped": ["views.scim_tokens_v1"]}
        assert told(database, "projections", "drop-old") == {"dropped": []}
        shown = told(database, "projections", "show", "scim_tokens")
        assert (shown["version"], shown["state"], shown["position"]) == (2, "live", 2)

    def test_all_of_them_with_progress_for_programs(
        self, database: Database, token_id: UUID
    ) -> None:
        assert token_id
        done = run(database, "projections", "rebuild", "--all", "--json")
        assert done.exit_code == 0
        assert json.loads(done.stdout) == [{"name": name, "version": 2} for name in NAMES]
        progress = [each for each in map(json.loads, done.stderr.splitlines()) if "state" in each]
        assert list(dict.fromkeys(each["name"] for each in progress)) == NAMES
        states = [each["state"] for each in progress if each["name"] == "usage"]
        assert list(dict.fromkeys(states)) == ["building", "indexing", "comparing", "switching"]
        assert all(
            {"position", "head", "events_per_s", "eta_s"} <= each.keys() for each in progress
        )

        dropped = run(database, "projections", "drop-old")
        tables = ", ".join(f"views.{name}_v1" for name in NAMES)
        assert (dropped.exit_code, dropped.stdout) == (0, f"dropped: {tables}\n")

    @pytest.mark.long
    def test_a_damaged_view_is_switched_only_when_that_is_accepted(
        self, database: Database, token_id: UUID
    ) -> None:
        as_owner(database, "UPDATE views.scim_tokens_v1 SET name = 'hunter2'")
        said = f"scim_tokens: the row {token_id} differs in name"
        rebuild = ("projections", "rebuild", "scim_tokens")
        assert refused(database, *rebuild) == f"{said}; the view was not switched"
        found = told(database, "projections", "verify", exit_code=1)
        assert [(each["name"], each["is_good"]) for each in found] == [
            (name, name != "scim_tokens") for name in NAMES
        ]
        assert found[0]["difference"] == said
        assert told(database, "projections", "show", "scim_tokens")["version"] == 1

        assert told(database, *rebuild, "--accept-difference") == {
            "name": "scim_tokens",
            "version": 2,
        }
        assert all(each["is_good"] for each in told(database, "projections", "verify"))

    def test_one_that_is_under_way_is_left_alone(self, database: Database) -> None:
        with psycopg.connect(database.app, autocommit=True) as other:
            assert locks.try_lock(other, locks.REBUILD, scim_tokens.PROJECTION)
            said = "the view scim_tokens is being rebuilt or verified already"
            assert refused(database, "projections", "rebuild", "scim_tokens") == said
            assert refused(database, "projections", "verify", "scim_tokens") == said

    @pytest.mark.long
    def test_beside_a_running_service_nobody_notices(self, service: RunningService) -> None:
        caller = service.api_token(*WORKING)
        body = {"team_id": str(uuid4()), "name": "Okta"}
        made = service.client.post("/scim-token", json=body, auth=caller).json()
        path = f"/scim-token/{made['id']}"
        before = service.client.get(path, auth=caller).json()

        done = told(service.database, "projections", "rebuild", "--all")
        assert [each["name"] for each in done] == NAMES
        assert told(service.database, "projections", "drop-old")["dropped"]
        assert service.client.get(path, auth=caller).json() == before
        (event,) = service.client.get(f"{path}/events", auth=caller).json()["result"]
        assert event["kind"] == "scim_token.created"
        assert all(each["is_good"] for each in told(service.database, "projections", "verify"))


class TestVerify:
    def test_the_ledger_is_proven(self, database: Database, token_id: UUID) -> None:
        assert token_id
        done = run(database, "projections", "verify", "usage")
        assert done.exit_code == 0
        assert done.stdout.split() == ["name", "is_good", "difference", "usage", "True", "-"]

    @pytest.mark.long
    def test_a_ledger_and_its_damage(self, service: RunningService, database: Database) -> None:
        whole = told(service.database, "verify")
        assert whole["damage"] is None
        assert whole["events"] >= whole["streams"] > 0

        id_ = record(database, created(T0))
        as_owner(database, "UPDATE ledger.stream_heads SET uses = 7")
        damaged = told(database, "verify", exit_code=1)
        assert damaged["damage"].startswith(f"the head of {id_}: ")
        done = run(database, "verify")
        assert done.exit_code == 1
        assert done.stdout.splitlines()[-1] == f"damage: {damaged['damage']}"


@pytest.mark.parametrize("command", by_turns(["show", "retry", "rebuild", "verify"], one_of=3))
def test_a_view_that_does_not_exist_is_one_clear_line(database: Database, command: str) -> None:
    done = run(database, "projections", command, "hunter2", "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"scim-ledger: NAME: must be one of {', '.join(NAMES)}\n"


@pytest.mark.parametrize("arguments", [(), ("scim_tokens", "--all")], ids=["neither", "both"])
def test_a_rebuild_is_of_one_view_or_of_all(database: Database, arguments: tuple[str, ...]) -> None:
    done = run(database, "projections", "rebuild", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "scim-ledger: NAME: give the name of one view, or --all\n"


def test_a_view_that_is_not_built_yet_is_told_so(database: Database) -> None:
    as_owner(database, "UPDATE ledger.projection_positions SET shape = 99 WHERE name = 'usage'")
    said = "the view usage is not built yet in the shape of this release"
    assert refused(database, "projections", "show", "usage") == said


@pytest.mark.parametrize("command", ["show", "retry"])
def test_a_view_has_to_be_named(database: Database, command: str) -> None:
    done = run(database, "projections", command)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "scim-ledger: NAME is required; see --help\n"
