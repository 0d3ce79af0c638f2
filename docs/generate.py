"""Writes the pages of the reference that follow from the code.

    python docs/generate.py [DIRECTORY]

They are docs/reference/problems.md, flags.md, event-fields.md and http.md, or files of these names
in another directory. `tests/docs/test_reference.py` compares the committed pages with these.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cyclopts import App
from litestar.testing import TestClient

from api.app import build
from api.cli.commands import app
from api.http.problem_types import PROBLEM_TYPES
from api.settings import Settings
from domain import policy
from domain.api_token import events as api_token
from domain.archive import extended as archive
from domain.event import Event
from domain.keyring import retirement as keyring
from domain.losses import declared as losses
from domain.refusals import tally as refusal_tally
from domain.scim_token import events as scim_token
from domain.scim_token import warnings

REFERENCE = Path(__file__).parent / "reference"
USUAL = {"400", "401", "403", "414", "431", "500", "501", "503"}
"""Problems that most operations have."""
EVENTS: Sequence[type[Event]] = (
    *scim_token.EVENTS,
    *warnings.EVENTS,
    *api_token.EVENTS,
    *policy.EVENTS,
    *keyring.EVENTS,
    *losses.EVENTS,
    *archive.EVENTS,
    *refusal_tally.EVENTS,
)
NOTHING = "–"  # noqa: RUF001 - as in the other tables
Document = Mapping[str, Any]


def problems() -> Iterator[str]:
    """A heading for each type of problem: its anchor is the last part of its URI."""
    yield "# Problems"
    yield (
        "Every error of the HTTP interface is a problem (RFC 9457), `application/problem+json`, "
        "but under `/scim/v2` and `/gateway`, where it is a SCIM error (RFC 7644 §3.12), under "
        "`/console`, where it is a page, and for what is wrong with the body of `POST "
        "/introspect` and `POST /revoke`, where OAuth has errors of its own. `type` is one of "
        "the following; the service has a page at each. `instance` is the id of the request, "
        "which the answer's `X-Request-Id` has, too, and what the log says of it. No problem "
        "echoes a secret."
    )
    for problem in PROBLEM_TYPES.values():
        yield f"## {problem.slug}"
        yield f"`{problem.uri}` · {problem.status} · *{problem.title}*"
        yield problem.remedy


def flags() -> Iterator[str]:
    """Every command with its arguments."""
    yield "# Flags of every command"
    yield (
        "What each command does beside the others, and what they have in common: [the command "
        "line](command-line.md). A flag without a value is a switch."
    )
    for name, command in sorted(commands(app)):
        yield f"## {name}"
        yield " ".join((command.help or "").split())
        rows = [
            row for argument in command.assemble_argument_collection() for row in flag(argument)
        ]
        if rows:
            yield "\n".join(["| flag | | unless given |", "|---|---|---|", *rows])


def commands(group: App, *names: str) -> Iterator[tuple[str, App]]:
    """Every command by its words, without those that group others."""
    for name in group:
        if not name.startswith("-"):
            command = group[name]
            inner = list(commands(command, *names, name))
            yield from inner
            if command.default_command is not None:
                yield " ".join([*names, name]), command


def flag(argument: Any) -> Iterator[str]:
    """A row of an argument that an operator may give."""
    if argument.name == "*" or argument.parameter.show is False:
        return
    name = argument.name
    if argument.index is not None:
        name = name.removeprefix("--").upper()
    default = argument.field_info.default
    if argument.required:
        told = "required"
    elif default in (None, False, ()) or default is argument.field_info.empty:
        told = NOTHING
    else:
        told = f"`{default}`"
    yield f"| `{name}` | {argument.parameter.help or ''} | {told} |"


def event_fields() -> Iterator[str]:
    """Every event with the fields that are stored as JSON in `state`."""
    yield "# Fields of every event"
    yield (
        "What [events](events.md) are stored as: the JSON in `state`. Instants are RFC 3339, "
        "ids are UUIDs. A field that is not required is left out where it says nothing."
    )
    schemas, parts = msgspec.json.schema_components(EVENTS, ref_template="{name}")
    by_topic = dict(zip((event.topic for event in EVENTS), schemas, strict=True))
    own = {schema["$ref"] for schema in schemas}
    for topic in sorted(by_topic):
        yield f"## {topic}"
        yield from fields_of(parts[by_topic[topic]["$ref"]])
    for name in sorted(parts.keys() - own):
        yield f"## {name}"
        yield from fields_of(parts[name])


def fields_of(schema: Document) -> Iterator[str]:
    """Its first sentence, and a row for each field."""
    if told := schema.get("description"):
        yield " ".join(told.partition("\n\n")[0].split())
    if "enum" in schema:
        yield shape(schema)
    rows = [
        f"| `{name}` | {shape(field)} | {'yes' if name in schema.get('required', ()) else ''} |"
        for name, field in schema.get("properties", {}).items()
    ]
    if rows:
        yield "\n".join(["| field | | required |", "|---|---|---|", *rows])


def http(document: Document) -> Iterator[str]:
    """Every operation with its parameters, its body and its answers."""
    yield "# The HTTP interface"
    yield (
        "What `/docs/openapi.json` of a running service says, in short; `/docs` is the same to "
        "be tried. Each operation wants an API token (`Authorization: Bearer …`), unless it "
        "says otherwise. Besides the answers that are listed, each may have 400, 401, 403, 414, "
        "431, 500, 501 and 503 ([problems](problems.md)). The doors `/scim/v2` and `/gateway/*` "
        "take a SCIM token and are no part of the document: see [gateways](gateways.md)."
    )
    operations: dict[str, list[tuple[str, Document]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            route = f"{method.upper()} {path}"
            operations.setdefault(operation["tags"][0], []).append((route, operation))
    for tag, tagged in operations.items():
        yield f"## {tag}"
        for route, operation in tagged:
            yield from one_operation(document, route, operation)


def one_operation(document: Document, route: str, operation: Document) -> Iterator[str]:
    """Its section."""
    yield f"### {operation['summary']}"
    statuses = [status for status in sorted(operation["responses"]) if status not in USUAL]
    public = " · without an API token" if operation.get("security") == [{}] else ""
    yield f"`{route}` → {', '.join(statuses)}{public}"
    yield operation["description"]
    rows = [row_of(parameter) for parameter in operation.get("parameters", ())]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        rows += list(body(document, media_type.rpartition("/")[2], content["schema"]))
    if rows:
        yield "\n".join(["| | in | | |", "|---|---|---|---|", *rows])


def row_of(parameter: Document) -> str:
    """Of the path, the query or the header section: there is no null in these."""
    told = shape(parameter["schema"]).removesuffix(" or null")
    said = one_line(parameter.get("description", ""))
    return f"| `{parameter['name']}` | {parameter['in']} | {told} | {said} |"


def body(document: Document, media_type: str, schema: Document, prefix: str = "") -> Iterator[str]:
    """A row for each field that a request may have."""
    for part in [
        *schema.get("oneOf", ()),
        *schema.get("allOf", ()),
        *filter(None, [schema.get("items")]),
    ]:
        yield from body(document, media_type, part, prefix)
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield from body(document, media_type, document["components"]["schemas"][name], prefix)
    for name, field in schema.get("properties", {}).items():
        needed = ", required" if name in schema.get("required", ()) else ""
        said = one_line(field.get("description", ""))
        yield f"| `{prefix}{name}` | {media_type} | {shape(field)}{needed} | {said} |"
        yield from body(document, media_type, field, f"{prefix}{name}.")


def shape(schema: Document) -> str:
    """Its type in a word or two."""
    choices = [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
    if choices:
        return " or ".join(dict.fromkeys(map(shape, choices)))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name if "/" in schema["$ref"] else f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"] if each is not None)
    if "items" in schema:
        return f"list of {shape(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or "object")


def one_line(text: str) -> str:
    """Fit for a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def pages() -> Iterator[tuple[str, str]]:
    """Each page's name and text."""
    settings = Settings(database_url="postgresql://127.0.0.1:1/nothing", pepper="k" * 43)
    with TestClient(build(settings)) as client:
        document = client.get("/docs/openapi.json").json()
    written = {
        "problems": problems(),
        "flags": flags(),
        "event-fields": event_fields(),
        "http": http(document),
    }
    for name, parts in written.items():
        said = "Written by `docs/generate.py`; do not change it by hand."
        title, *rest = (re.sub(r"\n{3,}", "\n\n", part.strip()) for part in parts)
        yield f"{name}.md", "\n\n".join([title, f"<!-- {said} -->", *rest]) + "\n"


def main(directory: Path) -> None:
    """Write them all."""
    for name, text in pages():
        (directory / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REFERENCE)
