"""What a browser is shown besides the interactive documentation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from litestar import get
from litestar.params import FromPath
from litestar.response import File

from domain.errors import NotFound

ASSETS: Final = "/docs/assets"
_FILES: Final = {path.name: path for path in (Path(__file__).parent / "assets").iterdir()}


@get(f"{ASSETS}/{{name:str}}", include_in_schema=False)
async def asset(name: FromPath[str]) -> File:
    """A file of the documentation's page: one of those that there are, whatever a name would lead to."""
    if name not in _FILES:
        raise NotFound("no such file")
    return File(_FILES[name], content_disposition_type="inline")


PAGES: Final[Sequence[Any]] = (asset,)
