"""One matrix: every case of the table before every gateway, run by its recipe in `deploy/`."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest

from tests.conftest import new_database
from tests.gateways import cases
from tests.gateways.cases import LedgerCase, ScriptedCase
from tests.gateways.echo import Recorder, echo_backend
from tests.gateways.fronts import CLIENT_ADDRESS, Front, Ledger, assert_refused, front_of
from tests.gateways.programs import DEPLOY, PROGRAMS, running_gateway
from tests.gateways.scripted import scripted_ledger
from tests.service import running_service

pytestmark = pytest.mark.gateway

DOORS: Final = {"nginx": "nginx", "envoy": "envoy"}
"""All others speak the forward dialect."""


HOW_TO: Final = DEPLOY.parent / "docs/how-to/gateways.md"
_BLOCK: Final = re.compile(r"```\w+ balancer-(\w+)\n(.*?)```", re.DOTALL)
BALANCERS: Final = "10.1.0.0/16"
"""Of the how-to; here the tests' client is the balancer."""
CLIENT: Final = "198.51.100.7"
FORWARDED: Final = ("X-Forwarded-For", f"203.0.113.66, {CLIENT}")
"""A balancer adds the address that it sees to what the client made up."""


class Place(NamedTuple):
    """Where the lines of the how-to go: after the first `after` of a file of the recipe."""

    file: str
    after: str


PLACES: Final = {
    "nginx": Place("nginx/scim.conf.template", "nginx's own limit is 1m\n"),
    "caddy": Place("caddy/Caddyfile", "\tpersist_config off\n"),
    "traefik": Place("traefik/run", "exec traefik \\\n"),
    "haproxy": Place("haproxy/haproxy.cfg", "http-request del-header connection\n"),
}


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


@pytest.fixture(scope="module")
def trusting(server: str) -> Iterator[Ledger]:
    """A ledger that trusts the gateway and the balancer before it."""
    trusted = {"SCIM_LEDGER_TRUSTED_PROXIES": f"127.0.0.1,{CLIENT_ADDRESS}"}
    with (
        new_database(server) as database,
        running_service(database, environment=trusted) as service,
    ):
        yield Ledger(service, service.api_token())


@pytest.mark.parametrize(
    ("name", "is_told"),
    [
        *((name, True) for name in PROGRAMS),
        *((name, False) for name in PLACES),
    ],
)
def test_whose_address_is_recorded(
    name: str, is_told: bool, trusting: Ledger, tmp_path: Path
) -> None:
    recipes = tmp_path / "deploy"
    shutil.copytree(DEPLOY, recipes)
    if is_told and name in PLACES:
        _tell(name, recipes)
    starting = partial(start, name, recipes=recipes)
    ledger_url, door = trusting.service.url, DOORS.get(name, "forward")
    with front_of(starting, ledger_url, name=name, door=door) as front:
        token = trusting.issue()
        assert front.ask(cases.users(), token.secret, headers=[FORWARDED]).status_code == 200
        (use,) = trusting.uses(token)
        assert use["source"] == (CLIENT if is_told else CLIENT_ADDRESS)


def _tell(name: str, recipes: Path) -> None:
    """Put in what the how-to says, with the address of our balancer."""
    lines = dict(_BLOCK.findall(HOW_TO.read_text()))[name]
    lines = lines.replace(BALANCERS, f"{CLIENT_ADDRESS}/32")
    if name == "traefik":
        lines = lines.replace("\n", " \\\n")
        scim = recipes / "traefik/scim.yml"
        told = scim.read_text().replace("trustForwardHeader: false", "trustForwardHeader: true")
        scim.write_text(told)
    place = PLACES[name]
    file = recipes / place.file
    before, after, rest = file.read_text().partition(place.after)
    assert after
    file.write_text(f"{before}{after}{lines}{rest}")


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
