"""What names the ledger leaves no doubt: where it could, nothing is read."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.settings import KNOWN, PLAIN, PREFIX, Settings, load
from tests.api.test_settings import SECRET, refused

OURS: Final = sorted([*PLAIN, *(PREFIX + name for name in KNOWN)])
UNRELATED: Final = (
    *("DATABASE_HOST", "DATABASE_PORT", "TEST_DATABASE_URL", "DATABASE_URL_TEST", "DATABASE"),
    *("DATABASE_USER", "REDIS_URL", "DB_URL", "URL", "D", "UPSTREAM_URL", "SCIM_URL", ""),
)
LETTERS: Final = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ_")


@st.composite
def slips(draw: st.DrawFn) -> tuple[str, str]:
    """A name with one slip of the hand, and what was meant."""
    meant = draw(st.sampled_from(OURS))
    at = draw(st.integers(0, len(meant) - 2))
    more, kind = draw(LETTERS), draw(st.sampled_from(["missing", "added", "another", "swapped"]))
    middle, rest = {
        "missing": ("", meant[at + 1 :]),
        "added": (more, meant[at:]),
        "another": (more, meant[at + 1 :]),
        "swapped": (meant[at : at + 2][::-1], meant[at + 2 :]),
    }[kind]
    return meant[:at] + middle + rest, meant


@given(slip=slips(), is_lower_case=st.booleans())
def test_a_slip_of_the_hand_in_a_name_is_refused(
    slip: tuple[str, str], *, is_lower_case: bool
) -> None:
    text, meant = slip
    text = text.lower() if is_lower_case else text
    if text == meant or text.startswith(PREFIX):  # which is another refusal
        return
    assert refused({text: SECRET}).startswith(f"unknown setting {text}; do you mean ")


@given(slips())
def test_a_slip_beside_the_right_name_keeps_nobody_from_anything(slip: tuple[str, str]) -> None:
    text, meant = slip
    if meant in PLAIN and text not in PLAIN:
        right = {meant: "postgresql://h/b" if meant == "DATABASE_URL" else "http://h"}
        assert load({text: SECRET} | right) == load(right)


@pytest.mark.parametrize("name", UNRELATED)
def test_a_variable_of_somebody_else_is_none_of_ours(name: str) -> None:
    assert load({name: SECRET}) == Settings()


@pytest.mark.parametrize("blank", ["", " ", "\n"])
@pytest.mark.parametrize(
    "name",
    [
        *("DATABASE_URL", "SCIM_LEDGER_DATABASE_URL", "SCIM_LEDGER_OWNER_DATABASE_URL"),
        *("SCIM_LEDGER_DATA_DIR", "SCIM_LEDGER_PEPPER_FILE", "SCIM_LEDGER_HEAD_FILE"),
    ],
)
def test_what_names_the_ledger_or_its_files_is_not_empty(name: str, blank: str) -> None:
    said = f"{name} is set, and empty: unset it, or give it a value"
    assert refused({name: blank}) == said


def test_an_empty_name_hides_no_other_one() -> None:
    """The one with the prefix wins, also where it is empty."""
    both = {"DATABASE_URL": "postgresql://h/b", "SCIM_LEDGER_DATABASE_URL": ""}
    assert refused(both).startswith("SCIM_LEDGER_DATABASE_URL is set, and empty")


@pytest.mark.parametrize("path", ["head.json", "./head.json", "../head.json"])
def test_a_file_that_would_be_made_anew_elsewhere_has_an_absolute_path(path: str) -> None:
    assert refused({"SCIM_LEDGER_HEAD_FILE": path}).startswith(
        "SCIM_LEDGER_HEAD_FILE must be an absolute path: "
    )
    assert refused({"SCIM_LEDGER_DATA_DIR": path}).startswith(
        "SCIM_LEDGER_DATA_DIR must be an absolute path: "
    )
    assert str(load({}, data_dir=path).data_dir) == path.removeprefix("./")
