"""One matrix: every case of the table before every gateway, run by its recipe in `deploy/`."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.gateways import cases
from tests.gateways.cases import LedgerCase, ScriptedCase
from tests.gateways.echo import Recorder, echo_backend
from tests.gateways.fronts import Front, Ledger, assert_refused, front_of
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


@pytest.mark.parametrize("spelling", ["::1", "[::1]"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_addresses_may_be_ipv6_with_and_without_brackets(name: str, spelling: str) -> None:
    recorder, path = Recorder(), cases.users()
    hosts = {f"{which}_HOST": spelling for which in ("LISTEN", "LEDGER", "BACKEND")}
    with (
        scripted_ledger(host="::1") as ledger,
        echo_backend(recorder, host="::1") as backend,
        running_gateway(name, ledger=ledger, backend=backend, host="[::1]", more=hosts) as url,
    ):
        good = {"Authorization": "Bearer good"}
        assert httpx.get(f"{url}{path}", headers=good, trust_env=False).status_code == 200
        assert len(recorder.to(path)) == 1


@pytest.mark.parametrize("variable", ["LISTEN_PORT", "LEDGER_PORT", "BACKEND_PORT"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_port_that_is_none_is_refused_before_the_gateway_starts(name: str, variable: str) -> None:
    done = subprocess.run(
        [str(DEPLOY / name / "run")],
        env={**os.environ, variable: "808O"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"{variable} is not a port: 808O. Set it to a number from 1 to 65535.\n"


@pytest.mark.parametrize(
    "fault",
    ["error('a fault')", "local _ = nil .. 'text'", "txn.http:not_there()", "while true do end"],
)
def test_a_fault_in_haproxys_action_lets_nobody_in(
    fault: str, scripted: str, tmp_path: Path
) -> None:
    recipes = tmp_path / "deploy"
    shutil.copytree(DEPLOY, recipes)
    action = recipes / "haproxy" / "scim_auth.lua"
    good = "local client = txn.http:req_get_headers()\n"
    assert good in action.read_text()
    planted = f'{good}if client["x-fault"] then {fault} end\n'
    action.write_text(action.read_text().replace(good, planted))
    path = cases.users()
    starting = partial(start, "haproxy", recipes=recipes)
    with front_of(starting, scripted, name="haproxy", door="forward") as front:
        answer = front.ask(path, "good", headers=[("X-Fault", "yes")])
        assert_refused(answer, 503)
        assert answer.headers.get_list("retry-after") == ["1"]
        assert not front.recorder.to(path)
        assert front.ask(path, "good").status_code == 200


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
