"""compose.yaml with its variables, and what an engine would make of each service."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.installation.wheel import ROOT

FILE: Final = ROOT / "deploy" / "container" / "compose.yaml"
VARIABLES: Final = {
    name: f"{name.lower()}-of-the-test-0123456789abcdef"
    for name in (
        "POSTGRES_PASSWORD", "OWNER_PASSWORD", "APP_PASSWORD", "GRAFANA_PASSWORD", "PEPPER",
    )
}  # fmt: skip


def filled_in(variables: Mapping[str, str] = VARIABLES) -> str:
    """The file with `${NAME}`, `${NAME:-default}` and `${NAME:?message}` replaced."""

    def value(found: re.Match[str]) -> str:
        name, operator, word = found["name"], found["operator"], found["word"]
        if variables.get(name):
            return variables[name]
        assert operator == ":-", f"{name} is required: {word}"
        return word

    pattern = re.compile(r"\$\{(?P<name>[A-Z_]+)(?:(?P<operator>:[-?])(?P<word>[^}]*))?\}")
    return pattern.sub(value, FILE.read_text("utf-8"))


def services() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load(filled_in())["services"]
    return found


def healthcheck(service: Mapping[str, Any]) -> list[str]:
    """The command; one that is run by a shell is none of ours."""
    word, *argv = service["healthcheck"]["test"]
    assert word == "CMD"
    return list(argv)


def mounts(service: Mapping[str, Any]) -> Mapping[str, Path]:
    """The files of the checkout that a service is shown, by their paths in it."""
    return {
        target: (FILE.parent / source).resolve()
        for source, target, *_ in (volume.split(":") for volume in service.get("volumes", ()))
        if source.startswith(".")
    }
