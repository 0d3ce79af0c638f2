"""`scim-ledger deploy …`: the recipes of `deploy/`, from wherever the command is installed."""

import shutil
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from cyclopts import App, Parameter

import api
from api.cli.console import AsJson, show
from domain.errors import InvalidValue

SHARED: Final = "addresses.sh"
"""What the gateways' `run` read; it is copied beside each recipe."""


class Recipe(NamedTuple):
    """main: the file that `show` prints, below `deploy/`; its directory is the recipe.

    also: other recipes that it is shown with.
    """

    main: str
    what: str
    also: tuple[str, ...] = ()


RECIPES: Final = {
    "nginx": Recipe("nginx/scim.conf.template", "nginx asks with auth_request"),
    "caddy": Recipe("caddy/Caddyfile", "Caddy asks with forward_auth"),
    "traefik": Recipe("traefik/scim.yml", "Traefik asks with forwardAuth"),
    "haproxy": Recipe("haproxy/haproxy.cfg", "HAProxy asks with an action in Lua"),
    "envoy": Recipe("envoy/envoy.yaml.template", "Envoy asks with ext_authz"),
    "kubernetes": Recipe("kubernetes/base/service.yaml", "the service on Kubernetes (kustomize)"),
    "systemd": Recipe("systemd/scim-ledger.service", "the service under systemd, and its seals"),
    "container": Recipe("container/Containerfile", "the service as a container image"),
    "compose": Recipe(
        "container/compose.yaml",
        "the service and all around it",
        ("nginx", "prometheus", "grafana"),
    ),
    "prometheus": Recipe("prometheus/alerts.yml", "Prometheus scrapes it, and alerts"),
    "grafana": Recipe("grafana/scim-ledger.json", "a dashboard for Grafana"),
    "middleware": Recipe("middleware/scim_ledger_asgi.py", "a Python service asks, ASGI or WSGI"),
}

app = App(name="deploy", help="The recipes for gateways and for ways to run the service.")

Name = Annotated[str, Parameter(help="A recipe, or one file of it, such as nginx/run.")]
Recipes = Annotated[str, Parameter(help="A recipe.")]


@app.command(name="list")
def list_(*, as_json: AsJson = False) -> None:
    """List the recipes, each with what it is and its files."""
    show(
        [
            {"name": name, "what": recipe.what, "files": _files(recipe)}
            for name, recipe in RECIPES.items()
        ],
        as_json=as_json,
    )


@app.command(name="show")
def show_(name: Name, /) -> None:
    """Print a recipe's main file, or one of its files."""
    path = RECIPES[name].main if name in RECIPES else name
    if not any(path in _files(recipe) for recipe in RECIPES.values()):
        raise InvalidValue("NAME", f"is none of {', '.join(RECIPES)}, and none of their files")
    print((directory() / path).read_text("utf-8"), end="")


@app.command
def copy(
    name: Recipes,
    into: Annotated[Path, Parameter(help="A directory; it is made, and nothing in it replaced.")],
    /,
) -> None:
    """Copy a whole recipe to a directory."""
    if name not in RECIPES:
        raise InvalidValue("NAME", f"is none of {', '.join(RECIPES)}")
    files = _files(RECIPES[name])
    for other in RECIPES[name].also:
        files += _files(RECIPES[other])
    if any(file.endswith("/run") for file in files):
        files.append(SHARED)
    for file in files:
        if file != SHARED and (into / file).exists():
            raise InvalidValue("INTO", f"has {file} already")
    for file in files:
        (into / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(directory() / file, into / file)  # a program stays one
        print(into / file)


def directory() -> Path:
    """Where the recipes are: in the package once installed, in a checkout beside it."""
    package = Path(api.__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "deploy"


def _files(recipe: Recipe) -> list[str]:
    base = directory()
    return sorted(
        file.relative_to(base).as_posix()
        for file in (base / recipe.main.partition("/")[0]).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    )
