"""SQL statements in files of their own, read once, when the module that runs them is imported.

A file holds named statements. Each has an opening comment that says what it returns, in which
order, which locks it takes and which index it uses; the header of the file says what holds for all
of them:

    -- name: held
    -- Whose secret this is, good or not.
    -- Returns: digest, token, team. At most one row a digest.
    -- Index: secrets_pkey.
    SELECT digest, originator_id, owner_id FROM ledger.secrets WHERE digest = ANY(%s);

The comments are for readers; the server receives the statement alone. Values are psycopg's
placeholders (`%s`, `%(name)s`), or `$1` where libpq itself runs the statement. A table or column
whose name is known only at run time is `{name}`, which `with_names` fills in, or a `ViewReader`
for a view's table; such a statement doubles a literal brace.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Final, LiteralString, NamedTuple

from psycopg.sql import SQL, Identifier

_NAME: Final = re.compile(r"^-- name: *(\w+)\n", re.MULTILINE)
_COMMENT: Final = re.compile(r"(?:--[^\n]*\n|\s+)*")


class Block(NamedTuple):
    """One statement of a file. comment: its opening lines. text: without the last semicolon."""

    comment: str
    text: LiteralString


def statements(package: str, path: str) -> Mapping[str, LiteralString]:
    """The statements of a file by name. path: from the package, such as `sql/append.sql`."""
    _, blocks = parse(files(package).joinpath(path).read_text("utf-8"))
    return MappingProxyType({name: block.text for name, block in blocks.items()})


def parse(content: str) -> tuple[str, dict[str, Block]]:
    """The header of a file, and its statements in order.

    Raises ValueError for a name that stands there twice, or without a statement.
    """
    header, *parts = _NAME.split(content)
    blocks: dict[str, Block] = {}
    for name, part in zip(parts[::2], parts[1::2], strict=True):
        comment = _COMMENT.match(part)
        assert comment is not None, "it matches where there is no comment, too"
        # As literal as code: the file is part of the package.
        text: LiteralString = part[comment.end() :].rstrip().removesuffix(";")
        if not text or name in blocks:
            raise ValueError(f"the statement {name} is empty, or there twice")
        blocks[name] = Block(comment[0], text)
    return header, blocks


def with_names(statement: LiteralString, **names: str | tuple[str, ...]) -> LiteralString:
    """The statement with its `{names}` filled in and quoted. A tuple is a schema and a table."""
    identifiers = {
        key: Identifier(*((name,) if isinstance(name, str) else name))
        for key, name in names.items()
    }
    return SQL(statement).format(**identifiers).as_string()
