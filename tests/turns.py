"""Rows of a parametrized test that an ordinary run takes by turns, and the long run takes whole."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def by_turns(
    rows: Iterable[Any], *, one_of: int, is_kept: Callable[..., bool] = lambda *_: False
) -> list[Any]:
    """All rows, marked `long` but one of so many, beginning with the first.

    is_kept: of a row's values, whether the ordinary run takes it in any case.
    """
    taken = []
    for number, row in enumerate(rows):
        values = row if isinstance(row, tuple) else (row,)
        is_ordinary = number % one_of == 0 or is_kept(*values)
        taken.append(pytest.param(*values, marks=() if is_ordinary else pytest.mark.long))
    return taken
