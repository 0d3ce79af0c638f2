"""Settings: what is read from where, and errors that name a variable and never tell its value."""

import os
import socket
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from api.settings import (
    Settings,
    SettingsError,
    UnusableFile,
    finish_rule,
    load,
    pepper_keys,
    text_of,
    trusted_networks,
)
from api.settings.settings import RESTORE_PEPPER
from domain.errors import InvalidValue
from domain.scim_token.rotation import DEFAULT_RULE, FinishRule
from tests.turns import by_turns

SECRET: Final = "hunter2-hunter2-hunter2-hunter2-hunter2"


def refused(environment: dict[str, str], /, **flags: object) -> str:
    """What is said about settings that are not taken; never a value."""
    with pytest.raises(InvalidValue if flags and not environment else SettingsError) as refusal:
        load(environment, **flags)
    text = str(refusal.value)
    assert SECRET not in text
    assert "\n" not in text
    assert refusal.value.__cause__ is None
    return text


def test_without_variables_the_defaults_hold() -> None:
    assert load({}) == Settings()
    assert load({"PATH": "/bin", "HOME": "/root"}) == Settings()


def test_variables_are_converted() -> None:
    settings = load(
        {
            "SCIM_LEDGER_HOST": "::1",
            "SCIM_LEDGER_PORT": "0",
            "SCIM_LEDGER_WORKERS": "64",
            "SCIM_LEDGER_DATA_DIR": "/var/lib/ledger",
            "SCIM_LEDGER_ENVIRONMENT": "test",
            "SCIM_LEDGER_ALLOW_UNSAFE_DATABASE": "true",
            "SCIM_LEDGER_WAKE_FD": "7",
            "SCIM_LEDGER_TURN_FD": "8",
        }
    )
    assert settings == Settings(
        host="::1",
        port=0,
        workers=64,
        data_dir=Path("/var/lib/ledger"),
        environment="test",
        allow_unsafe_database=True,
        wake_fd=7,
        turn_fd=8,
    )


def test_when_a_rotation_finishes_is_set_in_seconds() -> None:
    assert finish_rule(load({})) == DEFAULT_RULE
    settings = load(
        {
            "SCIM_LEDGER_ROTATION_USED_APART_S": "60",
            "SCIM_LEDGER_ROTATION_SILENT_FOR_S": "7200",
        }
    )
    assert finish_rule(settings) == FinishRule(
        used_apart=timedelta(minutes=1), silent_for=timedelta(hours=2)
    )


def test_database_url_goes_without_the_prefix() -> None:
    assert load({"DATABASE_URL": "postgresql://a/b"}).database_url == "postgresql://a/b"


def test_the_prefixed_database_url_wins() -> None:
    both = {
        "DATABASE_URL": "postgresql://plain/b",
        "SCIM_LEDGER_DATABASE_URL": "postgresql://ours/b",
    }
    assert load(both).database_url == "postgresql://ours/b"


def test_flags_win_over_variables_and_none_is_no_flag() -> None:
    environment = {"SCIM_LEDGER_PORT": "1", "SCIM_LEDGER_HOST": "0.0.0.0"}
    settings = load(environment, port=2, host=None, data_dir=Path("/data"))
    assert (settings.port, settings.host, settings.data_dir) == (2, "0.0.0.0", Path("/data"))


def test_an_empty_variable_is_none() -> None:
    assert load({"SCIM_LEDGER_PORT": "", "SCIM_LEDGER_PEPPER": ""}) == Settings()


def test_an_unknown_variable_is_named() -> None:
    nearest = "; do you mean SCIM_LEDGER_PORT?"
    for name in ("SCIM_LEDGER_PROT", "SCIM_LEDGER_port"):
        assert refused({name: SECRET}) == f"unknown setting {name}{nearest}"
    assert refused({"SCIM_LEDGER_QQQ": SECRET}) == "unknown setting SCIM_LEDGER_QQQ"


TYPED: Final = {
    **dict.fromkeys(("PORT", "WORKERS", "WAKE_FD"), "must be a whole number without a unit"),
    "ROTATION_SILENT_FOR_S": "must be a whole number of seconds, without a unit",
    "UPSTREAM_HEAD_TIMEOUT_S": "must be a number of seconds, without a unit",
    **dict.fromkeys(("RATE_PER_TOKEN", "TRACES_SAMPLE"), "must be a number without a unit"),
    **dict.fromkeys(("CONSOLE", "ALLOW_UNSAFE_DATABASE"), "must be true or false"),
}


