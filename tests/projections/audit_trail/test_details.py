"""What the trail says of an event in words: what changed, and how near an end is."""

import re
from datetime import datetime
from typing import Any, Final

import pytest

from domain.event import Event
from domain.scim_token import warnings
from domain.scim_token.events import Changed
from projections.audit_trail.details import DETAILS, Detail
from projections.described import rfc3339
from tests.domain.scenario import ADA, T4

END: Final = rfc3339(T4)


def told(event: Event) -> Detail:
    return DETAILS[type(event)](event)


@pytest.mark.parametrize(
    ("changed", "note", "name", "ends_at"),
    [
        ({"name": "Entra"}, "name Entra", "Entra", None),
        ({"expires_at": None}, "no end", None, "infinity"),
        ({"expires_at": T4}, f"ends at {END}", None, END),
        ({"name": "Entra", "expires_at": None}, "name Entra, no end", "Entra", "infinity"),
        ({"name": "Entra", "expires_at": T4}, f"name Entra, ends at {END}", "Entra", END),
    ],
)
def test_a_change_is_told_with_what_the_token_has_now(
    changed: dict[str, Any], note: str, name: str | None, ends_at: str | None
) -> None:
    detail = told(Changed(changed_by=ADA, reason="moved", **changed))
    assert detail.how is not None
    assert (detail.how.note, detail.name, detail.ends_at) == (note, name, ends_at)
    assert (detail.reason, detail.actor) == ("moved", ADA)


def ends(days: int, at: datetime = T4) -> list[Event]:
    return [
        warnings.Expiring(days=days, expires_at=at),
        warnings.RotationEnding(secret="0" * 8, days=days, ends_at=at),
        warnings.OldSecretStillUsed(secret="0" * 8, day=days, used_at=at),
    ]


@pytest.mark.parametrize(("days", "words"), [(1, "1 day"), (2, "2 days"), (7, "7 days")])
def test_a_warning_says_when_and_how_many_days(days: int, words: str) -> None:
    for event in ends(days):
        how = told(event).how
        assert how is not None
        assert how.note is not None
        assert f"{END}," in how.note
        assert re.search(rf"\b{words}\b", how.note.split(END)[1])
