"""GitHub's partner programme and GitLab's revocation API, over HTTP as they call us."""

import json
import sys
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from domain.api_token.permissions import Permission
from domain.secret import SecretKind, mint
from tests.api.cli.test_commands import refused, run
from tests.api.expected import assert_problem, create, topics
from tests.api.leaks.published import KEY, KEY_ID, keys_file
from tests.api.trail import audit
from tests.conftest import Database, new_database
from tests.service import Caller, RunningService, running_service

pytest.importorskip("cryptography", reason="pip install -r requirements-leaks.txt")

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

UNKNOWN: Final = mint(SecretKind.SCIM_LIVE, bytes(32)).reveal()
URL: Final = "https://github.com/octocat/Hello-World/blob/12345600b9cb/foo/bar.txt"
OUR_KEY: Final = generate_private_key(SECP256R1())
OUR_KEY_ID: Final = "a-key-of-this-test"
NOT_SIGNED: Final = "The signature is not one of GitHub's for this body."
TYPE: Final = "gitleaks_rule_id_scim-ledger-secret"


@pytest.fixture(scope="module")
def adapted(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with both adapters on."""
    ours = OUR_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path = keys_file(tmp_path_factory.mktemp("keys"), **{KEY_ID: KEY, OUR_KEY_ID: ours.decode()})
    settings = {
        "SCIM_LEDGER_GITHUB_KEYS_FILE": str(path),
        "SCIM_LEDGER_GITLAB_REVOCATION": "true",
    }
    with (
        new_database(server) as database,
        running_service(database, environment=settings) as service,
    ):
        yield service


@pytest.fixture(scope="module")
def its_admin(adapted: RunningService) -> Caller:
    return adapted.api_token()


def signed(body: bytes, *, key_id: str = OUR_KEY_ID) -> dict[str, str]:
    signature = OUR_KEY.sign(body, ECDSA(SHA256()))
    return {
        "Content-Type": "application/json",
        "Github-Public-Key-Identifier": key_id,
        "Github-Public-Key-Signature": b64encode(signature).decode(),
    }


def github(service: RunningService, *matches: Any) -> httpx.Response:
    body = json.dumps(matches).encode()
    return service.client.post("/leak-report/github", content=body, headers=signed(body))


def label(token: str, label: str) -> dict[str, str]:
    hashed = sha256(token.encode()).hexdigest()
    return {"token_hash": hashed, "token_type": "acme_scim_token", "label": label}


class TestGithub:
    def test_a_match_ends_its_token_and_is_a_true_positive(
        self, adapted: RunningService, its_admin: Caller
    ) -> None:
        made = create(adapted, its_admin)
        match = {"type": "acme_scim_token", "url": URL, "source": "commit", "new_field": 1}
        answer = github(
            adapted, *({"token": text, **match} for text in (made["token"], UNKNOWN, "x"))
        )
        assert answer.status_code == 200
        assert answer.json() == [
            label(made["token"], "true_positive"),
            label(UNKNOWN, "false_positive"),
            label("x", "false_positive"),
        ]
        assert topics(adapted, UUID(made["id"]))[1:] == [
            "scim_token.leaked.v1",
            "scim_token.revoked.v1",
        ]
        ended, found, _ = audit(adapted, its_admin, token_id=made["id"])
        assert (found["note"], found["reason"]) == (URL, "github commit")
        for row in (found, ended):
            assert (row["source"], row["user_id"], row["api_token_id"], row["operator"]) == (
                "127.0.0.1",
                None,
                None,
                None,
            )

    def test_more_than_a_hundred_are_answered_and_what_is_over_is_a_true_positive(
        self, adapted: RunningService, its_admin: Caller
    ) -> None:
        made = create(adapted, its_admin)
        texts = [made["token"]] * 2 + [UNKNOWN] * 200
        answer = github(adapted, *({"token": text, "type": "acme_scim_token"} for text in texts))
        assert answer.json() == [
            *[label(made["token"], "true_positive")] * 2,
            *[label(UNKNOWN, "false_positive")] * 200,
        ]

    def test_what_is_not_signed_changes_nothing(
        self, adapted: RunningService, its_admin: Caller
    ) -> None:
        made = create(adapted, its_admin)
        body = json.dumps([{"token": made["token"], "type": "x"}]).encode()
        for headers in (
            {},
            signed(body, key_id=KEY_ID),
            signed(body, key_id="another"),
            signed(body + b" "),
            {"Authorization": f"Bearer {its_admin.secret}", "Content-Type": "application/json"},
        ):
            answer = adapted.client.post("/leak-report/github", content=body, headers=headers)
            assert_problem(answer, 401, "unauthenticated", NOT_SIGNED)
        assert topics(adapted, UUID(made["id"])) == ["scim_token.created.v1"]

    @pytest.mark.parametrize("body", [b"{", b"{}", b'[{"token":1,"type":"x"}]', b"[1]"])
    def test_what_is_signed_and_not_understood_is_refused(
        self, adapted: RunningService, body: bytes
    ) -> None:
        answer = adapted.client.post("/leak-report/github", content=body, headers=signed(body))
        assert answer.status_code == 400

    def test_a_body_is_bounded_before_it_is_looked_at(self, adapted: RunningService) -> None:
        body = b" " * (64 * 1024 + 1)
        answer = adapted.client.post("/leak-report/github", content=body, headers=signed(body))
        assert answer.status_code == 413


def gitlab(service: RunningService, caller: Caller, *found: Any, word: str = "") -> httpx.Response:
    return service.client.post(
        "/leak-report/gitlab/v1/revoke_tokens",
        json=list(found),
        headers={"Authorization": word + caller.secret},
    )


class TestGitlab:
    def test_its_type_is_that_of_our_rule(self, adapted: RunningService) -> None:
        caller = adapted.api_token(Permission.LEAKS_REPORT)
        answer = adapted.client.get(
            "/leak-report/gitlab/v1/revocable_token_types",
            headers={"Authorization": caller.secret},
        )
        assert (answer.status_code, answer.json()) == (200, {"types": [TYPE]})

    @pytest.mark.parametrize("word", ["", "Bearer "])
    def test_a_finding_ends_its_token(
        self, adapted: RunningService, its_admin: Caller, word: str
    ) -> None:
        made = create(adapted, its_admin)
        found = [
            {"type": TYPE, "token": text, "location": "https://gitlab.example.com/x.java"}
            for text in (made["token"], UNKNOWN, "x")
        ]
        caller = adapted.api_token(Permission.LEAKS_REPORT)
        for _ in range(2):  # idempotent, as it must be
            answer = gitlab(adapted, caller, *found, word=word)
            assert (answer.status_code, answer.content) == (204, b"")
        assert topics(adapted, UUID(made["id"]))[1:] == [
            "scim_token.leaked.v1",
            "scim_token.revoked.v1",
        ]
        ended, found_row, _ = audit(adapted, its_admin, token_id=made["id"])
        assert (found_row["note"], found_row["reason"]) == (
            "https://gitlab.example.com/x.java",
            "gitlab",
        )
        assert ended["api_token_id"] == str(caller.id)

    def test_another_type_or_caller_is_refused_and_nothing_happens(
        self, adapted: RunningService, its_admin: Caller
    ) -> None:
        made = create(adapted, its_admin)
        finding = {"type": TYPE, "token": made["token"]}
        other = {"type": "gitleaks_rule_id_gitlab_personal_access_token", "token": "glpat"}
        assert gitlab(adapted, its_admin, finding, other).status_code == 400
        reader = adapted.api_token(Permission.SCIM_TOKENS_READ)
        assert gitlab(adapted, reader, finding).status_code == 403
        confined = adapted.api_token(Permission.LEAKS_REPORT, teams=[uuid4()])
        assert gitlab(adapted, confined, finding).status_code == 204
        assert topics(adapted, UUID(made["id"])) == ["scim_token.created.v1"]

    def test_a_bare_api_token_is_for_gitlab_alone(
        self, adapted: RunningService, its_admin: Caller
    ) -> None:
        answer = adapted.client.get("/scim-token", headers={"Authorization": its_admin.secret})
        assert answer.status_code == 401


def test_both_are_off_unless_the_settings_say_so(service: RunningService, admin: Caller) -> None:
    body = b"[]"
    answer = service.client.post("/leak-report/github", content=body, headers=signed(body))
    assert answer.status_code == 401
    assert service.client.post("/leak-report/github", auth=admin, json=[]).status_code == 404
    assert gitlab(service, admin, word="Bearer ").status_code == 404


def test_keys_that_cannot_be_meant_are_told_at_the_start_and_by_the_doctor(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "none"
    sentence = f"SCIM_LEDGER_GITHUB_KEYS_FILE: {path} cannot be read (No such file or directory)"
    said = refused(database.app, "serve", SCIM_LEDGER_GITHUB_KEYS_FILE=str(path))
    assert said.startswith(f"{sentence}: ")
    told = run(database.app, "doctor", SCIM_LEDGER_GITHUB_KEYS_FILE=str(path))
    assert (told.exit_code, sentence in told.stdout) == (1, True)


@pytest.mark.long
def test_without_the_extra_the_keys_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.resources.leaks.signature import read_keys  # noqa: PLC0415
    from api.settings import SettingsError  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(SettingsError) as caught:
        read_keys(tmp_path / "keys.json")
    assert str(caught.value) == (
        "SCIM_LEDGER_GITHUB_KEYS_FILE needs the extra leaks: "
        "docs/how-to/install.md#extras installs it"
    )
