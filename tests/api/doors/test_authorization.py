"""Reading the Authorization header, for every door:
what is taken, and what is told about the rest.
"""

from base64 import b64encode
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.doors.authorization import (
    BLANKS,
    DOUBLED,
    IN_BASIC,
    MALFORMED,
    MISSING,
    SCHEME,
    SEVERAL,
    SPACE,
    NotPresentable,
    read,
    speaks_basic,
)
from domain.secret import SecretKind, mint

SECRET: Final = mint(SecretKind.SCIM_LIVE, bytes(range(32)))
TEXT: Final = SECRET.reveal()
NAME: Final = b"authorization"


def scope(*values: bytes, **more: Any) -> Any:
    """An ASGI scope with these Authorization headers among others."""
    headers = [(b"host", b"ledger"), *((b"authorization", value) for value in values)]
    return {
        "type": "http",
        "headers": headers,
        "query_string": f"access_token={TEXT}".encode(),
        **more,
    }


def refused(*values: bytes, is_bare_accepted: bool = False) -> tuple[str, str]:
    with pytest.raises(NotPresentable) as refusal:
        read(scope(*values), is_bare_accepted=is_bare_accepted)
    assert str(refusal.value) == refusal.value.detail
    assert refusal.value.__cause__ is None
    return refusal.value.reason, refusal.value.detail


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEARER"])
@pytest.mark.parametrize("is_bare_accepted", [False, True])
def test_the_scheme_is_read_in_any_case(scheme: str, is_bare_accepted: bool) -> None:
    found = read(scope(f"{scheme} {TEXT}".encode()), is_bare_accepted=is_bare_accepted)
    assert (found.secret, found.form) == (SECRET, "bearer")


@pytest.mark.parametrize("spaces", range(1, 9))
@pytest.mark.parametrize("is_bare_accepted", [False, True])
def test_spaces_after_the_scheme_may_be_several(spaces: int, is_bare_accepted: bool) -> None:
    """A8: 1*SP (RFC 9110 §11.4)."""
    found = read(scope(f"Bearer{' ' * spaces}{TEXT}".encode()), is_bare_accepted=is_bare_accepted)
    assert (found.secret, found.form) == (SECRET, "bearer")


def test_a_bare_secret_is_read_where_it_is_accepted() -> None:
    found = read(scope(TEXT.encode()), is_bare_accepted=True)
    assert (found.secret, found.form) == (SECRET, "bare")
    assert refused(TEXT.encode()) == ("malformed", SCHEME)


@pytest.mark.parametrize("kind", SecretKind)
def test_secrets_of_every_kind_are_read(kind: SecretKind) -> None:
    secret = mint(kind, bytes(32))
    assert read(scope(f"Bearer {secret.reveal()}".encode())).secret == secret


def test_no_header_is_missing_whatever_the_query_says() -> None:
    assert refused() == ("missing", MISSING)


def test_more_than_one_header_is_ambiguous_even_when_equal() -> None:
    header = f"Bearer {TEXT}".encode()
    assert refused(header, header) == ("ambiguous", SEVERAL)
    assert refused(header, b"") == ("ambiguous", SEVERAL)


@pytest.mark.parametrize("is_bare_accepted", [False, True])
@pytest.mark.parametrize(
    ("header", "detail"),
    [
        (f"Bearer Bearer {TEXT}", DOUBLED),
        (f"Bearer bearer {TEXT}", DOUBLED),
        (f"bearer  BEARER {TEXT}", DOUBLED),
        (f"Bearer  {TEXT[:9]} {TEXT[9:]}", BLANKS),
        (f"Bearer {TEXT} ", BLANKS),
        (f"Bearer \t{TEXT}", BLANKS),
        (f"Bearer {TEXT[:9]} {TEXT[9:]}", BLANKS),
        (f"Bearer \xa0{TEXT}", BLANKS),
        (f"Bearer {TEXT[:-1]}", MALFORMED),
        (f"Bearer {TEXT}0", MALFORMED),
        (f"Bearer {TEXT.upper()}", MALFORMED),
        ("Bearer ", MALFORMED),
        ("Bearer null", MALFORMED),
        *((f"Bearer{between}{TEXT}", SPACE) for between in ("\t", "\xa0", "\xa0 ", "", ":", "\t ")),
        (f"bearer\t\xa0{TEXT}", SPACE),
        (f"\xa0Bearer {TEXT}", BLANKS),
        (f"Bearer Bearer\t{TEXT}", DOUBLED),
        (f"Bearer \xa0Bearer {TEXT}", DOUBLED),
        (f"Basic {TEXT}", SCHEME),
        (f"Token {TEXT}", SCHEME),
    ],
)
def test_what_is_almost_right_is_told_what_to_change(
    header: str, detail: str, is_bare_accepted: bool
) -> None:
    assert refused(header.encode("latin-1"), is_bare_accepted=is_bare_accepted) == (
        "malformed",
        detail,
    )


@pytest.mark.parametrize("header", ["Bearer", "bearer"])
def test_a_scheme_alone_is_not_told_that_it_says_bearer_twice(header: str) -> None:
    assert refused(header.encode(), is_bare_accepted=True) == ("malformed", MALFORMED)


@pytest.mark.parametrize("header", [TEXT[:-1], "null", ""])
def test_a_bare_text_that_is_no_secret_is_malformed(header: str) -> None:
    assert refused(header.encode(), is_bare_accepted=True) == ("malformed", MALFORMED)


@pytest.mark.parametrize("header", [f" {TEXT}", f"{TEXT} "])
def test_blanks_around_a_bare_secret_are_told(header: str) -> None:
    assert refused(header.encode(), is_bare_accepted=True) == ("malformed", BLANKS)


@given(header=st.binary(max_size=80), is_bare_accepted=st.booleans())
def test_any_bytes_are_refused_with_a_text_of_ours(header: bytes, is_bare_accepted: bool) -> None:
    reason, detail = refused(header, is_bare_accepted=is_bare_accepted)
    assert reason == "malformed"
    assert detail in {DOUBLED, BLANKS, MALFORMED, SCHEME, SPACE}


@given(user=st.text().filter(lambda name: ":" not in name))
def test_a_password_of_basic_is_read_where_it_is_accepted(user: str) -> None:
    """RFC 7617 §2: whatever the user name is, the password stands behind the first colon."""
    sent = b"basic " + b64encode(f"{user}:{TEXT}".encode())
    found = read(scope(sent), is_basic_accepted=True)
    assert (found.secret, found.form) == (SECRET, "basic")
    assert refused(sent) == ("malformed", SCHEME)


@given(rest=st.binary() | st.binary().map(b64encode))
def test_whatever_else_is_said_by_basic_is_no_secret(rest: bytes) -> None:
    with pytest.raises(NotPresentable) as refusal:
        read(scope(b"Basic " + rest), is_basic_accepted=True)
    assert (refusal.value.reason, refusal.value.detail) == ("malformed", IN_BASIC)
    assert refusal.value.__cause__ is None


HEADERS: Final = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"cookie", b"x-authorization"]),
        st.sampled_from([b"Basic", b"BASIC eA==", b"basic:", b"Bearer basic", b"Bas", b" Basic "])
        | st.binary(max_size=8),
    )
)


@given(headers=HEADERS)
def test_who_speaks_basic_does_so_in_an_authorization_header(
    headers: list[tuple[bytes, bytes]],
) -> None:
    """Whatever it says there; nobody else is challenged by it (RFC 6749 §5.2)."""
    begins = [value.lower().startswith(b"basic") for name, value in headers if name == NAME]
    assert speaks_basic(scope(headers=headers)) == any(begins)