@pytest.mark.parametrize("value", [SECRET, "5s", "yes", "2,5", "1 000", "on"])
@pytest.mark.parametrize("name", TYPED)
def test_a_value_of_another_type_is_refused_and_told_what_it_must_be(name: str, value: str) -> None:
    assert refused({f"SCIM_LEDGER_{name}": value}) == f"SCIM_LEDGER_{name} {TYPED[name]}"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ENVIRONMENT", SECRET, "SCIM_LEDGER_ENVIRONMENT must be live or test"),
        ("LOG_LEVEL", SECRET, "SCIM_LEDGER_LOG_LEVEL must be debug, info, warning or error"),
        ("LOG_LEVEL", "verbose", "SCIM_LEDGER_LOG_LEVEL must be debug, info, warning or error"),
        ("WORKERS", "0", "SCIM_LEDGER_WORKERS must be 1 to 64"),
        ("WORKERS", "65", "SCIM_LEDGER_WORKERS must be 1 to 64"),
        ("PORT", "-1", "SCIM_LEDGER_PORT must be 0 to 65535"),
        ("PORT", "65536", "SCIM_LEDGER_PORT must be 0 to 65535"),
        (
            "HOST",
            "127.0.0.1,a..b",
            "SCIM_LEDGER_HOST names a host that no host can be called: correct the name",
        ),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: str, said: str) -> None:
    assert refused({f"SCIM_LEDGER_{name}": value}) == said


def test_a_flag_out_of_range_is_refused_like_a_variable_and_by_its_own_name() -> None:
    assert refused({}, workers=0) == "--workers: must be 1 to 64"
    assert refused({"SCIM_LEDGER_WORKERS": "0"}, port=8080) == "SCIM_LEDGER_WORKERS must be 1 to 64"
    assert load({"SCIM_LEDGER_WORKERS": "0"}, workers=1).workers == 1, "the flag wins"


@pytest.mark.parametrize("name", ["DATABASE_URL", "SCIM_LEDGER_DATABASE_URL"])
def test_a_variable_is_named_as_it_was_given(name: str) -> None:
    assert refused({name: SECRET}).startswith(f"{name} is not a connection string of PostgreSQL: ")


def test_two_sources_of_the_pepper_are_one_too_many() -> None:
    both = {"SCIM_LEDGER_PEPPER": SECRET, "SCIM_LEDGER_PEPPER_FILE": f"/run/{SECRET}"}
    assert refused(both) == "give SCIM_LEDGER_PEPPER or SCIM_LEDGER_PEPPER_FILE, not both"


def test_the_word_retired_stands_in_the_place_of_a_key() -> None:
    assert pepper_keys(Settings(pepper=f"retired,{SECRET}")) == [None, SECRET.encode()]
    with pytest.raises(SettingsError, match="never retired"):
        pepper_keys(Settings(pepper=f"{SECRET},retired"))


@pytest.mark.parametrize("text", ["one,two", "one two", "one\ntwo\n", " one ,\n two ", "one,,two"])
def test_pepper_keys_are_separated_by_commas_or_white_space(text: str, tmp_path: Path) -> None:
    file, keys = tmp_path / "pepper", ["1" * 32, "2" * 32]
    text = text.replace("one", keys[0]).replace("two", keys[1])
    file.write_text(text)
    for settings in (Settings(pepper=text), Settings(pepper_file=file)):
        assert pepper_keys(settings) == [key.encode() for key in keys]


def test_a_short_key_is_refused_and_not_told() -> None:
    with pytest.raises(SettingsError) as refusal:
        pepper_keys(Settings(pepper=f"{SECRET},{SECRET[:31]}"))
    assert str(refusal.value) == "each key of the pepper needs at least 32 bytes"


@pytest.mark.parametrize("name", ["DATABASE_URL", "OWNER_DATABASE_URL"])
def test_a_connection_string_that_cannot_be_read_is_not_quoted(name: str) -> None:
    said = f"SCIM_LEDGER_{name} is not a connection string of PostgreSQL: "
    escapes = "in a URL, the characters / and @ of a password are written %2F and %40"
    assert (
        refused({f"SCIM_LEDGER_{name}": f"postgres//user:{SECRET}@host/ledger"}) == said + escapes
    )
    assert refused({f"SCIM_LEDGER_{name}": f"host=a passwort={SECRET}"}).startswith(said)


