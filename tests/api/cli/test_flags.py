"""What is wrong with a command line is told by the name that was typed,
of each argument of each command.
"""

from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Final, get_args
from uuid import UUID, uuid4

import pytest
from cyclopts import App, CycloptsError
from hypothesis import example, given
from hypothesis import strategies as st

from api.cli.commands import app
from api.cli.usage_errors import usage_line
from api.settings import PREFIX, Settings
from domain.errors import InvalidValue
from tests.api.cli.test_commands import USER, commands, refused, run, told
from tests.conftest import Database, catch_up
from tests.domain.scenario import T0, T1, created
from tests.projections.given_events import record
from tests.turns import by_turns

NOTHING: Final = "\x01"
"""No argument can have this value: it is no id, no number, no instant, no word,
and not printable.
"""
FREE: Final = {
    # a file may be called anything
    *(("backup", "FILE"), ("restore", "FILE"), ("deploy copy", "INTO")),
    # only what can be kept is kept
    *(("token report-leak", "--url"), ("token report-leak", "--source")),
    *((f"repair {what}", "--reason") for what in ("ledger-time", "states", "pepper", "forget")),
}
GOOD: Final[dict[Any, str]] = {
    UUID: str(uuid4()),
    str: "scim_tokens",
    Path: "file",
    int: "1",
    list[str]: "192.0.2.0/24",
}
GOOD_OF: Final = {"--base-url": "https://ledger.example.com"}
"""Where not every good value of a type is one."""
NAMED: Final = [(name, command) for name, command in commands(app) if name]


def arguments(command: App) -> dict[str, Any]:
    """The arguments that take a value, as an operator names them."""
    return {
        argument.name
        if argument.index is None
        else argument.name.removeprefix("--").upper(): argument
        for argument in command.assemble_argument_collection()
        if argument.name != "*" and argument.hint is not bool
    }


def with_value(command: App, name: str, value: str) -> list[str]:
    """A command line with all that the command requires, and this value of this argument."""
    words = []
    for other, argument in arguments(command).items():
        if other == name or argument.required:
            words += [] if argument.index is not None else [other]
            words += [value if other == name else GOOD_OF.get(other) or GOOD[argument.hint]]
    return words


@pytest.mark.parametrize(
    ("name", "command"), by_turns(NAMED, one_of=12), ids=[name for name, _ in NAMED]
)
def test_each_argument_is_told_by_its_own_name(database: Database, name: str, command: App) -> None:
    for argument in arguments(command):
        if (name, argument) in FREE:
            continue
        said = refused(
            database.app, *name.split(), *with_value(command, argument, NOTHING), exit_code=2
        )
        assert said.startswith(f"{argument}: "), (name, argument)


@pytest.mark.parametrize("text", by_turns(["null", "", "none", "NULL", "[]", "[null]"], one_of=4))
def test_no_text_is_taken_for_an_argument_that_is_left_out(text: str) -> None:
    """A script that finds no team shall not mean all of them, nor here with no directory."""
    seen = set()
    for name, command in NAMED:
        for argument in arguments(command):
            line = [*name.split(), *with_value(command, argument, text)]
            try:
                _, bound, _ = app.parse_args(line, exit_on_error=False, print_error=False)
            except (CycloptsError, InvalidValue):
                seen.add("refused")
            else:
                assert text in _texts(bound.arguments.values()), (name, argument)
                seen.add("taken")
    assert seen == {"refused", "taken"}


def _texts(values: Iterable[Any]) -> Iterator[str]:
    """All values of a command, those of its lists and groups of flags each by itself."""
    for value in values:
        if is_dataclass(value):
            yield from _texts(vars(value).values())
        elif isinstance(value, list | tuple):
            yield from _texts(value)
        elif value is not None:
            yield str(value)


def test_nothing_is_no_path() -> None:
    for name, command in NAMED:
        for argument, found in arguments(command).items():
            if Path in {found.hint, *get_args(found.hint)}:
                line = [*name.split(), *with_value(command, argument, "")]
                with pytest.raises(CycloptsError) as refusal:
                    app.parse_args(line, exit_on_error=False, print_error=False)
                assert usage_line(refusal.value) == f"{argument}: '' is not a path"


