"""Settings: every number has a range and every word its choices, and nothing else is taken."""

from typing import Final

import msgspec
import pytest

from api.settings import Settings, SettingsError, load

FIELDS: Final = msgspec.structs.fields(Settings)
OF_OUR_PROCESSES: Final = {"WAKE_FD", "TURN_FD", "METRICS_FD", "WORKER_NUMBER"}
"""What one process of the service tells another."""
LISTS: Final = {"HOST", "TRUSTED_PROXIES"}

_TIMEOUT: Final = ("0", "0.001", "3600", "3601")
_RATE: Final = ("0.9", "1", "1000000", "1000001")
_SECONDS_OF_AN_OVERLAP: Final = ("0", "1", "2592000", "2592001")
RANGES: Final = {
    "PORT": ("-1", "0", "65535", "65536"),
    "WORKERS": ("0", "1", "64", "65"),
    "UPSTREAM_CONNECT_TIMEOUT_S": _TIMEOUT,
    "UPSTREAM_HEAD_TIMEOUT_S": _TIMEOUT,
    "UPSTREAM_IDLE_TIMEOUT_S": _TIMEOUT,
    "RATE_PER_TOKEN": _RATE,
    "RATE_PER_SOURCE": _RATE,
    "ROTATION_USED_APART_S": _SECONDS_OF_AN_OVERLAP,
    "ROTATION_SILENT_FOR_S": _SECONDS_OF_AN_OVERLAP,
    "TRACES_SAMPLE": ("-0.1", "0", "1", "1.1"),
}
"""Below, the least, the most, above."""
WORDS: Final = {
    "ENVIRONMENT": ["live", "test"],
    "ON_LEAK": ["revoke", "mark"],
    "LOG_LEVEL": ["debug", "info", "warning", "error"],
    "LOG_FORMAT": ["json", "text"],
}


def test_every_number_and_every_word_is_looked_at() -> None:
    numbers = {field.encode_name for field in FIELDS if field.type in {int, float}}
    words = {field.encode_name for field in FIELDS if field.type is str}
    assert numbers - OF_OUR_PROCESSES == RANGES.keys()
    assert words - LISTS == WORDS.keys()


@pytest.mark.parametrize("name", RANGES)
def test_a_number_is_taken_up_to_both_ends_of_its_range_and_refused_beyond(name: str) -> None:
    below, least, most, above = RANGES[name]
    for value in (least, most):
        assert float(getattr(load({f"SCIM_LEDGER_{name}": value}), name.lower())) == float(value)
    for value in (below, above):
        with pytest.raises(SettingsError, match=f"^SCIM_LEDGER_{name} must be "):
            load({f"SCIM_LEDGER_{name}": value})


@pytest.mark.parametrize("name", WORDS)
def test_a_word_is_one_of_those_that_the_refusal_of_another_names(name: str) -> None:
    words = WORDS[name]
    for word in words:
        assert getattr(load({f"SCIM_LEDGER_{name}": word}), name.lower()) == word
    with pytest.raises(SettingsError) as refusal:
        load({f"SCIM_LEDGER_{name}": f"{words[0]}{words[1]}"})
    choices = f"{', '.join(words[:-1])} or {words[-1]}"
    assert str(refusal.value) == f"SCIM_LEDGER_{name} must be {choices}"


@pytest.mark.parametrize("hosts", [",", "127.0.0.1,", ", ::1", "127.0.0.1,,::1", "[]", "::1,[]"])
def test_an_address_that_is_left_out_is_not_taken_for_every_address(hosts: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load({"SCIM_LEDGER_HOST": hosts})
    assert str(refusal.value) == "SCIM_LEDGER_HOST must be addresses, such as 127.0.0.1,::1"
