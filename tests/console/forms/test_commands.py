"""What a form of the console comes to: one command each, one of the choices, or a clear refusal."""

from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.console import forms
from api.console.pages.token import OVERLAPS
from api.errors import BadRequest
from domain.authority import ApiCall

OPENED: Final = str(uuid4())
CALL: Final = ApiCall(uuid4(), None, None, ())
TEXTS: Final = st.text("ab=&\0,/", max_size=4)
FIELDS: Final = st.dictionaries(TEXTS, TEXTS)


def fields_of(form: dict[str, str], opened: str = OPENED) -> dict[str, str]:
    return {**form, forms.KEY: opened}


@settings(max_examples=40)
@given(form=FIELDS, other=FIELDS, data=st.data())
def test_one_form_is_one_command_however_often_it_is_sent(
    form: dict[str, str], other: dict[str, str], data: st.DataObject
) -> None:
    """Sent again it is the same one; with something else in it, it is told apart from that."""
    order = data.draw(st.permutations(list(form.items())))
    first = forms.key_of(fields_of(form), CALL, "/a")
    assert forms.key_of(fields_of(dict(order)), CALL, "/a") == first
    again = forms.key_of(fields_of(other), CALL, "/a")
    assert again.id == first.id
    assert (again.request == first.request) == (form == other)


@pytest.mark.parametrize("between", ["\0", "&", "\n", " ", ""])
def test_a_value_that_reads_like_a_further_field_is_told_apart(between: str) -> None:
    one, two = {"a": f"b{between}c=d"}, {"a": "b", "c": "d"}
    keys = [forms.key_of(fields_of(form), CALL, "/a") for form in (one, two)]
    assert keys[0].id == keys[1].id
    assert keys[0].request != keys[1].request


@settings(max_examples=40)
@given(form=FIELDS, opened=st.uuids(), by=st.uuids(), path=st.sampled_from(["/a", "/b"]))
def test_another_form_is_another_command(
    form: dict[str, str], opened: UUID, by: UUID, path: str
) -> None:
    """Another that was opened, another page's, or somebody else's."""
    first = forms.key_of(fields_of(form), CALL, "/a")
    for who, where, what in (
        (CALL, "/a", str(opened)),
        (ApiCall(by, None, None, ()), "/a", OPENED),
        (CALL, path, OPENED),
    ):
        key = forms.key_of(fields_of(form, what), who, where)
        is_same = (who, where, what) == (CALL, "/a", OPENED)
        assert (key.id == first.id) == is_same


@given(text=st.none() | st.text(max_size=3) | st.sampled_from([*map(str, OVERLAPS), "07", "7.0"]))
def test_an_overlap_is_one_of_the_choices(text: str | None) -> None:
    """The first where none is made: a form of before had no such field."""
    form = {} if text is None else {"overlap": text}
    meant = {None: next(iter(OVERLAPS))} | {str(days): days for days in OVERLAPS}
    if text in meant:
        assert forms.overlap_of(form, OVERLAPS) == timedelta(days=meant[text])
        return
    with pytest.raises(BadRequest, match="none of the choices"):
        forms.overlap_of(form, OVERLAPS)


@given(text=st.none() | st.text(max_size=5))
def test_a_form_that_is_not_whole_is_refused(text: str | None) -> None:
    form = {} if text is None else {forms.KEY: text, "id": text}
    with pytest.raises(BadRequest, match="not whole"):
        forms.key_of(form, CALL, "/a")
    with pytest.raises(forms.Mistakes) as mistakes:
        forms.uuid_of(form, "id")
    assert mistakes.value.by_field == {"id": "is required" if text is None else "must be a UUID"}


@settings(max_examples=50)
@given(form=st.dictionaries(TEXTS, st.none() | st.text(" a", max_size=4)), exact=st.sets(TEXTS))
def test_what_has_no_value_is_left_out_and_blanks_stay_where_the_page_showed_them(
    form: dict[str, str | None], exact: set[str]
) -> None:
    taken = forms.filled(form, exact=exact)
    for name, value in form.items():
        kept = value if name in exact else (value or "").strip()
        assert taken.get(name) == (kept or None)
    assert taken.keys() <= form.keys()