@given(st.text("+-.0123456789_abefnox\u0665\uff15 ", min_size=1))
@example("36500")
@example("1.0e999")
@example("0" * 5000)
@example("9" * 5000)
def test_a_number_is_the_one_that_was_typed(text: str) -> None:
    """The API takes no other, either."""
    try:
        _, bound, _ = app.parse_args(
            ["token", "list", "--limit", text], exit_on_error=False, print_error=False
        )
    except CycloptsError:
        assert text != "36500"
    else:
        assert text in {"-0", str(bound.arguments["limit"])}


def test_a_number_is_never_rounded() -> None:
    """An overlap of 0.4 seconds would be none."""
    seen = 0
    for name, command in NAMED:
        for argument, found in arguments(command).items():
            if int not in {found.hint, *get_args(found.hint)}:
                continue
            for text in ("0.4", "1.0", "1.5e400"):
                line = [*name.split(), *with_value(command, argument, text)]
                with pytest.raises(CycloptsError) as refusal:
                    app.parse_args(line, exit_on_error=False, print_error=False)
                assert usage_line(refusal.value) == f"{argument}: {text!r} is not a whole number"
            seen += 1
    assert seen


def test_a_script_that_found_nothing_lifts_nothing(database: Database) -> None:
    """As `jq -r` tells it."""
    create = ("token", "create", "--team", USER, "--user", USER, "--name", "n")
    made = told(database.app, *create)
    told(database.app, "policy", "set", "--expiry-required")
    for line in (
        ("api-token", "create", "--user", USER, "--team"),
        ("policy", "set", "--max-live-tokens", "5", "--team"),
        ("token", "revoke-many", "--confirm", "--created-by", USER, "--team"),
        ("token", "revoke-many", "--confirm", "--created-by", USER, "--token"),
        ("token", "revoke", made["id"], "--if-unused-since"),
        ("audit", "export", "--team"),
    ):
        for text in ("null", "[]"):
            said = refused(database.app, *line, text, exit_code=2)
            assert said.startswith(f"{line[-1]}: ")
    assert told(database.app, "policy", "show")["expiry_required"]
    assert told(database.app, "token", "show", made["id"])["revoked_at"] is None
    assert told(database.app, "api-token", "list") == []


@pytest.mark.parametrize(("name", "command"), NAMED, ids=[name for name, _ in NAMED])
def test_a_flag_does_nothing_until_it_is_typed_and_has_no_opposite(name: str, command: App) -> None:
    """`--empty-team` would mean every team, and `--no-json` nothing."""
    for argument in command.assemble_argument_collection(default_parameter=app.default_parameter):
        assert argument.hint is not bool or argument.field_info.default is False, argument.name
        assert not argument.negatives, (name, argument.negatives)


REQUIRED: Final = [
    (name, command, left_out)
    for name, command in NAMED
    for left_out, argument in arguments(command).items()
    if argument.required
]


@pytest.mark.parametrize(("name", "command", "left_out"), by_turns(REQUIRED, one_of=6))
def test_what_is_left_out_is_required(name: str, command: App, left_out: str) -> None:
    words = with_value(command, left_out, NOTHING)
    at = words.index(NOTHING)
    unreachable = "postgresql://nobody@127.0.0.1:1/nothing"
    del words[at - 1 if left_out.startswith("--") else at : at + 1]
    said = refused(unreachable, *name.split(), *words, exit_code=2)
    if left_out.startswith("--"):
        assert said == f"{left_out} is required; see --help"
        alone = refused(unreachable, *name.split(), *words, left_out, exit_code=2)
        assert alone == f"{left_out} requires an argument; see --help"
    else:  # of several arguments the last one is missing
        assert said.endswith((" is required; see --help", " is not a UUID", " asks for a secret"))


SETTINGS: Final = [
    (name, command, argument)
    for name, command in NAMED
    for argument in arguments(command)
    if argument.removeprefix("--").replace("-", "_") in Settings.__struct_fields__
]