UNREADABLE: Final = {
    "host=h port=abc": "its port is no number",
    "host=h port=-1": "its port is no number",
    f"host=h password={SECRET} passwort={SECRET}": "it has an option that there is not",
    f"postgresql://u:{SECRET}@h/x?{SECRET}=1": "it has an option that there is not",
    f"postgresql://u:{SECRET}@h/x?sslmode": "behind the ? of a URL is written name=value",
    f"postgresql://u:{SECRET}%zz@h/x": "the character % is written %25",
    f"postgresql://u:{SECRET}%@h/x": "the character % is written %25",
    f"postgresql://u:{SECRET}%00@h/x": "the character % is written %25",
    f"host=h password={SECRET} {SECRET}": "write postgresql://user@host:port/database, or name=",
    f"host=h password='{SECRET}": "write postgresql://user@host:port/database, or name=",
    "localhost": "write postgresql://user@host:port/database, or name=",
    **dict.fromkeys(
        ("host=a..b", f"host=h,{'a' * 64}.example", "postgresql://.../x", f"host={'é' * 70}"),
        "names a host that no host can be called",
    ),
}


@pytest.mark.parametrize("conninfo", UNREADABLE)
def test_what_is_wrong_with_a_connection_string_is_said_and_nothing_of_it(conninfo: str) -> None:
    said = refused({"DATABASE_URL": conninfo})
    assert UNREADABLE[conninfo] in said
    assert SECRET not in said
    assert "%2F" not in said


NUMBERS: Final = [
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval"),
    *("keepalives_count", "tcp_user_timeout"),
]
CHOICES: Final = [
    *("channel_binding", "gssencmode", "load_balance_hosts", "require_auth", "scram_client_key"),
    *("ssl_min_protocol_version", "sslcertmode", "sslmode", "sslnegotiation"),
    "target_session_attrs",
]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *product(NUMBERS, (SECRET, "", "1.5", "5s", f"{2**31}", f"{-(2**31) - 1}", "-")),
        *product(CHOICES, (SECRET, "1")),
        ("port", "0"),
        ("port", "65536"),
        ("port", "1,2,3"),
        ("sslmode", "prefer&sslnegotiation=direct"),
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "SCIM_LEDGER_OWNER_DATABASE_URL"])
def test_an_option_that_libpq_would_not_take_is_refused_by_its_name(
    name: str, option: str, value: str
) -> None:
    given = {"DATABASE_URL": "host=h", name: f"postgresql://u@h,i/x?{option}={value}"}
    assert refused(given) == f"{name} gives {option} a value that it cannot have: correct it"


