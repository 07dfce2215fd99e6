"""What is generated from values and profile is that of the checkout, and says all of it."""

from __future__ import annotations

import json
from typing import Any

import yaml

from hbseg.config.profile import ClusterProfile
from hbseg.doctor.rights import needed
from helm.generate import PROFILE_PAGE, profile_page, readme, schema, values
from tests.helm import CHART, Helm

VALUES = (CHART / "values.yaml").read_text()


def test_the_schema_is_that_of_values_and_profile() -> None:
    """Otherwise run `make chart`."""
    assert json.loads((CHART / "values.schema.json").read_text()) == schema()


def test_the_readme_has_the_values_of_the_checkout() -> None:
    """Otherwise run `make chart`."""
    text = (CHART / "README.md").read_text()

    assert readme(text) == text
    assert all(f"| `{'.'.join(value.path)}` |" in text for value in values(VALUES))


def test_the_page_of_the_profile_has_every_key_with_its_text() -> None:
    """Otherwise run `make chart`."""
    text = PROFILE_PAGE.read_text()

    assert profile_page(text) == text
    for name in ClusterProfile.model_fields:
        assert f"| `{name}` |" in text
    assert "|  |" not in text


def leaves(node: Any, documented: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> list[str]:
    """Return the values that no documented value holds."""
    if path in documented:
        return []
    if isinstance(node, dict) and node:
        return [n for key, item in node.items() for n in leaves(item, documented, (*path, key))]
    return [".".join(path)]


def test_every_value_is_documented() -> None:
    found = values(VALUES)

    assert leaves(yaml.safe_load(VALUES), {value.path for value in found}) == []
    assert all(len(value.text) > 10 for value in found)


def closed_but_for_global(node: Any, path: str = "") -> list[str]:
    """Return the paths of objects with named keys that allow others."""
    if isinstance(node, list):
        return [name for item in node for name in closed_but_for_global(item, path)]
    if not isinstance(node, dict):
        return []
    here = [path] if "properties" in node and node.get("additionalProperties") is not False else []
    # these two only look at keys
    below = [(key, item) for key, item in node.items() if key not in ("allOf", "if")]
    return here + [n for key, item in below for n in closed_but_for_global(item, f"{path}/{key}")]


def test_only_global_takes_keys_that_are_not_known() -> None:
    assert closed_but_for_global(schema()) == ["/properties/global"]


def test_the_runners_role_is_what_the_doctor_asks_for(helm: Helm) -> None:
    asked = {
        (kind.group, f"{kind.plural}/{below}" if below else kind.plural, verb)
        for kind, below, verbs in needed()
        for verb in verbs
    }
    given = {
        (group, resource, verb)
        for rule in helm.rendered()["Role", "hbseg"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert given == asked


def test_the_doctors_role_only_reads_and_lists_no_secret(helm: Helm) -> None:
    secret = {"existingSecret": "keys"}
    queue = {"create": True, "clusterQueue": "gpus"}
    rendered = helm.rendered(credentials=secret, localQueue=queue, cache={"enabled": True})

    for rule in rendered["Role", "hbseg-doctor"]["rules"]:
        assert set(rule["verbs"]) <= {"get", "list"}
        assert rule.get("resourceNames") or rule["resources"] == ["resourcequotas"]


def test_the_doctors_role_names_what_any_group_of_pods_is_given(helm: Helm) -> None:
    training = {
        "queue": "fast",
        "volumes": [{"claim": "sets", "path": "/sets"}, {"secret": "gcp", "path": "/gcp"}],
        "secret_environment": {"A": {"secret": "wandb", "key": "key"}, "B": None},
    }
    profile = {
        "queue": "slow",
        "ca_bundle": {"secret": "ca"},
        "image_pull_secrets": ["hub"],
        "volumes": [{"claim": "runs", "path": "/runs"}],
        "steps": {"training": training},
    }
    rules = helm.rendered(profile=profile)["Role", "hbseg-doctor"]["rules"]

    named = {rule["resources"][0]: rule.get("resourceNames") for rule in rules}
    assert named["secrets"] == ["ca", "gcp", "wandb"]  # and no pull secret
    assert named["persistentvolumeclaims"] == ["runs", "sets"]
    assert named["localqueues"] == ["fast", "slow"]
