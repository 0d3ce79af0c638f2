"""The secret's pattern as secret scanners want it. Pure."""

from typing import Final

import msgspec

from domain.secret import BODY_PATTERN, SECRET_PATTERN, SecretKind

WHOLE_PATTERN: Final = rf"{SECRET_PATTERN}\b"
"""Every secret of ours, whatever its prefix, and no run of letters that goes on behind it."""
RULE_ID: Final = "scim-ledger-secret"
"""Of the rule for gitleaks; GitLab names its findings after it."""
_HOLDERS: Final = {"scim": "SCIM bearer token", "api": "API token of the SCIM ledger"}


class SecretType(msgspec.Struct, frozen=True):
    """What GitHub's secret scanning partner programme asks for, for each type of secret.

    type: comes back with each report. name: for people. pattern: with the issuer's own prefix.
    Source: docs.github.com, "Secret scanning partner program", "Identify your secrets and create
    regular expressions".
    """

    type: str
    name: str
    pattern: str


def gitleaks_rule() -> str:
    """A rule for gitleaks' configuration, TOML. keywords: what it looks for before the pattern."""
    keywords = ", ".join(f'"{kind}"' for kind in SecretKind)
    return (
        "[[rules]]\n"
        f'id = "{RULE_ID}"\n'
        'description = "A SCIM or API token of a SCIM token ledger"\n'
        f"regex = '''{WHOLE_PATTERN}'''\n"
        f"keywords = [{keywords}]\n"
    )


def github_types(prefix: str) -> list[SecretType]:
    """The types of secret of the issuer with this prefix."""
    return [
        SecretType(
            f"{prefix}_{holder}_token",
            f"{prefix} {name}",
            rf"{prefix}_{holder}_(?:live|test)_{BODY_PATTERN}\b",
        )
        for holder, name in _HOLDERS.items()
    ]
