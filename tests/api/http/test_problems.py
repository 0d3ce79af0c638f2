"""The table from errors to problems: complete, and closed against what nobody meant to tell."""

from collections.abc import Iterator

import pytest

from api.errors import InvalidForm, RequestRefused
from api.http.problems import _TOLD
from domain.errors import LedgerError, Refusal, TokenRefused

ELSEWHERE = {InvalidForm, TokenRefused}
"""Told in OAuth's form, and by the doors and `/verify` in theirs."""


def nearest(class_: type) -> type:
    """Which line of the table tells it."""
    return next(each for each in class_.__mro__ if each in _TOLD)


def tree(root: type[Exception]) -> Iterator[type[Exception]]:
    """What stands in the root's own module; others raise errors for themselves."""
    for child in root.__subclasses__():
        if child.__module__ == root.__module__:
            yield child
            yield from tree(child)


@pytest.mark.parametrize("class_", [*tree(RequestRefused), *tree(LedgerError)], ids=str)
def test_each_error_is_told_by_the_table_or_named_here(class_: type[Exception]) -> None:
    is_told_elsewhere = any(issubclass(class_, each) for each in ELSEWHERE)
    assert class_ is Refusal or (nearest(class_) is Exception) == is_told_elsewhere


def test_planted_an_error_without_a_line_would_be_a_fault_of_ours() -> None:
    class Forgotten(Refusal): ...

    assert nearest(Forgotten) is Exception
