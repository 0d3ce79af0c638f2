"""How pages are made: Jinja2, with every text from outside escaped.

What they are made of is read when the process starts: an upgrade replaces the files while the
release before is still running, and its pages would be made of both.
"""

from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import DictLoader, Environment, StrictUndefined
from litestar.plugins.jinja import JinjaTemplateEngine

from api.console import instants

_HERE: Final = Path(__file__).parent
FILES: Final = {path.name: path.read_bytes() for path in (_HERE / "assets").iterdir()}
VERSION: Final = sha256(b"".join(FILES[name] for name in sorted(FILES))).hexdigest()[:12]
"""Of the styles, the script and the sign of this release."""

_TEMPLATES: Final = {path.name: path.read_text("utf-8") for path in (_HERE / "templates").iterdir()}


def _asset(name: str) -> str:
    """The address of a style or script, another one with each release that changes any."""
    assert name in FILES
    return f"/console/assets/{VERSION}/{name}"


def _environment() -> Environment:
    made = Environment(
        loader=DictLoader(_TEMPLATES),
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
