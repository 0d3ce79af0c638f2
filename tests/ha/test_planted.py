"""That the proof notices: where no standby confirms, a leader takes what it answered with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGCONT, SIGSTOP
from typing import Final

import pytest
import uvloop

from tests.faults.own_server import send
from tests.faults.use_load import Load, YesWithoutRecord, populate
from tests.ha.patroni import Ensemble, Role, ensemble, needs_patroni
from tests.presenting import FORWARD, NGINX, UNLIMITED, VERIFY
from tests.raw_http import run
from tests.service import running_service, until

pytestmark = [pytest.mark.slow, needs_patroni]

TOKENS: Final = 20
ANSWERS: Final = 300


@contextmanager
def cut_off_standbys(three: Ensemble) -> Iterator[None]:
    """They hear nothing more of the leader, which does not mind; their Patroni would mend it."""
    leader = three.who(Role.LEADER)
    others = [node for node in three.nodes if node is not leader]
    minders = [pid for node in others for pid in node.patroni_pids()]
    send(minders, SIGSTOP)
    for node in others:
        node.ask("ALTER SYSTEM SET primary_conninfo = ''")
        node.ask("SELECT pg_reload_conf()")
    streaming = "SELECT count(*) FROM pg_stat_replication"
    until(lambda: leader.ask(streaming) == [(0,)], what="the standbys are cut off")
    yield
    leader.kill()
    send(minders, SIGCONT)
    three.until_another(Role.LEADER, leader)


def test_without_a_standby_that_confirms_a_use_that_was_let_in_is_lost() -> None:
    with ensemble(is_strict=False) as three:
        population = uvloop.run(populate(three.database, size=TOKENS))
        with running_service(three.database, environment=UNLIMITED) as service:
            load = Load(service.url, population, (NGINX, FORWARD, VERIFY))

            async def main() -> None:
                async with load.running():
                    await load.answered(ANSWERS)

            with cut_off_standbys(three):
                run(main)
        with pytest.raises(YesWithoutRecord):
            load.check(three.database)
