"""deploy/kubernetes: good by the API's schemas, and by what the service really has and needs."""

import re
import subprocess
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from api.resources.health import healthz, readyz
from api.server.supervisor import LAST_GRACE_S, Supervisor
from api.settings import KNOWN, PREFIX
from tests.gateways.programs import DEPLOY, SEARCH_PATH, require
from tests.installation.container import containerfile
from tests.installation.container.image import IMAGE
from tests.installation.container.installation import SERVICES
from tests.installation.room import UID

BASE: Final = DEPLOY / "kubernetes" / "base"
EXAMPLE: Final = DEPLOY / "kubernetes" / "overlays" / "example"
RECOVER: Final = DEPLOY / "kubernetes" / "recover"
KUBECTL: Final = {"kubectl": "pip install -r requirements-gateways.txt"}
VERSIONS: Final = ("1.30", "1.34")
"""The oldest whose schemas have all that the manifests say, and a recent one."""


def built(directory: Path) -> list[dict[str, Any]]:
    """What kustomize makes of it."""
    require(KUBECTL)
    done = subprocess.run(
        ["kubectl", "kustomize", directory],
        env={"PATH": SEARCH_PATH}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [*yaml.safe_load_all(done.stdout)]


def manifests() -> list[dict[str, Any]]:
    """The base as it is written."""
    names = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    return [each for name in names for each in yaml.safe_load_all((BASE / name).read_text())]


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = (each for each in manifests() if each["kind"] == kind)
    return found


REPLICAS: Final = of_kind("StatefulSet")
SEALING: Final = of_kind("CronJob")["spec"]
PODS: Final = [
    owner["template"]["spec"]
    for owner in (REPLICAS["spec"], of_kind("Job")["spec"], SEALING["jobTemplate"]["spec"])
]
SERVICE: Final = REPLICAS["spec"]["template"]["spec"]["containers"][0]
RECOVERING: Final = yaml.safe_load((RECOVER / "pod.yaml").read_text())
EVERY_POD: Final = [*PODS, RECOVERING["spec"]]
NAMES: Final = ["service", "migrate", "seal", "recover"]


@pytest.mark.gateway
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("directory", "holds"),
    [
        (BASE, {each["kind"] for each in manifests()} | {"ConfigMap"}),
        (EXAMPLE, {each["kind"] for each in manifests()} | {"ConfigMap"}),
        (RECOVER, {"Pod"}),
    ],
    ids=["base", "example", "recover"],
)
def test_kustomize_makes_what_the_api_takes(directory: Path, holds: set[str], version: str) -> None:
    library = pytest.importorskip(
        "kubernetes_validate", reason="pip install -r requirements-gateways.txt"
    )
    made = built(directory)
    for each in made:
        library.validate(each, version, strict=True)
    assert {each["kind"] for each in made} == holds
    wrong = {**made[0], "spek": {}}
    with pytest.raises(library.ValidationError):
        library.validate(wrong, version, strict=True)


