"""The manifests of a step and of a chain's runner, for a dry run and for `hbseg render`.

Storage is not opened: what only storage knows stays open, and is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hbseg.cluster.objects import Manifest
from hbseg.cluster.pods.template import no_image, step_profile
from hbseg.cluster.rendering.manifests import (
    CONTROL_IMAGE_HINT,
    NO_CONTROL_IMAGE,
    check_storage,
    job_objects,
    runner_objects,
)
from hbseg.cluster.rendering.offline import OfflineCall, offline_call
from hbseg.config.placement import Placement
from hbseg.config.profile import (
    ClusterProfile,
    ImageKind,
    PodGroup,
    image_hint,
    stand_in_image,
)
from hbseg.config.settings import Settings
from hbseg.config.specs import Spec
from hbseg.control.engines import check_gpus, check_place, offered_engine, step_engines
from hbseg.documents import API_VERSION
from hbseg.runs.chain_specs import ChainSpecs
from hbseg.runs.engines import has_engine, image_kind
from hbseg.runs.run_name import checked_run_name
from hbseg.runs.steps import Step
from hbseg.storage.opening import canonical_url
from hbseg.system.user import current_user


def offline_step(
    settings: Settings,
    run: str | None,
    step: Step,
    spec: Spec,
    placement: Placement,
    *,
    raw: str | None = None,
    skip_bad: bool = False,
    engine: str | None = None,
) -> OfflineCall:
    """Return a step's call as far as it is known without storage.

    `engine` is the kind of engine that the step runs; none: the one that the place offers.

    Raises:
        UsageError: the folders of runs or data are not set, or pods do not see them.
        InvalidInput: the run's name is not valid.
        SpecError: the engine needs a GPU, and the pods have none.
    """
    name = checked_run_name(run or settings.need("run"))
    found = offline_call(
        name,
        step,
        spec,
        runs=settings.need("runs"),
        data=settings.need("data"),
        raw=raw,
        skip_bad=skip_bad,
        engine=engine
        if engine or not has_engine(step)
        else offered_engine("kubernetes", placement),
    )
    check_place(step, found.call.engine, "kubernetes", placement)
    check_storage(found.call.folders(), step_profile(placement.cluster, step))
    return found


def step_notes(found: OfflineCall, placement: Placement) -> list[str]:
    """Return what a person should know of a step's manifests, a sentence each.

    That is what only storage knows, what overrides change, and an image that is missing.
    """
    call = found.call
    profile, kind = step_profile(placement.cluster, call.step), image_kind(call.step, call.engine)
    missing = _missing_image(profile, kind, no_image(kind, call.step), image_hint(kind))
    return [*found.open, *_override_notes(profile), *missing]


def runner_notes(specs: ChainSpecs, placement: Placement) -> list[str]:
    """Return what a person should know of the manifests of a chain's runner, a sentence each."""
    profile = placement.cluster.for_pods(PodGroup.RUNNER)
    missing = _missing_image(profile, ImageKind.CONTROL, NO_CONTROL_IMAGE, CONTROL_IMAGE_HINT)
    return [*_override_notes(profile), *missing, *_missing_images(specs, placement.cluster)]


def _missing_images(specs: ChainSpecs, profile: ClusterProfile) -> Iterator[str]:
    """Yield a sentence for each kind of image that steps of a chain lack."""
    lacking: dict[ImageKind, list[Step]] = {}
    for step, engine in step_engines(specs):
        kind = image_kind(step, engine)
        if step_profile(profile, step).image_of(kind) is None:
            lacking.setdefault(kind, []).append(step)
    for kind, steps in lacking.items():
        yield _stand_in_note(kind, no_image(kind, *steps), image_hint(kind))


def _override_notes(profile: ClusterProfile) -> list[str]:
    if not profile.pod_overrides:
        return []
    from hbseg.cluster.pods.overrides import override_lines

    return [f"cluster.pod_overrides sets {line}" for line in override_lines(profile)]


def _missing_image(profile: ClusterProfile, kind: ImageKind, text: str, hint: str) -> list[str]:
    if profile.image_of(kind) is not None:
        return []
    return [_stand_in_note(kind, text, hint)]


def _stand_in_note(kind: ImageKind, text: str, hint: str) -> str:
    return f"{text}, {stand_in_image(kind)} stands for it; the cluster needs one: {hint}"


def step_manifests(settings: Settings, found: OfflineCall, placement: Placement) -> list[Manifest]:
    """Return the objects of a step, in the namespace of the settings if they name one."""
    return job_objects(found.call, placement, namespace=settings.get("namespace"))


def runner_manifests(
    settings: Settings, run: str | None, specs: ChainSpecs, placement: Placement
) -> list[Manifest]:
    """Return the objects of the runner of a whole chain.

    Raises:
        UsageError, InvalidInput, SpecError: as `offline_step`.
    """
    check_gpus(specs, "kubernetes", placement)
    own = runner_settings(settings, placement)
    check_storage([own["data"], own["runs"]], placement.cluster.for_pods(PodGroup.RUNNER))
    return runner_objects(
        checked_run_name(run or settings.need("run")),
        {name: spec.to_mapping() for name, spec in specs.by_step.items()},
        own,
        placement,
        owner=current_user(),
        namespace=settings.get("namespace"),
    )


def runner_settings(settings: Settings, placement: Placement) -> dict[str, Any]:
    """Return the `hbseg.yaml` of a runner: storage as here, and the profile that applies here."""
    namespace = settings.get("namespace")
    return {
        "apiVersion": API_VERSION,
        "kind": "Settings",
        "backend": "kubernetes",
        "data": canonical_url(settings.need("data")),
        "runs": canonical_url(settings.need("runs")),
        **({} if namespace is None else {"namespace": namespace}),
        "cluster": placement.cluster.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }
