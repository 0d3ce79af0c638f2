"""How pages are made: Jinja2, with every text from outside escaped."""

from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar.plugins.jinja import JinjaTemplateEngine

from api.console import instants

_HERE: Final = Path(__file__).parent
FILES: Final = {path.name: path for path in (_HERE / "assets").iterdir()}
VERSION: Final = sha256(b"".join(FILES[name].read_bytes() for name in sorted(FILES))).hexdigest()[
    :12
]
"""Of the styles, the script and the sign of this release."""


def _asset(name: str) -> str:
    """The address of a style or script, another one with each release that changes any."""
    assert name in FILES
    return f"/console/assets/{VERSION}/{name}"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {"asset": _asset}
    made.filters |= {"when": instants.when, "day": instants.day, "exact": instants.exact}
    return made


ENGINE: Final = JinjaTemplateEngine.from_environment(_environment())