@pytest.mark.gateway
def test_the_example_changes_what_it_says_it_changes() -> None:
    made = {each["kind"]: each for each in built(EXAMPLE)}
    assert {each["metadata"].get("namespace") for each in made.values()} == {"scim"}
    assert made["StatefulSet"]["spec"]["replicas"] == 4 != REPLICAS["spec"]["replicas"]
    assert made["ConfigMap"]["data"].keys() <= {PREFIX + name for name in KNOWN}
    (reference,) = pod_of(made["StatefulSet"])["containers"][0]["envFrom"]
    assert reference["configMapRef"]["name"] == made["ConfigMap"]["metadata"]["name"]
    assert len(made["NetworkPolicy"]["spec"]["ingress"][0]["from"]) == 2
    (image,) = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["images"]
    for owner in (made["StatefulSet"], made["Job"], made["CronJob"]["spec"]["jobTemplate"]):
        (container,) = pod_of(owner)["containers"]
        assert container["image"] == f"{image['newName']}:{image['newTag']}"


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("pod", EVERY_POD, ids=NAMES)
def test_a_pod_is_the_images_user_and_writes_nothing_but_the_head_file(pod: dict[str, Any]) -> None:
    """tests/installation/container runs its commands so; the pepper is read by its group."""
    user = containerfile.only(IMAGE, "USER").rest
    assert user == f"{UID}:{UID}"
    context = pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (UID, UID, UID)
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    written = [mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert written == (["head"] if PREFIX + "HEAD_FILE" in variables(pod) else [])
    (secret,) = (each["secret"] for each in pod["volumes"] if "secret" in each)
    assert secret["defaultMode"] == 0o440


def variables(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return {each["name"]: each for each in container["env"]}


def test_each_pod_keeps_a_head_file_that_outlives_it() -> None:
    """On a volume of its own, which neither a rollout nor a smaller set takes away."""
    path = Path(variables(PODS[0])[PREFIX + "HEAD_FILE"]["value"])
    (mount,) = (each for each in SERVICE["volumeMounts"] if each["name"] == "head")
    assert Path(mount["mountPath"]) == path.parent
    (claim,) = REPLICAS["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == mount["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert set(REPLICAS["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    assert pod_of(REPLICAS)["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    assert REPLICAS["spec"]["podManagementPolicy"] == "Parallel", "or one would wait for another"
    budget = of_kind("PodDisruptionBudget")["spec"]["maxUnavailable"]
    assert REPLICAS["spec"]["replicas"] - budget >= 2


def test_commands_are_given_with_the_head_file_of_a_pod_that_does_not_run() -> None:
    """As the service has it, so that `scim-ledger recover` compares what that pod has known."""
    pod, (container,) = RECOVERING["spec"], RECOVERING["spec"]["containers"]
    assert container["env"] == SERVICE["env"]
    for part in ("volumeMounts", "securityContext", "image"):
        assert container[part] == SERVICE[part]
    assert pod["securityContext"] == pod_of(REPLICAS)["securityContext"]
    (secret, head) = pod["volumes"]
    assert secret in pod_of(REPLICAS)["volumes"]
    (claim,) = REPLICAS["spec"]["volumeClaimTemplates"]
    name = f"{claim['metadata']['name']}-{REPLICAS['metadata']['name']}-0"
    assert head == {"name": "head", "persistentVolumeClaim": {"claimName": name}}
    allowed = of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert allowed.items() <= RECOVERING["metadata"]["labels"].items(), "it reaches the database"
    assert not of_kind("Service")["spec"]["selector"].items() <= (
        RECOVERING["metadata"]["labels"].items()
    )
    assert RECOVERING["kind"] == "Pod"
    assert container["command"][:2] == ["python", "-c"], "no shell is needed"


@pytest.mark.parametrize("pod", EVERY_POD, ids=NAMES)
def test_variables_are_settings_and_no_service_makes_more_of_them(pod: dict[str, Any]) -> None:
    """A Service called scim-ledger would make SCIM_LEDGER_PORT=tcp://… in every pod beside it."""
    assert pod["enableServiceLinks"] is False
    (container,) = pod["containers"]
    names = {each["name"] for each in container["env"]}
    assert names <= {"DATABASE_URL", *(PREFIX + name for name in KNOWN)}
    for each in container["env"]:
        if each["name"].endswith("DATABASE_URL"):
            assert each["valueFrom"]["secretKeyRef"]["name"] == "scim-ledger"
    literals = yaml.safe_load((BASE / "kustomization.yaml").read_text())["configMapGenerator"]
    for given in (line for each in literals for line in each["literals"]):
        assert given.partition("=")[0] in {PREFIX + name for name in KNOWN}


def test_only_the_job_has_the_owners_url() -> None:
    have = ["SCIM_LEDGER_OWNER_DATABASE_URL" in variables(pod) for pod in EVERY_POD]
    assert have == [False, True, False, False]


def test_a_seal_is_made_each_hour_one_at_a_time_and_ends() -> None:
    """An hour's is over before the next one is due, however it ends."""
    minute, *others = SEALING["schedule"].split()
    assert (int(minute) < 60, others) == (True, ["*"] * 4)
    assert SEALING["concurrencyPolicy"] == "Forbid"
    job = SEALING["jobTemplate"]["spec"]
    assert SEALING["startingDeadlineSeconds"] + job["activeDeadlineSeconds"] < 2 * 3600
    assert job["activeDeadlineSeconds"] < 3600
    assert {SEALING[f"{how}JobsHistoryLimit"] for how in ("successful", "failed")} == {3}
    assert PODS[2]["restartPolicy"] == "Never", "the log of one that failed is left"
    (container,) = PODS[2]["containers"]
    (migrating,) = PODS[1]["containers"]
    apart = {"name", "args", "env"}
    assert {name: each for name, each in container.items() if name not in apart} == {
        name: each for name, each in migrating.items() if name not in apart
    }
    assert [each for each in migrating["env"] if "OWNER" not in each["name"]] == container["env"]


def test_probes_ask_the_paths_that_there_are() -> None:
    paths = {
        probe: SERVICE[probe]["httpGet"]["path"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    alive, ready = ({*each.paths} for each in (healthz, readyz))
    assert {paths["startupProbe"], paths["livenessProbe"]} <= alive
    assert paths["readinessProbe"] in ready
    assert SERVICE["ports"][0]["containerPort"] == 8080
    environment = containerfile.environment(IMAGE)
    assert environment["SCIM_LEDGER_PORT"] == "8080"


def labels_chosen() -> Iterator[dict[str, str]]:
    yield REPLICAS["spec"]["selector"]["matchLabels"]
    yield of_kind("Service")["spec"]["selector"]
    yield of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    yield of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]


def test_every_selector_chooses_the_pods_of_the_service() -> None:
    labels = REPLICAS["spec"]["template"]["metadata"]["labels"]
    for chosen in labels_chosen():
        assert chosen.items() <= labels.items()
    policy = of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    for job in (of_kind("Job")["spec"], SEALING["jobTemplate"]["spec"]):
        labels = job["template"]["metadata"]["labels"]
        assert not of_kind("Service")["spec"]["selector"].items() <= labels.items()
        assert policy.items() <= labels.items(), "it reaches the database"


def test_a_stop_has_the_time_that_it_takes() -> None:
    """Under Kubernetes, systemd and compose: the workers' time and then the projections'."""
    workers_s = signature(Supervisor).parameters["grace_s"].default
    takes_s = workers_s + LAST_GRACE_S
    pause_s = SERVICE["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod_of(REPLICAS)["terminationGracePeriodSeconds"] > takes_s + pause_s
    unit = (DEPLOY / "systemd" / "scim-ledger.service").read_text()
    assert re.search(r"^TimeoutStopSec=30$", unit, re.MULTILINE)
    assert takes_s < 30
    grace = SERVICES["ledger"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > takes_s
