"""compose.yaml: its schema, its files, and the commands of its services."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from api.settings import KNOWN, PREFIX
from tests.gateways.programs import DEPLOY, PROGRAMS, require
from tests.installation import wheel
from tests.installation.container import compose, containerfile
from tests.installation.container.image import DATA, IMAGE
from tests.installation.container.installation import SERVICES, Installation
from tests.installation.room import UID, Network, Room
from tests.installation.running import Serving
from tests.installation.test_kubernetes import SEALING


@pytest.mark.gateway
def test_the_file_keeps_to_the_compose_specification() -> None:
    library = pytest.importorskip("compose_spec", reason="pip install -r requirements-gateways.txt")
    options = library.PyOptions()
    options.apply_merge = True
    options.from_yaml(compose.filled_in()).validate()
    with pytest.raises(ValueError, match="read_onli"):
        options.from_yaml(compose.filled_in().replace("read_only:", "read_onli:"))


def test_every_file_that_a_service_is_shown_is_there() -> None:
    shown = {path for service in SERVICES.values() for path in compose.mounts(service).values()}
    assert [str(path.relative_to(DEPLOY)) for path in shown if not path.is_file()] == []
    rules = yaml.safe_load((compose.FILE.parent / "prometheus.yml").read_text())["rule_files"]
    assert set(rules) <= compose.mounts(SERVICES["prometheus"]).keys()
    provider = yaml.safe_load((compose.FILE.parent / "grafana-dashboards.yml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    assert f"{folder}/scim-ledger.json" in compose.mounts(SERVICES["grafana"])


@pytest.mark.parametrize("name", ["migrate", "ledger"])
def test_the_service_is_given_settings_that_there_are_and_nothing_more(name: str) -> None:
    service = SERVICES[name]
    given = {each.removeprefix(PREFIX) for each in service["environment"]}
    assert given <= {*KNOWN}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] == containerfile.only(IMAGE, "USER").rest
    assert {"tmpfs", "privileged", "cap_add"} & service.keys() == set()


def test_every_password_is_asked_for_and_none_is_in_the_file() -> None:
    text = compose.FILE.read_text("utf-8")
    for name in compose.VARIABLES:
        assert f"${{{name}:?" in text
        with pytest.raises(AssertionError, match=name):
            compose.filled_in({**compose.VARIABLES, name: ""})


def test_the_ports_are_this_machines_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.fixture
def installation(image: Room, base: Path) -> Iterator[tuple[Installation, ExitStack, Network]]:
    with Network() as network, ExitStack() as running:
        yield Installation(image, base, network), running, network


@pytest.mark.gateway
def test_the_commands_of_all_services_make_an_installation(
    installation: tuple[Installation, ExitStack, Network],
) -> None:
    """Each with a read-only tree, as 10001; ours without a shell."""
    made, running, network = installation
    require({**PROGRAMS["nginx"], "scim2-server": "pip install -r requirements-gateways.txt"})
    made.postgres(running, network)
    made.image = made.image._replace(has_shell=False)
    migrated = wheel.run([*made.service("migrate")])
    assert "applied: 1, 2, " in migrated
    scim = running.enter_context(Serving(made.scim(), exit_code=-15))
    ledger = running.enter_context(Serving(made.service("ledger")))
    ledger.until_healthy(made.check("ledger"))
    running.enter_context(Serving(made.nginx())).until_healthy(
        made.plain.command(["curl", "-s", "--noproxy", "*", "http://nginx:8000/"])
    )
    api_token = made.told("cat", "first-api-token").strip()
    assert json.loads(made.curl("http://ledger:8080/whoami", api_token))
    create = ("scim-ledger", "token", "create", "--team", str(uuid4()), "--user", str(uuid4()))
    token = json.loads(made.told(*create, "--name", "Okta", "--json"))["token"]
    listed = made.curl("http://nginx:8000/scim/v2/Users", token)
    assert "urn:ietf:params:scim:api:messages:2.0:ListResponse" in listed, scim.said()
    (sealing,) = SEALING["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert re.fullmatch("[0-9]+:[0-9a-f]{64}\n", made.told("scim-ledger", *sealing["args"]))
    assert "scim_ledger_" in made.curl("http://ledger:8080/metrics", "")
    assert (made.image.writable[DATA] / "first-api-token").stat().st_uid == UID
    left = [path.name for path in made.image.writable[DATA].iterdir()]
    assert sorted(left) == ["first-api-token", "head.json"]