@pytest.mark.parametrize(
    ("name", "command", "flag"),
    by_turns(SETTINGS, one_of=12),
    ids=[f"{name} {flag}" for name, _, flag in SETTINGS],
)
def test_a_setting_is_told_by_the_flag_or_by_the_variable(
    name: str, command: App, flag: str
) -> None:
    """Each as it was given, for all that can be given both ways."""
    variable = PREFIX + flag.removeprefix("--").replace("-", "_").upper()
    unreachable = "postgresql://nobody@127.0.0.1:1/nothing"
    required = with_value(command, "", "")
    by_variable = run(unreachable, *name.split(), *required, **{variable: f"a{NOTHING}"})
    assert (
        f"{variable} holds a character that is not printable"
        in by_variable.stdout + by_variable.stderr
    )
    assert by_variable.exit_code == 1
    by_flag = refused(unreachable, *name.split(), *with_value(command, flag, NOTHING), exit_code=2)
    assert by_flag.startswith(f"{flag}: ")


OF_A_DIRECTORY: Final = [
    (name, command) for name, command in NAMED if "--data-dir" in arguments(command)
]


@pytest.mark.parametrize(
    ("variable", "name", "command"),
    by_turns(
        [
            (variable, *each)
            for variable in ("DATABASE_URL", "SCIM_LEDGER_DATABASE_URL")
            for each in OF_A_DIRECTORY
        ],
        one_of=5,
        is_kept=lambda _, name, __: name in {"restore", "recover", "serve", "doctor"},
    ),
)
def test_a_directory_beside_a_server_is_refused_before_either_is_touched(
    tmp_path: Path, variable: str, name: str, command: App
) -> None:
    """Whoever names an empty directory shall not reach production."""
    line = [*name.split(), *with_value(command, "--data-dir", str(tmp_path / "ledger"))]
    server = {variable: "postgresql://nobody@127.0.0.1:1/nothing"}
    said = refused(None, *line, exit_code=2, **server)
    assert said == (
        f"--data-dir: has no use with {variable}, which names the ledger's server: "
        "leave it out, or unset the variable"
    )
    assert [*tmp_path.iterdir()] == []


NO_LEDGER: Final[dict[str, dict[str, str]]] = {
    "SCIM_LEDGER_OWNER_DATABASE_URL has no use for the embedded server: set DATABASE_URL too": {
        "SCIM_LEDGER_OWNER_DATABASE_URL": "postgresql://owner@127.0.0.1:1/nothing"
    },
    "DATABASE_URL is set, and empty: unset it": {"DATABASE_URL": ""},
    "unknown setting DATABSE_URL; do you mean DATABASE_URL?": {
        "DATABSE_URL": "postgresql://nobody@127.0.0.1:1/nothing"
    },
    "SCIM_LEDGER_DATA_DIR must be an absolute path": {"SCIM_LEDGER_DATA_DIR": "ledger"},
}


@pytest.mark.parametrize(
    ("name", "command", "said"),
    by_turns(
        [(*each, said) for said in NO_LEDGER for each in OF_A_DIRECTORY],
        one_of=12,
        is_kept=lambda name, *_: name in {"migrate", "serve"},
    ),
)
def test_no_command_makes_a_ledger_where_another_was_meant(
    tmp_path: Path, name: str, command: App, said: str
) -> None:
    """Each says so, and touches nothing."""
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    done = run(None, *name.split(), *with_value(command, "", ""), **home, **NO_LEDGER[said])
    assert done.exit_code == 1
    assert said in done.stdout + done.stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["DATABASE_URL", "SCIM_LEDGER_DATABASE_URL"])
def test_a_variable_is_told_with_or_without_its_prefix_as_it_was_given(name: str) -> None:
    done = run(None, "token", "list", **{name: "postgres//host"})
    assert done.exit_code == 1
    said = f"scim-ledger: {name} is not a connection string of PostgreSQL: in a URL, "
    assert done.stderr.startswith(said)


def test_a_rule_of_the_domain_is_told_by_the_flag(database: Database) -> None:
    line = ["token", "create", "--team", str(uuid4()), "--user", str(uuid4()), "--name", "n"]
    said = refused(database.app, *line, "--expires-at", "2001-01-01T00:00:00Z", exit_code=2)
    assert said == "--expires-at: must be in the future"
    made = told(database.app, *line)
    assert refused(
        database.app, "token", "revoke", made["id"], "--reason", "r" * 201, exit_code=2
    ).startswith("--reason: must be 1 to ")


def test_what_no_flag_could_mend_is_a_refusal(database: Database) -> None:
    expired = record(database, created(T0, expires_at=T1))
    catch_up(database)
    assert refused(database.app, "token", "rotate", str(expired)) == (
        "the token has expired; create another"
    )
