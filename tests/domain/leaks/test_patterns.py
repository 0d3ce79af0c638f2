"""What scanners are given: it matches every secret of ours, whole, and no near miss."""

import re
import tomllib
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.leaks.patterns import WHOLE_PATTERN, github_types, gitleaks_rule
from domain.secret import SecretKind, mint

RULE: Final = tomllib.loads(gitleaks_rule())["rules"][0]
prefixes = st.from_regex("[a-z0-9]{2,16}", fullmatch=True)
secrets = st.builds(
    lambda kind, entropy, prefix: mint(kind, entropy, prefix=prefix).reveal(),
    st.sampled_from(SecretKind),
    st.binary(min_size=32, max_size=32),
    st.none() | prefixes,
)


def test_gitleaks_has_one_rule_with_what_it_needs() -> None:
    assert RULE.keys() == {"id", "description", "regex", "keywords"}
    assert RULE["regex"] == WHOLE_PATTERN


@given(secrets)
def test_a_secret_is_matched_whole_and_has_a_keyword(secret: str) -> None:
    for text in (secret, f'"{secret}"', f"token={secret}\n", f"Bearer {secret}, and more"):
        found = re.search(WHOLE_PATTERN, text)
        assert found is not None
        assert found[0] == secret
    assert any(keyword in secret for keyword in RULE["keywords"])


@given(secrets)
def test_what_is_shorter_or_goes_on_is_not_matched(secret: str) -> None:
    for near in (secret[:-1], secret + "0", secret.upper(), secret.replace("_", "-")):
        assert re.search(WHOLE_PATTERN, near) is None


@given(prefixes, prefixes, st.sampled_from(SecretKind), st.binary(min_size=32, max_size=32))
def test_github_knows_each_secret_of_the_issuer_by_exactly_one_type(
    prefix: str, other: str, kind: SecretKind, entropy: bytes
) -> None:
    secret = mint(kind, entropy, prefix=prefix).reveal()
    types = [each.type for each in github_types(prefix) if re.fullmatch(each.pattern, secret)]
    assert types == [f"{prefix}_{kind.partition('_')[0]}_token"]
    foreign = mint(kind, entropy, prefix=other).reveal()
    if other != prefix:
        assert not any(re.fullmatch(each.pattern, foreign) for each in github_types(prefix))


@pytest.mark.parametrize("pattern", [WHOLE_PATTERN, *(e.pattern for e in github_types("acme"))])
def test_a_pattern_has_no_construct_that_scanners_lack(pattern: str) -> None:
    """RE2 and Hyperscan have no look-around and no back reference."""
    assert re.fullmatch(r"(?:[\w\[\]{},|-]|\(\?:|\)\??|\\b)+", pattern)
