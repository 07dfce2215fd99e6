"""Wrong values are refused by schema or template, in words that name the key."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from hbseg.config.profile import ClusterProfile, PodGroup
from hbseg.config.secrets import is_secret
from hbseg.runs.steps import Step
from tests.helm import Helm, HelmFailed

S3 = [{"cidr": "10.0.0.0/8"}]


def refusal(helm: Helm, *words: str, **values: Any) -> str:
    """Return what helm says of values that it must refuse."""
    with pytest.raises(HelmFailed) as caught:
        helm.template(*words, **values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"networkPolicy": {"enabled": True}}, "networkPolicy.s3 is empty, so no pod"),
        (
            {"networkPolicy": {"enabled": True, "s3": [*S3, {"port": 9000}]}},
            "networkPolicy.s3[1] has no address: give cidr, namespaceSelector or podSelector",
        ),
        (
            {"networkPolicy": {"enabled": True, "s3": [S3[0] | {"podSelector": {}}]}},
            "networkPolicy.s3[0] has cidr and a selector: make two entries of it",
        ),
        ({"localQueue": {"create": True}}, "localQueue.clusterQueue is empty: name"),
        (
            {"serviceAccounts": {"steps": {"name": "a"}, "runner": {"name": "a"}}},
            "serviceAccounts.steps.name and serviceAccounts.runner.name are both a, so steps",
        ),
        (
            {"profile": {"service_account": "own"}},
            "profile.service_account is own, and serviceAccounts.steps.name says hbseg-steps: "
            "take profile.service_account out, or set serviceAccounts.steps.name to own",
        ),
        (
            {"profile": {"credentials_secret": "a"}, "credentials": {"existingSecret": "b"}},
            "profile.credentials_secret is a, and credentials.existingSecret says b",
        ),
        (
            {
                "profile": {"volumes": [{"claim": "a", "path": "/cache"}]},
                "cache": {"enabled": True},
            },
            "cache.path is /cache, where profile.volumes mounts another volume: choose another",
        ),
        (
            {
                "profile": {"steps": {"infer": {"volumes": [{"claim": "a", "path": "/cache/"}]}}},
                "cache": {"enabled": True},
            },
            "cache.path is /cache/, where profile.steps.infer.volumes mounts another volume",
        ),
        (
            {"profile": {"s3_endpoint": "ftp://h"}},
            "profile.s3_endpoint is ftp://h: give http://HOST:PORT or https://HOST",
        ),
        (
            {"commonLabels": {"app.kubernetes.io/name": "a"}},
            "commonLabels: app.kubernetes.io/name is a label of the chart's own: use a key",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_line(
    helm: Helm, values: dict[str, Any], told: str
) -> None:
    lines = refusal(helm, **values).splitlines()

    (line,) = (line for line in lines if told in line)
    assert "hbseg/templates/validate.yaml" in line


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"cache": {"size": "big"}}, "/cache/size"),
        ({"cache": {"accessModes": ["Many"]}}, "/cache/accessModes/0"),
        ({"cache": {"path": "cache"}}, "/cache/path"),
        ({"rbac": {"users": [{"kind": "Team", "name": "a"}]}}, "/rbac/users/0/kind"),
        ({"rbac": {"users": [{"kind": "User"}]}}, "'name'"),
        ({"networkPolicy": {"apiServer": {"ports": [70000]}}}, "/networkPolicy/apiServer/ports/0"),
        ({"networkPolicy": {"enabled": "yes"}}, "/networkPolicy/enabled"),
        ({"commonLabels": {"a": 1}}, "/commonLabels/a"),
        ({"credentials": {"existingSecret": "A B"}}, "/credentials/existingSecret"),
        ({"global": {"imagePullSecrets": [{"names": "a"}]}}, "/global/imagePullSecrets/0"),
        ({"doctor": {"timeout": 0}}, "/doctor/timeout"),
        ({"profile": {"gpus_per_process": 17}}, "/profile/gpus_per_process"),
        ({"profile": {"keep_finished": "long"}}, "/profile/keep_finished"),
        ({"profile": {"image_pull_policy": "Sometimes"}}, "/profile/image_pull_policy"),
        ({"profile": {"volumes": [{"path": "/a", "claims": "b"}]}}, "/profile/volumes/0"),
        ({"cache": {"path": "/usr/local/cache"}}, "/cache/path': value must be 'an absolute path"),
        ({"cache": None}, "missing property 'cache'"),
        ({"serviceAccounts": {"steps": None}}, "/serviceAccounts': missing property 'steps'"),
        ({"doctor": {"timeout": None}}, "/doctor': missing property 'timeout'"),
        (
            {"profile": {"labels": {"hbseg.io/run": "a"}}},
            "/profile/labels/hbseg.io~1run': value must be 'under a key of your own",
        ),
        (
            {"profile": {"environment": {"HOME": "/a"}}},
            "/profile/environment/HOME': value must be 'under another name",
        ),
        (
            {"profile": {"ca_bundle": {}}},
            "/profile/ca_bundle': value must be 'with one of config_map, secret'",
        ),
        (
            {"profile": {"cpu_per_process": "0"}},
            "/profile/cpu_per_process': value must be 'a quantity above 0'",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(
    helm: Helm, values: dict[str, Any], told: str
) -> None:
    assert told in refusal(helm, **values)


@pytest.mark.parametrize(
    ("values", "unknown", "near"),
    [
        ({"profil": {}}, "profil", "profile"),
        ({"networkPolicy": {"s4": []}}, "s4", "s3"),
        ({"serviceAccounts": {"step": {}}}, "step", "steps"),
        ({"profile": {"gpu_per_process": 1}}, "gpu_per_process", "gpus_per_process"),
    ],
)
def test_an_unknown_key_is_refused_beside_those_that_are_known(
    helm: Helm, values: dict[str, Any], unknown: str, near: str
) -> None:
    told = refusal(helm, **values)

    assert f"'{unknown}' not allowed" in told
    (line,) = (line for line in told.splitlines() if "under one of the keys" in line)
    assert f"/{unknown}'" in line
    assert f" {near}" in line


@pytest.mark.parametrize("name", ["trains", "stage3", "Training"])
def test_an_unknown_step_is_refused_beside_those_that_are_known(helm: Helm, name: str) -> None:
    told = refusal(helm, profile={"steps": {name: {}}})

    (line,) = (line for line in told.splitlines() if f"/profile/steps/{name}'" in line)
    assert all(known in line for known in (*PodGroup, *Step))


def test_groups_and_steps_are_known(helm: Helm) -> None:
    helm.template(profile={"steps": {name: {} for name in (*PodGroup, *Step)}})


def in_override(**variable: str) -> dict[str, Any]:
    """Return an override with a variable of a container."""
    return {"pod_overrides": {"spec": {"initContainers": [{"name": "a", "env": [variable]}]}}}


HIDDEN = "ghp_" + "a1" * 18


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (
            {"environment": {"WANDB_API_KEY": HIDDEN}},
            "profile.environment.WANDB_API_KEY looks like a secret, and the ConfigMap "
            "hbseg-profile shows it: put it into a Secret, and set "
            "profile.secret_environment: {WANDB_API_KEY: {secret: S, key: K}}",
        ),
        (
            {"steps": {"training": {"environment": {"NOTE": HIDDEN}}}},
            "profile.steps.training.environment.NOTE looks like a secret",
        ),
        (in_override(name="GIT_PAT", value="abc"), "profile.pod_overrides: GIT_PAT looks like"),
        (
            {"pod_overrides": {"spec": {"containers": [{"name": "main", "args": [HIDDEN]}]}}},
            "profile.pod_overrides: args looks like a secret",
        ),
        (
            {"steps": {"runner": in_override(name="A", value=HIDDEN)}},
            "profile.steps.runner.pod_overrides: A looks like a secret",
        ),
        ({"s3_endpoint": f"https://k:{HIDDEN}@host"}, "profile.s3_endpoint has an @"),
    ],
    ids=str,
)
def test_a_secret_is_refused_in_one_line_without_its_value(
    helm: Helm, profile: dict[str, Any], told: str
) -> None:
    said = refusal(helm, profile=profile)

    (line,) = (line for line in said.splitlines() if told in line)
    assert "hbseg/templates/validate.yaml" in line
    assert HIDDEN not in said


def test_references_paths_and_switches_are_no_secrets(helm: Helm) -> None:
    key = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    overrides = {"spec": {"containers": [{"name": "main", "env": [key]}]}}
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": "/etc/gcp/key.json", "USE_AUTH": "true"}

    helm.template(profile={"pod_overrides": overrides, "environment": environment})


NAMES = (
    *("WANDB_API_KEY", "GIT_PAT", "MLFLOW_TRACKING_PASS", "APIKEY", "apiKey", "API_KEY_2", "pwd"),
    *("hfToken", "PGPASSWORD", "AUTHTOKEN_2", "SECRET_VALUE", "MYSECRETS", "DB_CREDS", "JWT"),
    *("TOKENIZERS_PARALLELISM", "KEYBOARD", "MONKEY", "KEY_PREFIX", "PATH_TO_KEYS_DIR", "COMPASS"),
    *("NCCL_IB_PKEY", "HF_TOKEN_PATH", "SECRET_NAME", "AUTHOR", "_", "A1b2", "XMLKey", "HTTPAuth1"),
    *("AWS_ACCESS_KEY_ID", "MAX_NEW_TOKENS", "PASSWORD_LENGTH", "DB_PASSWORD", "NOTE"),
)
TEXTS = (
    *("abc", "", "0", "1", "true", "None", "4096", "-1.5e3", "/etc/key.json", "~/.token"),
    *("./keys/a.pem", "s3://team/keys.json", "file:///a", "abc/def+ghi=", "/abc+def/ghi=", "/a b"),
    *(
        "AKIA" + "Z" * 16,
        HIDDEN,
        "github_pat_" + "a1" * 20,
        "glpat-" + "a1" * 10,
        "hf_" + "aB" * 17,
    ),
    *("sk-" + "a1" * 20, "sk-proj-" + "a1" * 20, "sk_live_" + "a1" * 9, "xoxb-" + "1" * 12),
    *(
        "AIza" + "a" * 35,
        f"eyJ{'a' * 9}.eyJ{'b' * 9}.c",
        "a://u:p@h",
        "https://t@h",
        "https://h:1/a@b",
    ),
    *("-----BEGIN KEY", "ssh://git@host/a.git", "hf_transfer", "sk-learn-random-forest-v2"),
)


def test_the_chart_takes_for_a_secret_what_hbseg_does(helm: Helm) -> None:
    cases = [(name, text) for name in NAMES for text in TEXTS]
    one = '{{ include "hbseg.isSecret" . | eq "true" | ternary 1 0 }}'
    told = f"x{{{{ range .Values.global.cases }}}}{one}{{{{ end }}}}"
    extra = {"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"found": told}}
    given = {"cases": [{"name": name, "value": text} for name, text in cases]}
    rendered = helm.rendered(**{"global": given}, extraObjects=[extra])

    found = rendered["ConfigMap", "a"]["data"]["found"].removeprefix("x")
    ours = {case for case, flag in zip(cases, found, strict=True) if flag == "1"}
    assert ours == {case for case in cases if is_secret(*case)}


def test_an_old_cluster_is_refused(helm: Helm) -> None:
    told = refusal(helm, "--kube-version", "1.28.0")

    assert ">=1.29.0" in told
    helm.template("--kube-version", "1.29.3-eks-1234567")


@pytest.mark.parametrize(
    "profile",
    [
        {"cpu_per_process": 2, "memory_per_process": "16Gi", "shared_memory": 1.5},
        {"run_as_user": None},
        {"run_as_user": 0},
        {"scratch": "20Gi"},
        {"scratch": {"size": "20Gi", "storage_class": "fast"}},
        {"scratch": {"sizes": "20Gi"}},
        {"tolerations": [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]},
        {"tolerations": [{"operator": "exists"}]},
        {"steps": {"training": {"node_selector": {"pool": "gpu", "zone": None}}}},
        {"steps": {"training": {"node_selectors": {}}}},
        {"limits": {"cpu": "request"}},
        {"pod_overrides": {"spec": {"hostNetwork": True}}, "unrestricted": True},
        {"environment": {"A": 1}},
        {"volumes": [{"secret": "gcp", "path": "/etc/gcp", "sub_path": "a"}]},
        {"secret_environment": {"WANDB_API_KEY": {"secret": "wandb", "key": "key"}}},
        {"secret_environment": {"WANDB_API_KEY": {"secret": "wandb"}}},
        {"keep_finished": 604800.5},
        {"image": "a b"},
        {"volumes": [{"path": "/x"}]},
        {"volumes": [{"claim": "a", "config_map": "b", "path": "/x"}]},
        {"volumes": [{"claim": "a", "config_map": None, "path": "/x"}]},
        {"ca_bundle": {}},
        {"ca_bundle": {"secret": "a", "config_map": "b"}},
        {"ca_bundle": {"secret": "a"}},
        {"steps": {"training": {"labels": {"training.kubeflow.org/a": "b"}}}},
        {"devices": {"a/b/c": 1}},
        {"memory_per_process": "0Gi"},
        {"memory_per_process": 0},
        {"scratch": 0},
        {"scratch": 0.5},
        {"limits": {"cpu": -1}},
        {"limits": {"cpu": 0}},
        {"s3_endpoint": "https://user:word@s3.example"},
        {"s3_endpoint": "s3.example"},
        {"s3_endpoint": "http://s3.example:9000/path"},
    ],
    ids=str,
)
def test_the_schema_takes_of_a_profile_what_hbseg_takes(
    helm: Helm, profile: dict[str, Any]
) -> None:
    if is_taken(profile):
        helm.template(profile=profile)
    else:
        refusal(helm, profile=profile)


MOUNTS = (
    *(
        "data",
        "/",
        "/.",
        "/data:a",
        "/data/../a",
        "/data",
        "/usr",
        "/usr/",
        "/usr/bin",
        "/usr/share",
    ),
    *("/etc", "/etc/gcp", "/etc/hbseg", "/etc/./hbseg/a", "/etc/hbseg-data", "/etc//hbseg-ca/a"),
    *(
        "/scratch",
        "/scratch/a",
        "/tmp/",
        "/tmp/a",
        "/dev/shm",
        "/device",
        "/var",
        "/var/lib",
        "/run/a",
    ),
)
VARIABLES = (
    "HOME",
    "HOMES",
    "MASTER_ADDR",
    "RANK",
    "LOCAL_RANK",
    "PET_A",
    "HBSEG_NODES",
    "a-b",
    "1",
)
LABELS = {
    "hbseg.io/run": "a",
    "batch.kubernetes.io/a": "b",
    "app.kubernetes.io/part-of": None,
    "app.kubernetes.io/part-of-us": "a",
    "example.com/team": "",
    "/a": "b",
    "a b": "c",
    "zone": None,
    "team": "a b",
    "owner": "a" * 64,
}
QUANTITIES = ("0", "0Gi", "0.0", "0.5", "10m", 0, 0.5, 1, -1, "Gi")


def test_the_schema_takes_what_hbseg_takes_item_by_item(helm: Helm) -> None:
    """Helm lists all that it refuses, so that one call is enough for many small parts."""
    paths: list[dict[str, Any]] = [{"claim": "a", "path": path} for path in MOUNTS]
    folders = [{"claim": "a", "path": "/x", "sub_path": sub} for sub in ("", "/a", "a/../b", "a/b")]
    volumes = dict(enumerate([*paths, *folders]))
    profile: dict[str, Any] = {
        "volumes": [*volumes.values()],
        **dict.fromkeys(("labels", "annotations", "job_annotations", "node_selector"), LABELS),
        "environment": dict.fromkeys(VARIABLES, "x"),
        "secret_environment": dict.fromkeys(VARIABLES),
        "devices": {f"x.example-{n}": quantity for n, quantity in enumerate(QUANTITIES)},
    }
    told = refusal(helm, profile=profile)

    parts: list[tuple[str, dict[str, Any]]]
    parts = [(f"volumes/{n}", {"volumes": [volume]}) for n, volume in volumes.items()]
    parts += [
        (f"{key}/{name.replace('/', '~1')}", {key: {name: value}})
        for key, named in profile.items()
        if key != "volumes"
        for name, value in named.items()
    ]
    refused = {place for place, _ in parts if re.search(f"/profile/{place}['/]", told)}
    assert refused == {place for place, part in parts if not is_taken(part)}
    assert 0 < len(refused) < len(parts)


def is_taken(profile: dict[str, Any]) -> bool:
    """Return whether hbseg takes a profile."""
    try:
        ClusterProfile.model_validate(profile)
    except ValidationError:
        return False
    return True
