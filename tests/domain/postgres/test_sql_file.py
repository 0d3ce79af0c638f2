"""How a file of statements is read."""

import pytest

from domain.postgres.sql_file import parse, with_names

FILE = """-- What the file is about.

-- name: first
-- Returns: one row.
SELECT 1
-- a remark inside
WHERE true;

-- name: second
SELECT 2
"""


def test_statements_are_found_by_name_without_their_comments() -> None:
    _, blocks = parse(FILE)
    assert {name: block.text for name, block in blocks.items()} == {
        "first": "SELECT 1\n-- a remark inside\nWHERE true",
        "second": "SELECT 2",
    }


def test_header_and_comments_are_kept_for_those_who_check_them() -> None:
    header, blocks = parse(FILE)
    assert header == "-- What the file is about.\n\n"
    assert blocks["first"].comment == "-- Returns: one row.\n"


@pytest.mark.parametrize(
    "content",
    ["-- name: one\n-- Nothing.\n", "-- name: one\nSELECT 1;\n\n-- name: one\nSELECT 2;\n"],
    ids=["a name without a statement", "a name that is there twice"],
)
def test_what_cannot_be_meant_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="the statement one is empty, or there twice"):
        parse(content)


def test_names_are_quoted() -> None:
    assert (
        with_names("SELECT {key} FROM {table}", key='a"b', table=("views", "usage_v1"))
        == 'SELECT "a""b" FROM "views"."usage_v1"'
    )
