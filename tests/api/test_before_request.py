"""What is done for every request before its handler:
it leaves nothing behind and stays in the loop.
"""

import gc
import threading

from litestar.handlers import HTTPRouteHandler
from litestar.testing import TestClient

from api.app import build
from api.settings import Settings
from tests.conftest import TESTS_KEY


def test_a_request_with_a_query_leaves_no_copy_of_its_route_behind() -> None:
    def routes() -> int:
        gc.collect()
        return sum(isinstance(found, HTTPRouteHandler) for found in gc.get_objects())

    with TestClient(
        build(Settings(database_url="host=/nowhere dbname=none", pepper=TESTS_KEY))
    ) as client:
        client.get("/healthz?first=1")
        before = routes()
        for number in range(20):
            assert client.get(f"/healthz?unheard={number}").status_code == 400
        assert routes() == before


def test_a_request_needs_no_thread() -> None:
    with TestClient(
        build(Settings(database_url="host=/nowhere dbname=none", pepper=TESTS_KEY))
    ) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/healthz?unheard=1").status_code == 400
        assert not [
            thread
            for thread in threading.enumerate()
            if thread.name.startswith(("asyncio_", "AnyIO worker"))
        ]
