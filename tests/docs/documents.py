"""Scripts that a document tells its reader to run."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_BLOCK: Final = re.compile(
    r"^(?P<indent> *)```(?P<language>sh|sql)(?P<words>[a-z ]*)\n(?P<script>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
RUN_BY: Final[Mapping[str, Mapping[str, str]]] = {
    "README.md": {
        "run": "tests/docs/test_readme.py",
        "test": "tests/docs/test_readme.py",
        "walk": "tests/docs/test_readme.py",
    },
    "CONTRIBUTING.md": {"docs": "tests/docs/test_site.py"},
    "docs/how-to/a-stopped-view.md": dict.fromkeys(
        ("show", "verify", "retry", "rebuild"), "tests/docs/test_how_to.py"
    ),
    "docs/how-to/ask-for-an-end.md": dict.fromkeys(
        ("put", "set", "violations"), "tests/docs/test_how_to.py"
    ),
    "docs/how-to/answer-a-leak.md": dict.fromkeys(
        (
            *("find", "report", "http", "trail", "rotate", "pattern"),
            *("github", "keys", "gitlab"),
        ),
        "tests/docs/how_to/test_answer_a_leak.py",
    ),
    "docs/how-to/audit-questions.md": dict.fromkeys(
        (
            *("who", "http", "history", "made", "did", "secrets", "used", "then"),
            *("refused", "network", "rules", "trust"),
        ),
        "tests/docs/how_to/test_audit_questions.py",
    ),
    "docs/how-to/back-up-and-restore.md": dict.fromkeys(
        ("backup", "embedded", "restore", "lost", "declare", "revoke"),
        "tests/docs/how_to/test_backup.py",
    ),
    "docs/how-to/be-warned.md": dict.fromkeys(
        ("feed", "audit", "list", "metrics"), "tests/docs/test_how_to.py"
    ),
    "docs/how-to/clean-up-unused-tokens.md": dict.fromkeys(
        ("rehearse", "revoke", "http", "careful"), "tests/docs/test_how_to.py"
    ),
    "docs/how-to/clocks.md": {"repair": "tests/docs/test_how_to.py"},
    "docs/how-to/entra.md": dict.fromkeys(("test", "secrets"), "tests/docs/how_to/test_connect.py"),
    "docs/how-to/gateways.md": dict.fromkeys(
        ("nginx", "fillin", "caddy", "traefik", "haproxy", "envoy", "check"),
        "tests/docs/how_to/test_connect.py",
    ),
    "docs/how-to/generate-a-client.md": dict.fromkeys(
        ("python", "typescript"), "tests/clients/test_generated.py"
    ),
    "docs/how-to/give-an-api-token.md": dict.fromkeys(
        ("create", "whoami", "list", "rotate", "revoke", "operator"),
        "tests/docs/how_to/test_give_an_api_token.py",
    ),
    "docs/how-to/hand-over-to-a-customer.md": dict.fromkeys(
        ("link", "http", "state", "watch", "end", "cancel", "replace"), "tests/docs/test_how_to.py"
    ),
    "docs/how-to/monitor.md": {"token": "tests/api/telemetry/test_metrics_token.py"},
    "docs/how-to/restrict-to-networks.md": dict.fromkeys(
        ("set", "http", "refused", "lift"), "tests/docs/how_to/test_restrict.py"
    ),
    "docs/explanation/personal-data.md": {"forget": "tests/api/telemetry/test_people.py"},
    "docs/how-to/archive.md": dict.fromkeys(
        ("plan", "remove", "ask", "compare", "delete", "rebuild"),
        "tests/docs/how_to/test_the_past.py",
    ),
    "docs/how-to/seal-the-ledger.md": dict.fromkeys(
        ("seal", "compare"), "tests/docs/how_to/test_the_past.py"
    ),
    "docs/how-to/rotate-a-secret.md": dict.fromkeys(
        ("rotate", "watch", "complete", "cancel"), "tests/docs/test_how_to.py"
    ),
    "docs/how-to/high-availability.md": dict.fromkeys(
        ("ready", "count"), "tests/docs/how_to/test_operate.py"
    ),
    "docs/how-to/okta.md": {"test": "tests/docs/how_to/test_connect.py"},
    "docs/how-to/install.md": dict.fromkeys(
        (
            *("wheel", "uvx", "pipx", "pinned", "extras", "extraspinned", "check"),
            *("systemd", "credential", "timer", "unit", "compose", "kubernetes"),
        ),
        "tests/docs/test_install.py",
    ),
    "docs/how-to/upgrade.md": dict.fromkeys(
        ("before", "expand", "check", "verify", "back"), "tests/docs/test_install.py"
    ),
    "docs/how-to/upgrade-postgresql.md": dict.fromkeys(
        ("check", "publish", "subscribe", "end", "before", "after"),
        "tests/docs/how_to/test_upgrade_postgresql.py",
    ),
    "docs/how-to/own-postgresql.md": dict.fromkeys(
        ("roles", "pepper", "migrate", "serve"), "tests/docs/prescribed.py"
    ),
    "docs/how-to/rotate-the-pepper.md": {
        **dict.fromkeys(
            ("add", "keys", "retire", "replace"), "tests/docs/how_to/test_rotate_the_pepper.py"
        ),
        "repair": "tests/docs/test_how_to.py",
    },
    "docs/how-to/siem.md": dict.fromkeys(
        ("token", "follow", "export"), "tests/docs/how_to/test_operate.py"
    ),
    "docs/how-to/sizing.md": {"disk": "tests/docs/how_to/test_operate.py"},
    "docs/tutorial/first-token.md": dict.fromkeys(("start", "walk"), "tests/docs/test_tutorial.py"),
}
"""By which file each block of a document is run, by its word."""


def blocks(word: str, *, document: str = "README.md") -> list[str]:
    """The scripts of a document that are marked with a word, in order."""
    return [script for words, script in all_blocks(ROOT / document) if word in words]


def all_blocks(document: Path) -> list[tuple[list[str], str]]:
    """The words of each script of a document, and the script."""
    return [
        (found["words"].split(), textwrap.dedent(found["script"]))
        for found in _BLOCK.finditer(document.read_text("utf-8"))
    ]
