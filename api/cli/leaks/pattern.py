"""`scim-ledger token pattern`: what secret scanners are given."""

from enum import StrEnum
from typing import Annotated

import msgspec
from cyclopts import Parameter

from api.cli.console import AsJson, show
from api.settings import PREFIX, SettingsError, load
from domain.leaks.patterns import WHOLE_PATTERN, github_types, gitleaks_rule


class PatternFormat(StrEnum):
    """Who is to look for secrets."""

    REGEX = "regex"
    GITLEAKS = "gitleaks"
    GITHUB = "github"


def pattern(
    *,
    format_: Annotated[
        PatternFormat,
        Parameter(
            name="--format",
            help="regex for any scanner, gitleaks for a rule in TOML, github for what its partner "
            "programme asks for.",
        ),
    ] = PatternFormat.REGEX,
    as_json: AsJson = False,
) -> None:
    """The pattern of this service's secrets, for secret scanners."""
    match format_:
        case PatternFormat.REGEX:
            _show_text("pattern", WHOLE_PATTERN, as_json=as_json)
        case PatternFormat.GITLEAKS:
            _show_text("rule", gitleaks_rule(), as_json=as_json)
        case PatternFormat.GITHUB:
            prefix = load().secret_prefix
            if prefix is None:
                raise SettingsError(
                    f"GitHub asks for a prefix that no other issuer has: set {PREFIX}SECRET_PREFIX"
                )
            show([msgspec.structs.asdict(each) for each in github_types(prefix)], as_json=as_json)


def _show_text(name: str, text: str, *, as_json: bool) -> None:
    if as_json:
        show({name: text}, as_json=True)
    else:
        print(text.rstrip("\n"))
