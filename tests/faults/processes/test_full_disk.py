"""The disk of the database is full, under load: nobody is let in whose use is not stored, one
sentence says why, and once there is room again all is served.
"""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg
import pytest
import uvloop

from domain.postgres.embedded.server import EmbeddedPostgres
from tests.conftest import Database
from tests.domain.eventstore.consistency import assert_consistent
from tests.faults.host import problems
from tests.faults.use_load import Load, populate
from tests.faults.well import full_service_in_time
from tests.presenting import FORWARD, NGINX, UNLIMITED, VERIFY, Verdict
from tests.raw_http import run
from tests.ready_cluster import copy_cluster, new_base
from tests.service import running_service, until

pytestmark = pytest.mark.long

DISK_MB: Final = 256
DOORS: Final = (NGINX, FORWARD, VERIFY)
HEALTHY_ANSWERS: Final = 200
REFUSED_ANSWERS: Final = 200
SAID: Final = {
    "base": "the database refuses what is to be recorded: its disk is full: make room there",
    # PostgreSQL ends at once where it cannot write its log, and no start succeeds before there is
    # room.
    "pg_wal": "nothing listens at the host and port of DATABASE_URL: start the server, or correct "
    "them",
}


class SmallDisk:
    """A server of which a part lies on a disk that can be filled. mounted: where the disk is."""

    def __init__(self, mounted: Path, server: EmbeddedPostgres) -> None:
        self.server = server
        self._ballast = mounted / "ballast"
        conninfo = server.conninfo(user="postgres", dbname="postgres")
        self.database = Database(owner=conninfo, app=conninfo)

    def fill(self) -> None:
        """To the last byte."""
        with suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def clear(self) -> None:
        """There is room again; where the server has ended, its operator starts it."""
        self._ballast.unlink()
        try:
            psycopg.connect(self.database.owner).close()
        except psycopg.OperationalError:
            self.server.start()


@contextmanager
def small_disk(part: str) -> Iterator[SmallDisk]:
    """A server that runs. part: what of its data directory is on the small disk."""
    base = new_base("disk", is_durable=True)
    mounted = base / "small"
    mounted.mkdir()
    mounting = ("mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=711", "tmpfs", mounted)
    if subprocess.run(mounting, check=False, capture_output=True).returncode != 0:
        shutil.rmtree(base)
        pytest.skip("mounts nothing here: run it as root")
    server = EmbeddedPostgres(base, is_durable=True)
    try:
        copy_cluster(base)
        place = base / "data" / part
        subprocess.run(["cp", "-a", place, mounted / part], check=True)
        shutil.rmtree(place)
        place.symlink_to(mounted / part)
        server.start()
        yield SmallDisk(mounted, server)
    finally:
        server.stop()
        subprocess.run(["umount", mounted], check=True)
        shutil.rmtree(base)


@pytest.mark.parametrize("part", SAID)
def test_nobody_is_let_in_unrecorded_by_a_full_disk_and_all_is_served_after_it(part: str) -> None:
    with small_disk(part) as disk:
        population = uvloop.run(populate(disk.database, size=40))
        with running_service(disk.database, environment=UNLIMITED) as service:
            load = Load(service.url, population, DOORS)

            async def main() -> None:
                async with load.running():
                    await load.answered(HEALTHY_ANSWERS)
                    await asyncio.to_thread(disk.fill)
                    while load.count(Verdict.UNAVAILABLE) < REFUSED_ANSWERS:
                        await load.answered(10)
                    await asyncio.to_thread(until, lambda: SAID[part] in problems(service))
                    await asyncio.to_thread(disk.clear)
                    await full_service_in_time(service.url, population.api_token, DOORS)
                    await load.answered(HEALTHY_ANSWERS)

            run(main)
        load.check(disk.database)
        assert_consistent(disk.database)
