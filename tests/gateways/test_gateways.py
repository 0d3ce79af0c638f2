"""One matrix: every case of the table before every gateway, run by its recipe in `deploy/`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.gateways import cases
from tests.gateways.cases import LedgerCase, ScriptedCase
from tests.gateways.echo import Recorder, echo_backend
from tests.gateways.fronts import Front, Ledger, front_of
from tests.gateways.programs import DEPLOY, PROGRAMS, running_gateway
from tests.gateways.scripted import scripted_ledger

pytestmark = pytest.mark.gateway

DOORS: Final = {"nginx": "nginx", "envoy": "envoy"}
"""All others speak the forward dialect."""


@pytest.fixture(scope="module", params=PROGRAMS)
def gateway(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One gateway, not yet started."""
    name: str = request.param
    return {
        "start": partial(start, name),
        "name": name,
        "door": DOORS.get(name, "forward"),
        "is_detail_kept": name != "nginx",  # auth_request drops the body
    }


@pytest.fixture(scope="module")
def front(gateway: dict[str, Any], ledger: Ledger) -> Iterator[Front]:
    """It, before the real service."""
    with front_of(ledger_url=ledger.service.url, **gateway) as started:
        yield started


@pytest.fixture(scope="module")
def scripted_front(gateway: dict[str, Any], scripted: str) -> Iterator[Front]:
    """It, before the stand-in."""
    with front_of(ledger_url=scripted, **gateway) as started:
        yield started


@pytest.mark.parametrize("case", cases.LEDGER_CASES, ids=lambda case: case.__name__)
def test_before_the_ledger(case: LedgerCase, front: Front, ledger: Ledger) -> None:
    case(front, ledger)


@pytest.mark.parametrize("case", cases.SCRIPTED_CASES, ids=lambda case: case.__name__)
def test_before_rare_answers(case: ScriptedCase, scripted_front: Front) -> None:
    case(scripted_front)


def test_without_a_ledger(gateway: dict[str, Any]) -> None:
    with ExitStack() as there:
        url = there.enter_context(scripted_ledger())
        with front_of(ledger_url=url, **gateway) as front:
            assert front.ask("/scim/v2/Users", "good").status_code == 200
            there.close()
            cases.a_ledger_that_is_gone_lets_nobody_in(front)


@contextmanager
def start(
    name: str, ledger_url: str, recorder: Recorder, *, recipes: Path = DEPLOY
) -> Iterator[str]:
    """A gateway, and the backend behind it; yields the gateway's URL."""
    with (
        echo_backend(recorder) as backend,
        running_gateway(name, ledger=ledger_url, backend=backend, recipes=recipes) as url,
    ):
        yield url
