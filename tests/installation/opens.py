"""Prints every file below a directory that the code opens: imports, statements, assets, recipes."""

import importlib
import os
import pkgutil
import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1])
opened: set[str] = set()


def note(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook; it sees each `open` of this process."""
    if event == "open" and isinstance(arguments[0], str | os.PathLike):
        path = Path(arguments[0]).absolute()
        is_ours = path.is_relative_to(ROOT) and not path.is_relative_to(sys.prefix)
        if is_ours and path.is_file():
            opened.add(path.relative_to(ROOT).as_posix())


sys.addaudithook(note)
for package in ("domain", "projections", "api"):
    for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
        importlib.import_module(module.name)

from litestar.testing import TestClient  # noqa: E402 - after the hook

from api.app import build  # noqa: E402
from api.cli.installation.recipes import RECIPES, show_  # noqa: E402
from api.settings import Settings  # noqa: E402
from domain.postgres.migrate import available  # noqa: E402

settings = Settings(database_url="postgresql://127.0.0.1:1/nothing", pepper="p" * 32)
with TestClient(build(settings)) as client:
    page = client.get("/docs").text
    for path in ("/", "/docs/openapi.json", *re.findall('"(/docs/[^"]+)"', page)):
        client.get(path).raise_for_status()
available()
sys.stdout, terminal = open(os.devnull, "w"), sys.stdout  # noqa: PTH123, SIM115
for name in RECIPES:
    show_(name)
sys.stdout = terminal
print("\n".join(sorted(name for name in opened if "__pycache__" not in name)))