@pytest.mark.parametrize(
    "options",
    [
        "connect_timeout=10&keepalives=0&keepalives_idle=-1&tcp_user_timeout=0",
        f"connect_timeout={2**31 - 1}&keepalives_idle={-(2**31)}",
        "sslmode=verify-full&sslrootcert=system&target_session_attrs=read-write&port=1,2",
        "gssencmode=require&channel_binding=require&load_balance_hosts=random&sslkey=missing",
        "service=elsewhere&hostaddr=192.0.2.1,192.0.2.2",
    ],
)
def test_an_option_that_libpq_may_take_is_left_to_the_server(
    options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "no part of the setting")
    url = f"postgresql://u@h,i/x?{options}"
    assert load({"DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize("cut", ["/", "@"])
@pytest.mark.parametrize("host", ["h", "h:5432", "h1,h2:1", "[::1]:1", ""])
@pytest.mark.parametrize("before", ["", "12", SECRET])
def test_a_password_that_cuts_its_url_is_refused_with_the_way_to_write_it(
    before: str, host: str, cut: str
) -> None:
    url = f"postgresql://app:{before}{{}}{SECRET}@{host}/ledger"
    assert refused({"DATABASE_URL": url.format(cut)}).endswith("are written %2F and %40")
    escaped = url.format(f"%{ord(cut):X}")
    assert load({"DATABASE_URL": escaped}).database_url == escaped


@pytest.mark.parametrize(
    "conninfo",
    [
        *("postgresql:///ledger?host=@abstract", "host=@abstract dbname=a@b user=u", "dbname=x"),
        *("postgresql://u@h1:1,h2:2/a%40b", "postgresql://u@h1,h2/x", "service=x", "host=a,b"),
        *("host=zoë.example", "host=/run/a..b", "host=a.example.", "host='' dbname=x"),
        *("host=10.0.0.1,::1", "postgresql://[::1]/x", "host=,a", "host=a_b"),
    ],
)
def test_what_only_looks_cut_is_taken(conninfo: str) -> None:
    assert load({"DATABASE_URL": conninfo}).database_url == conninfo


@pytest.mark.parametrize("pepper", [None, "", " , \n"])
def test_without_a_pepper_there_is_no_service(pepper: str | None) -> None:
    with pytest.raises(SettingsError, match="a pepper is needed: set SCIM_LEDGER_PEPPER_FILE"):
        pepper_keys(Settings(pepper=pepper))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\xff" + SECRET.encode(), "cannot be read (it is no ASCII text)"),
        (SECRET[:31].encode(), "each key of the pepper needs at least 32 bytes"),
        (b"retired", "the newest key of the pepper must be there"),
        (b" ,\n", "a pepper is needed"),
        (b"", "is empty"),
        (b" \n", "is empty"),
    ],
)
def test_a_pepper_file_that_is_no_good_is_said_with_its_path_and_without_its_bytes(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "pepper"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as refusal:
        pepper_keys(Settings(pepper_file=path))
    text = str(refusal.value)
    assert text.startswith("SCIM_LEDGER_PEPPER_FILE: ")
    assert f"{path}" in text
    assert said in text
    assert text.endswith(f": {RESTORE_PEPPER}")
    assert SECRET[:31] not in text
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "directory", "device", "socket"])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "named"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "link to a pipe":
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to(tmp_path / "pipe")
        case "directory":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(os.fspath(path))
    with pytest.raises(UnusableFile, match=r"^NAMED: .*named cannot be read \(it is no file\)"):
        text_of("NAMED", path, remedy="name one")


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret."""
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert text_of("NAMED", tmp_path / "link", remedy="") == "text"


def test_a_key_that_is_given_for_its_file_is_not_told() -> None:
    """What is no absolute path; where it was looked for is told instead."""
    with pytest.raises(SettingsError) as refusal:
        pepper_keys(Settings(pepper_file=Path(SECRET)))
    assert SECRET not in str(refusal.value)
    assert f"a relative path, looked for in {Path.cwd()}" in str(refusal.value)


NO_BASE_URLS: Final = [
    *("scim.internal", "ftp://scim.internal", "http://", "http://u:hunter2@x", "http://x/?a=b"),
    *("http://x/#f", "http://x:99999", "http://x y/", "http://[::1", "http://x/\N{SNOWMAN}"),
    *("http://:hunter2@x", "http://x?", "http://x/#", "http://x:0", "http://x:y", "http://x\\y"),
]
"""Addresses that no path can be put behind."""


@pytest.mark.parametrize("url", NO_BASE_URLS)
@pytest.mark.parametrize(
    "name", ["SCIM_UPSTREAM_URL", "SCIM_LEDGER_SCIM_BASE_URL", "SCIM_LEDGER_TRACES_ENDPOINT"]
)
def test_an_address_that_is_no_plain_one_is_refused_and_not_quoted(name: str, url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: url})
    assert f"{name} must be http(s)://host[:port][/path]" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_upstream_goes_without_the_prefix_and_the_prefixed_one_wins() -> None:
    assert load({"SCIM_UPSTREAM_URL": "http://a:1/scim"}).scim_upstream_url == "http://a:1/scim"
    both = {"SCIM_UPSTREAM_URL": "http://a", "SCIM_LEDGER_SCIM_UPSTREAM_URL": "https://b"}
    assert load(both).scim_upstream_url == "https://b"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("RATE_PER_TOKEN", value) for value in ("-1", "0.5", "nan", "inf", "x")),
        *(("UPSTREAM_IDLE_TIMEOUT_S", value) for value in ("0", "-1", "nan", "inf", "3601")),
        *(("TRUSTED_PROXIES", value) for value in ("proxy", "10.0.0.1/8", "10.0.0.0/33", "*")),
    ],
)
def test_limits_and_networks_out_of_range_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({f"SCIM_LEDGER_{name}": value})


def test_trusted_proxies_are_networks_or_addresses() -> None:
    """An IPv4 one in IPv6 clothes, as a log tells it, is the one that it is."""
    told = "10.0.0.0/8, 192.0.2.1 ::1 ::ffff:172.18.0.2,::ffff:172.19.0.0/112"
    settings = load({"SCIM_LEDGER_TRUSTED_PROXIES": told})
    assert [str(network) for network in trusted_networks(settings)] == [
        "10.0.0.0/8",
        "192.0.2.1/32",
        "::1/128",
        "172.18.0.2/32",
        "172.19.0.0/16",
    ]


def test_a_limit_of_zero_is_none() -> None:
    assert load({"SCIM_LEDGER_RATE_PER_SOURCE": "0"}).rate_per_source == 0


GOOD: Final = {
    "DATABASE_URL": "postgresql://a/b",
    "OWNER_DATABASE_URL": "host=a dbname=b password=c",
    "HOST": "::1",
    "PORT": "1",
    "WORKERS": "2",
    "DATA_DIR": "/data",
    "FIRST_TOKEN_FILE": "/run/token",
    "PEPPER": "k" * 32,
    "PEPPER_FILE": "/run/pepper",
    "ENVIRONMENT": "test",
    "ALLOW_UNSAFE_DATABASE": "true",
    "PUBLIC_METRICS": "true",
    "SCIM_UPSTREAM_URL": "http://a:1/scim",
    "SCIM_BASE_URL": "https://a/scim/v2",
    "FORWARD_AUTHORIZATION": "true",
    "TRUSTED_PROXIES": "10.0.0.0/8",
    "RATE_PER_TOKEN": "5",
    "LOG_LEVEL": "debug",
}


@pytest.mark.parametrize(
    ("name", "around"),
    by_turns(
        product(GOOD, ["{}\n", "{}\r\n", " {}", "\t{} ", "\ufeff{}", "{}\u00a0", "{}\u2028"]),
        one_of=9,
    ),
)
def test_what_an_editor_or_echo_leaves_around_a_value_is_no_part_of_it(
    name: str, around: str
) -> None:
    """C6: `echo` into a Kubernetes secret."""
    value = GOOD[name]
    beside = {"DATABASE_URL": GOOD["DATABASE_URL"]} if name == "OWNER_DATABASE_URL" else {}
    plain = load({f"SCIM_LEDGER_{name}": value} | beside)
    assert plain != Settings()
    assert load({f"SCIM_LEDGER_{name}": around.format(value)} | beside) == plain
    assert load(beside, **{name.lower(): around.format(value)}) == plain
    if name in {"DATABASE_URL", "SCIM_UPSTREAM_URL"}:
        assert load({name: around.format(value)}) == plain


@pytest.mark.parametrize(
    ("name", "within"),
    by_turns(
        product(
            sorted(GOOD.keys() - {"PEPPER"}),
            ["\n", "\r", "\x00", "\x1b", "\u202e", "\u2028", "\u200b", "\udc80"],
        ),
        one_of=9,
    ),
)
def test_a_character_that_nobody_sees_within_a_value_is_refused_by_the_settings_name(
    name: str, within: str
) -> None:
    """C6."""
    value = f"{SECRET}{within}{SECRET}"
    said = f"SCIM_LEDGER_{name} holds a character that is not printable, such as a newline"
    assert refused({f"SCIM_LEDGER_{name}": value}) == said
    flag = f"--{name.lower().replace('_', '-')}"
    assert refused({}, **{name.lower(): value}) == said.replace(f"SCIM_LEDGER_{name} ", f"{flag}: ")


@pytest.mark.parametrize("name", ["DATABASE_URL", "OWNER_DATABASE_URL"])
@pytest.mark.parametrize(
    "url", ["postgresql://h/b%0A", "postgresql://u%20@h/b", "host=h dbname='b '"]
)
def test_a_database_is_not_named_with_a_newline_or_a_blank(name: str, url: str) -> None:
    """C6: the escapes of a URL, and quotes, would let one through."""
    assert "with a blank at an end or a newline in it" in refused({f"SCIM_LEDGER_{name}": url})
