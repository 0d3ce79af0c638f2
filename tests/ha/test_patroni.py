"""Three nodes of Patroni in strict synchronous mode, under load, and everything that befalls one:
nothing that was answered is lost, nobody revoked is let in, and the service is back by itself.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Final, TypeAlias

import psycopg
import pytest
import uvloop

from tests.domain.eventstore.consistency import assert_consistent
from tests.faults.host import Host
from tests.faults.own_server import send
from tests.faults.use_load import Load, Population, populate
from tests.faults.well import full_service_in_time
from tests.ha.patroni import Ensemble, Node, Role, ensemble, needs_patroni
from tests.ha.revoker import Revoker
from tests.presenting import ENVOY, FORWARD, INTROSPECT, NGINX, UNLIMITED, VERIFY, Verdict
from tests.raw_http import run
from tests.service import RunningService, running_service

pytestmark = [pytest.mark.slow, needs_patroni]

DOORS: Final = (NGINX, FORWARD, ENVOY, VERIFY, INTROSPECT)
TOKENS: Final = 40
TO_REVOKE: Final = 100
NOBODY_CONFIRMS_S: Final = 5.0
HEALTHY_ANSWERS: Final = 500
WRITES_AGAIN_WITHIN_S: Final = 60
"""What Patroni may take: the leader's time, and what follows it."""
PROBED_EVERY_S: Final = 0.05
PROBE_S: Final = 1.0
WRITE: Final = "SELECT pg_logical_emit_message(true, 'probe', '')"
"""A transaction that has to be confirmed, and leaves nothing."""


@dataclass
class World:
    """A service of two workers that lives through it all."""

    ensemble: Ensemble
    service: RunningService
    host: Host
    population: Population


Remedy: TypeAlias = Callable[[], None]
"""Takes a trouble away again."""
Trouble: TypeAlias = Callable[[Ensemble], Remedy]
"""Returns once it is noticed."""


def switched_over(three: Ensemble) -> Remedy:
    """As on a maintenance day."""
    three.switch_over()
    return nothing


def server_killed(three: Ensemble) -> Remedy:
    """Patroni stays, and starts it again or lets another lead."""
    send(three.who(Role.LEADER).server_pids(), SIGKILL)
    return nothing


def killed(role: Role) -> Trouble:
    """Patroni and its server, as by a power failure."""

    def strike(three: Ensemble) -> Remedy:
        old = three.who(role)
        old.kill()
        three.until_another(role, old)
        return old.start

    return strike


def hung(role: Role) -> Trouble:
    """A leader that nobody fences goes on as a primary for a moment, beside the one that took over.
    To the primary, a standby that hangs is the same as a cut between the two.
    """

    def strike(three: Ensemble) -> Remedy:
        old = three.who(role)
        pids = old.all_pids()
        send(pids, SIGSTOP)
        three.until_another(role, old)
        return lambda: send(pids, SIGCONT)

    return strike


def leader_cut_from_etcd(three: Ensemble) -> Remedy:
    """It steps down by itself, before another one may lead."""
    old = three.who(Role.LEADER)
    three.cut_from_etcd(old)
    three.until_another(Role.LEADER, old)
    return lambda: three.mend(old)


def both_standbys_killed(three: Ensemble) -> Remedy:
    """Nobody confirms, so nobody is let in until one is back."""
    leader = three.who(Role.LEADER)
    lost = [node for node in three.nodes if node is not leader]
    for node in lost:
        node.kill()
    time.sleep(NOBODY_CONFIRMS_S)
    for node in lost:
        node.start()
    return nothing


def nothing() -> None:
    """Is left to be done."""


TROUBLES: Final[Mapping[str, Trouble]] = {
    "switched over": switched_over,
    "server killed": server_killed,
    "leader killed": killed(Role.LEADER),
    "leader hung": hung(Role.LEADER),
    "leader cut from etcd": leader_cut_from_etcd,
    "confirming standby killed": killed(Role.CONFIRMING),
    "confirming standby hung": hung(Role.CONFIRMING),
    "both standbys killed": both_standbys_killed,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ensemble() as three:
        host = Host(three.database, tmp_path_factory.mktemp("host"))
        population = uvloop.run(
            populate(three.database, size=TOKENS + TO_REVOKE * len(TROUBLES) + 2)
        )
        settings = {**UNLIMITED, **host.environment}
        with running_service(three.database, workers=2, environment=settings) as service:
            yield World(three, service, host, population)


async def writes_again(three: Ensemble) -> None:
    """Until one node has a transaction confirmed."""
    async with asyncio.timeout(WRITES_AGAIN_WITHIN_S):
        while not any(await asyncio.gather(*map(confirms_a_write, three.nodes))):
            await asyncio.sleep(PROBED_EVERY_S)


async def confirms_a_write(node: Node) -> bool:
    with suppress(psycopg.Error, TimeoutError):
        async with (
            asyncio.timeout(PROBE_S),
            await psycopg.AsyncConnection.connect(node.conninfo, autocommit=True) as connection,
        ):
            said: list[str | None] = []
            connection.add_notice_handler(lambda notice: said.append(notice.message_primary))
            await connection.execute(WRITE)
            return not said
    return False


@pytest.mark.parametrize("name", TROUBLES)
def test_nothing_that_was_answered_is_lost_and_the_service_is_back_by_itself(
    world: World, name: str, record_property: Callable[[str, object], None]
) -> None:
    """What was measured goes to `--junitxml=FILE -o junit_family=xunit1`."""
    three, url, everybody = world.ensemble, world.service.url, world.population
    api_token, place = everybody.api_token, TOKENS + list(TROUBLES).index(name) * TO_REVOKE
    load = Load(url, Population(api_token, everybody.good[:TOKENS], everybody.bad), DOORS)
    revoker = Revoker(url, api_token, everybody.good[place : place + TO_REVOKE], DOORS)

    async def main() -> None:
        async with load.running(), revoker.running():
            await load.answered(HEALTHY_ANSWERS)
            remedy = await asyncio.to_thread(TROUBLES[name], three)
            await writes_again(three)
            record_property("back after", await full_service_in_time(url, api_token, DOORS))
            await load.answered(HEALTHY_ANSWERS)
            await asyncio.to_thread(remedy)
            await asyncio.to_thread(three.settle)
            await full_service_in_time(url, api_token, DOORS)
        await revoker.check()

    three.settle()
    run(main)
    record_property("answers", load.answers.total())
    record_property("yes", load.count(Verdict.YES))
    record_property("unavailable", load.count(Verdict.UNAVAILABLE))
    record_property("slowest", max(load.slowest_s.values()))
    record_property("revoked", len(revoker.revoked))
    record_property("asked of the revoked", revoker.answers.total() + revoker.reads.total())
    load.check(three.database)
    assert_consistent(three.database)
    world.host.command("verify")
    assert world.host.doctor("hosts")["status"] == "ok"
