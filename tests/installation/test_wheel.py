"""The wheel has all that the command needs, and `scim-ledger deploy` tells of the recipes in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.cli.installation.recipes import RECIPES
from tests.api.cli import forked_cli
from tests.api.cli.forked_cli import Done
from tests.installation import wheel
from tests.turns import by_turns

OPENS = Path(__file__).with_name("opens.py")


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return wheel.files(wheel.built(tmp_path_factory.mktemp("wheel")))


def test_the_wheel_has_every_file_of_the_packages_and_every_recipe(brought: set[str]) -> None:
    assert brought == set(wheel.tracked().values())


@pytest.mark.long
def test_whatever_the_code_opens_is_in_the_wheel(brought: set[str]) -> None:
    command: list[str | Path] = [sys.executable, OPENS, wheel.ROOT]
    environment = {
        **os.environ,
        "PYTHONPATH": str(wheel.ROOT),
        "PYTHONPYCACHEPREFIX": "/nonexistent",
    }
    opened = wheel.run(command, env=environment).split()
    of = wheel.tracked()
    assert [name for name in opened if of.get(name) not in brought] == []
    for name in (
        "domain/eventstore/migrations/0001_ledger.sql",
        "domain/eventstore/sql/append.sql",
        "api/resources/assets/swagger-ui.css",
        "deploy/nginx/scim.conf.template",
    ):
        assert name in opened, "the check sees what is opened"


def deploy(*arguments: str) -> Done:
    return forked_cli.run(("deploy", *arguments), {})


def test_every_recipe_of_the_checkout_is_listed_with_its_files() -> None:
    listed = json.loads(deploy("list", "--json").stdout)
    told = {file for recipe in listed for file in recipe["files"]}
    tracked = {name.removeprefix("deploy/") for name in wheel.tracked() if "deploy/" in name}
    assert told == {name for name in tracked if "/" in name and not name.startswith("reference/")}
    assert {recipe["name"] for recipe in listed} == RECIPES.keys()


@pytest.mark.parametrize("name", by_turns(RECIPES, one_of=3))
def test_a_recipe_is_printed_as_it_is(name: str) -> None:
    text = (wheel.ROOT / "deploy" / RECIPES[name].main).read_text("utf-8")
    assert deploy("show", name) == (0, text, "")
    assert deploy("show", RECIPES[name].main) == (0, text, "")


@pytest.mark.parametrize("name", ["nothing", "../pyproject.toml", "reference/run.py", ""])
def test_what_is_no_recipe_is_not_printed(name: str) -> None:
    done = deploy("show", name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("scim-ledger: NAME: is none of nginx, ")


def test_a_recipe_is_copied_whole_and_replaces_nothing(tmp_path: Path) -> None:
    done = deploy("copy", "caddy", str(tmp_path / "new"))
    assert done.exit_code == 0, done.stderr
    run = tmp_path / "new" / "caddy" / "run"
    assert done.stdout.split() == [
        str(tmp_path / "new" / name) for name in ("caddy/Caddyfile", "caddy/run", "addresses.sh")
    ]
    assert os.access(run, os.X_OK)
    subprocess.run(["bash", "-n", run], check=True)
    run.write_text("mine")
    done = deploy("copy", "caddy", str(tmp_path / "new"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert run.read_text() == "mine"
