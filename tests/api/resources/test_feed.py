"""`/events`: a collector that stores its position misses nothing, sees nothing of others,
waits cheaply.
"""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.resources.feed import BEYOND
from domain.api_token.permissions import Permission
from domain.scim_token.warnings import FirstUsed
from projections.audit_trail.view import USED
from tests.api.expected import all_topics, assert_invalid, assert_unauthenticated, create, use
from tests.api.trail import ROW, audit
from tests.conftest import Database
from tests.service import (
    COMMAND,
    Caller,
    RunningService,
    running_service,
    service_environment,
    until,
)
from tests.stopwatch import Stopwatch

BATCH = "application/cloudevents-batch+json"


def follow(
    service: RunningService, caller: Caller, **params: Any
) -> tuple[list[dict[str, Any]], int]:
    """One batch, and where to go on."""
    answer = service.client.get("/events", auth=caller, params=params, timeout=40)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == BATCH
    link = re.fullmatch(
        r'</events\?after=(\d+)&limit=\d+&wait=\d+\S*>; rel="next"', answer.headers["link"]
    )
    assert link is not None
    return answer.json(), int(link[1])


def head(service: RunningService) -> int:
    return int(service.query("SELECT max(notification_id) FROM ledger.events")[0][0])


@contextmanager
def meanwhile(call: Callable[[], Any]) -> Iterator["Future[Any]"]:
    """A call in another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


@pytest.fixture
def collector(service: RunningService, team: UUID) -> Caller:
    """Follows one team."""
    return service.api_token(Permission.AUDIT_READ, teams=[team])


@pytest.fixture
def token(service: RunningService, admin: Caller, team: UUID) -> dict[str, Any]:
    return create(service, admin, team=team)


def test_an_event_is_a_cloud_event_with_the_row_of_the_trail(
    service: RunningService, collector: Caller, token: dict[str, Any]
) -> None:
    (event,), _ = follow(service, collector)

    (row,) = audit(service, collector)
    assert event == {
        "specversion": "1.0",
        "id": str(row["position"]),
        "source": f"{service.url}/events",
        "type": "scim_token.created",
        "subject": f"scim_token/{token['id']}",
        "time": token["created_at"],
        "datacontenttype": "application/json",
        "data": row,
    }
    assert list(event["data"]) == ROW


def test_following_the_link_shows_every_event_once_and_in_order(
    service: RunningService, collector: Caller, token: dict[str, Any]
) -> None:
    for _ in range(6):
        use(service, token["token"])

    seen, after = [], 0
    while batch := follow(service, collector, after=after, limit=3):
        events, after = batch
        if not events:
            break
        seen += events
    assert [event["data"] for event in seen] == audit(service, collector, order="oldest")
    assert len({event["id"] for event in seen}) == 7


def test_a_position_may_be_asked_again(
    service: RunningService, collector: Caller, token: dict[str, Any]
) -> None:
    use(service, token["token"])
    until(lambda: FirstUsed.topic in all_topics(service, token["id"]), what="the first use")
    first, _ = follow(service, collector, limit=1)

    assert follow(service, collector, after=first[0]["id"]) == follow(
        service, collector, after=first[0]["id"]
    )


def test_all_teams_together_are_the_whole_ledger(
    service: RunningService, admin: Caller, team: UUID
) -> None:
    after = head(service)
    token = create(service, admin, team=team)
    use(service, token["token"])
    service.client.get("/scim/v2/Users")

    events, next_ = follow(service, admin, after=after, limit=1000)
    ids = service.query(
        "SELECT notification_id FROM ledger.events WHERE notification_id > %s ORDER BY 1", after
    )
    assert [int(event["id"]) for event in events] == [id_ for (id_,) in ids if id_ <= next_]


def test_the_link_passes_what_the_collector_may_not_see(
    service: RunningService, collector: Caller, admin: Caller
) -> None:
    create(service, admin, team=uuid4())
    before = head(service)

    events, next_ = follow(service, collector)
    assert events == []
    assert next_ >= before


def test_kinds_can_be_chosen(
    service: RunningService, collector: Caller, token: dict[str, Any]
) -> None:
    use(service, token["token"])
    service.client.delete(f"/scim-token/{token['id']}", auth=service.api_token())

    events, _ = follow(service, collector, kind=["scim_token.used", "scim_token.revoked"])
    assert [event["type"] for event in events] == ["scim_token.used", "scim_token.revoked"]


def test_a_long_poll_is_answered_by_the_next_event(
    service: RunningService, collector: Caller, token: dict[str, Any]
) -> None:
    _, after = follow(service, collector)
    with meanwhile(lambda: follow(service, collector, after=after, wait=30)) as answer:
        create(service, service.api_token(), team=uuid4())  # of another team: not what it waits for
        use(service, token["token"])
        events, next_ = answer.result()

    assert [event["type"] for event in events] == ["scim_token.used"]
    assert next_ >= int(events[0]["id"])


def test_a_long_poll_without_news_ends_empty(service: RunningService, collector: Caller) -> None:
    _, after = follow(service, collector)
    events, next_ = follow(service, collector, after=after, wait=1)

    assert events == []
    assert next_ >= after


def test_a_wait_that_was_asked_for_may_be_longer_than_any_other_answer(
    service: RunningService, collector: Caller
) -> None:
    """A13: it does not count against the deadline of the request."""
    _, after = follow(service, collector)
    watch = Stopwatch()
    events, _ = follow(service, collector, after=after, wait=4)

    assert events == []
    assert 3.5 < watch.read_s() < 6  # timers of the two processes differ by some milliseconds


@pytest.mark.long
def test_many_can_wait_at_once(
    service: RunningService, collector: Caller, token: dict[str, Any]
) -> None:
    _, after = follow(service, collector)
    started = threading.Barrier(21)

    def wait() -> list[dict[str, Any]]:
        started.wait()
        with httpx.Client(base_url=service.url, timeout=40, trust_env=False) as client:
            found: list[dict[str, Any]] = client.get(
                "/events", auth=collector, params={"after": after, "wait": 30, "kind": USED}
            ).json()
        return found

    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(wait) for _ in range(20)]
        started.wait()
        use(service, token["token"])
        assert all(len(answer.result()) == 1 for answer in answers)


@pytest.mark.long
def test_a_collector_of_rare_kinds_waits_beside_a_busy_ledger(
    service: RunningService, collector: Caller, token: dict[str, Any]
) -> None:
    """Each commit of the others wakes it: what these looks take together is no late answer."""
    _, after = follow(service, collector)

    def wait() -> tuple[list[dict[str, Any]], int]:
        return follow(service, collector, after=after, wait=15, kind="scim_token.revoked")

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(wait) for _ in range(8)]
        while not all(answer.done() for answer in answers):
            use(service, token["token"])
        assert all(answer.result()[0] == [] for answer in answers)
        assert all(answer.result()[1] > after for answer in answers)


def test_a_collector_revoked_while_it_waits_gets_nothing(service: RunningService) -> None:
    collector = service.api_token(Permission.AUDIT_READ)
    _, after = follow(service, collector, after=head(service))
    with meanwhile(
        lambda: service.client.get(
            "/events",
            auth=collector,
            params={"after": after, "wait": 30, "kind": "scim_token.rotated"},
        )
    ) as answer:
        service.command(lambda ledger: ledger.revoke_api_token(collector.id))
        assert_unauthenticated(answer.result(), "The API token is not valid.", was_presented=True)


def test_a_position_beyond_the_ledger_is_refused(service: RunningService, admin: Caller) -> None:
    assert_invalid(
        service.client.get("/events", auth=admin, params={"after": 2**62}),
        "after",
        BEYOND,
        about="A parameter is not valid.",
    )


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [
        ("after", "-1", "0 to 9223372036854775807"),
        ("after", str(2**63), "0 to 9223372036854775807"),
        ("wait", "31", "0 to 30"),
        ("limit", "1001", "1 to 1000"),
        ("limit", "0", "1 to 1000"),
    ],
)
def test_a_number_out_of_range_is_refused(
    service: RunningService, admin: Caller, name: str, value: str, range_: str
) -> None:
    answer = service.client.get("/events", auth=admin, params={name: value})
    assert_invalid(
        answer, name, f"must be a whole number from {range_}", about="A parameter is not valid."
    )


@pytest.mark.long
def test_the_command_line_follows_too(service: RunningService, token: dict[str, Any]) -> None:
    command = [COMMAND, "audit", "tail", "-f", "-n", "1", "--json", "--token", token["id"]]
    environment = service_environment(service.database.app)
    with following(command, environment) as tail:
        assert tail.stdout is not None
        kinds = [json.loads(tail.stdout.readline())["kind"]]
        use(service, token["token"])
        kinds.append(json.loads(tail.stdout.readline())["kind"])
        tail.send_signal(signal.SIGINT)
        assert tail.wait(30) == 0
    assert kinds == ["scim_token.created", "scim_token.used"]


@contextmanager
def following(
    command: Sequence[str], environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """A command that goes on until it is interrupted, also where SIGINT is inherited as ignored."""
    # what is not ignored is the default
    heeding = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        tail = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, heeding)
    with tail:
        bound = threading.Timer(60, tail.kill)
        bound.start()
        try:
            yield tail
        finally:
            bound.cancel()
            tail.kill()


@pytest.mark.long
def test_a_service_that_ends_lets_the_waiting_go(database: Database) -> None:
    with ThreadPoolExecutor(1) as pool, running_service(database) as service:
        collector = service.api_token(Permission.AUDIT_READ)
        used = (
            "SELECT 1 FROM ledger.events WHERE originator_id = %s AND topic = 'api_token.used.v1'"
        )
        address = f"{service.url}/events?after={head(service)}&wait=30&kind=scim_token.used"
        answer = pool.submit(httpx.get, address, auth=collector, timeout=40, trust_env=False)
        until(lambda: bool(service.query(used, collector.id)), what="the request")
        os.kill(service.pid, signal.SIGTERM)
        found = answer.result(8)
        assert (found.status_code, found.json()) == (200, [])
