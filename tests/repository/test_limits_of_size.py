"""Nothing grows beyond what is read at once: folders, files, functions and lines have limits.

What is longer stands in `EXCEPTIONS` with the reason, and one that is no longer needed is an error:
the list can only tell the truth.
"""

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

FOLDER_MAX: Final = 12
"""Python files, without the ones that make a folder a package or hold its fixtures."""
FILE_MAX: Final = 300
TEST_FILE_MAX: Final = 500
"""A test file is a list of sentences about one module, each of which is read by itself."""
FUNCTION_MAX: Final = 50
"""Statements, from the first to the last: parameters with their documentation are a declaration."""
LINE_MAX: Final = 100

EXCEPTIONS: Final = {
    "api/resources/audit/trail.py": "one resource, and half of it says what its parameters mean",
    "api/resources/introspection.py": "three routes that decide alike and answer in three forms",
    "api/server/protocol.py": "one state machine: what it may do next is told from one place",
    "tests/stateful/test_ledger_machine.py": "one state machine: its rules share the model",
    "tests/domain/eventstore/consistency.py::assert_consistent": "one list of what always holds",
}

_WIRING: Final = {"__init__.py", "conftest.py"}
_MARK: Final = re.compile(r"\s+# (?:noqa|type: ignore|fmt:).*$")
"""Where it stands is the linter's choice: it must be on the line that it is about."""
_NOT_WRITTEN_ANEW: Final = re.compile(r"migrations/\d{4}_|/schema\.sql$")
"""What running ledgers have applied, and what is made from that."""


def tracked() -> list[Path]:
    """The files of the repository that are Python or SQL."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "*.py", "*.sql"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (Path(name) for name in names.splitlines())
    return [
        path for path in paths if (ROOT / path).exists() and not _NOT_WRITTEN_ANEW.search(str(path))
    ]


def folders(paths: list[Path]) -> Iterator[tuple[str, int]]:
    counted = Counter(path.parent for path in paths if path.name not in _WIRING)
    for folder, count in counted.items():
        if count > FOLDER_MAX:
            yield f"{folder}/", count


def too_long(path: str, content: str) -> Iterator[tuple[str, int]]:
    """What is too long in a file: itself, a function, a line; and how long it is."""
    lines = content.splitlines()
    is_python = path.endswith(".py")
    if is_python and len(lines) > (TEST_FILE_MAX if path.startswith("tests/") else FILE_MAX):
        yield path, len(lines)
    for number, line in enumerate(lines, 1):
        if (length := len(_MARK.sub("", line) if is_python else line)) > LINE_MAX:
            yield f"{path}:{number}", length
    for node in ast.walk(ast.parse(content)) if is_python else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            length = (node.end_lineno or 0) - first.lineno + 1
            if length > FUNCTION_MAX:
                yield f"{path}::{node.name}", length


def test_whatever_is_longer_than_a_reader_takes_in_at_once_has_a_reason() -> None:
    paths = [path for path in tracked() if path.suffix == ".py"]
    found = dict(folders(paths))
    for path in tracked():
        found |= dict(too_long(str(path), (ROOT / path).read_text("utf-8")))
    surplus = {what: length for what, length in found.items() if what not in EXCEPTIONS}
    assert surplus == {}, "split it, or say in EXCEPTIONS why not"
    assert EXCEPTIONS.keys() - found.keys() == set(), "these need no exception any more"


@pytest.mark.parametrize(
    ("path", "content", "what"),
    [
        ("api/long.py", "\n" * (FILE_MAX + 1), "api/long.py"),
        ("tests/test_long.py", "\n" * (TEST_FILE_MAX + 1), "tests/test_long.py"),
        ("api/wide.py", f"x = '{'x' * LINE_MAX}'", "api/wide.py:1"),
        ("domain/wide.sql", f"SELECT '{'x' * LINE_MAX}'", "domain/wide.sql:1"),
        ("api/deep.py", "def f():\n" + "    pass\n" * (FUNCTION_MAX + 1), "api/deep.py::f"),
    ],
)
def test_what_is_too_long_is_seen(path: str, content: str, what: str) -> None:
    assert [name for name, _ in too_long(path, content)] == [what]


def test_a_full_folder_is_seen() -> None:
    paths = [Path("api", f"module_{number}.py") for number in range(FOLDER_MAX)]
    assert dict(folders([*paths, Path("api/__init__.py")])) == {}
    assert dict(folders([*paths, Path("api/one_more.py")])) == {"api/": FOLDER_MAX + 1}
