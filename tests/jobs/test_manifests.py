"""The cluster files are what their readers accept: Ray's launcher, Ray's autoscaler, Kubernetes.

KubeRay's own definitions are in no package of an index. Where ``KUBERAY_CRDS`` names a folder of
them (``ray-operator/config/crd/bases`` of KubeRay's repository), the manifests are checked against
these as a strict API server would; without, that one test is skipped. The pods in them are always
checked against Kubernetes' own schema, and the cluster by what Ray's autoscaler makes of it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from vlray.cluster.capacity import GPU_CPUS
from vlray.config.extract import ExtractConfig
from vlray.settings.reader import from_cli

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "jobs"
MANIFESTS = sorted((JOBS / "kuberay").glob("*.yaml"))
KUBERNETES = "1.31"

Json = dict[str, Any]

manifests = pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)


def cluster_of(manifest: Json) -> Json:
    spec: Json = manifest["spec"]
    return spec if manifest["kind"] == "RayCluster" else spec["rayClusterSpec"]


def groups_of(manifest: Json) -> list[Json]:
    cluster = cluster_of(manifest)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def strict(schema: Any) -> Any:
    """Refuse fields that a schema does not name, as ``kubectl apply --validate=strict`` does."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and isinstance(schema["properties"], dict):
        made["properties"] = {key: strict(value) for key, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        made = {"type": ["integer", "string"]}
    return made


def crd_schema(kind: str) -> Json:
    folder = os.environ.get("KUBERAY_CRDS")
    if not folder:
        pytest.skip("KUBERAY_CRDS names no folder of KubeRay's definitions, which no package has")
    text = Path(folder, f"ray.io_{kind.lower()}s.yaml").read_text()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a file has 25,000 lines
    versions = yaml.load(text, loader)["spec"]["versions"]
    (schema,) = [one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == "v1"]
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    made: Json = strict(schema)
    return made


@manifests
def test_a_manifest_fits_kuberays_definition(path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    schema = crd_schema(manifest["kind"])
    jsonschema.validate(manifest, schema)
    manifest["spec"]["shutDownAfterJob"] = True
    with pytest.raises(jsonschema.ValidationError, match="shutDownAfterJob"):
        jsonschema.validate(manifest, schema)


@manifests
def test_the_pods_of_a_manifest_fit_kubernetes_schema(path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="make install-dev brings it")
    for group in groups_of(yaml.safe_load(path.read_text())):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}} | group["template"]
        validate.validate(pod, KUBERNETES, strict=True)
        pod["spec"]["containers"][0]["volumeMount"] = []
        with pytest.raises(validate.ValidationError):
            validate.validate(pod, KUBERNETES, strict=True)


@manifests
def test_rays_autoscaler_reads_the_clusters_resources(path: Path) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr as read,
    )
    from ray.autoscaler._private.util import validate_config

    manifest = yaml.safe_load(path.read_text())
    cluster = {"metadata": {"name": "vlray", "namespace": "default"}, "spec": cluster_of(manifest)}
    config = read(cluster)
    validate_config(config)
    kinds = config["available_node_types"]
    (worker,) = [kinds[name] for name in kinds if name != config["head_node_type"]]
    assert kinds[config["head_node_type"]]["resources"]["CPU"] == 0
    assert worker["resources"]["GPU"] == 8  # NCCL leaves a pod over the network only
    assert worker["resources"]["CPU"] >= 8 * GPU_CPUS  # so that decoding keeps up


@manifests
def test_a_workers_shared_memory_holds_rays_object_store_and_its_cache_is_shared(
    path: Path,
) -> None:
    _, worker = groups_of(yaml.safe_load(path.read_text()))
    pod = worker["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    size = int(volumes["shm"]["emptyDir"]["sizeLimit"].removesuffix("Gi"))
    memory = int(container["resources"]["limits"]["memory"].removesuffix("Gi"))
    assert mounts["/dev/shm"]["name"] == "shm"
    assert size >= 0.3 * memory + 16  # Ray's share of the memory, and room for NCCL
    assert mounts["/home/vlray/.cache"]["name"] == "data"
    (cache,) = [one["value"] for one in container["env"] if one["name"] == "TRITON_CACHE_DIR"]
    assert cache.startswith("/home/vlray/.cache/")


@manifests
def test_a_manifest_runs_this_ray_in_our_image_and_a_command_that_we_have(path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "docker/requirements.txt").read_text(), re.M)
    assert pinned is not None
    assert cluster_of(manifest)["rayVersion"] == pinned[1]
    for group in groups_of(manifest):
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == "vlray:cuda"
        assert container["resources"]["requests"] == container["resources"]["limits"]
    if manifest["kind"] == "RayJob":
        python, option, module, *arguments = manifest["spec"]["entrypoint"].split()
        assert (python, option, module) == ("python", "-m", "vlray.extract")
        assert from_cli(ExtractConfig, arguments).output.path == "/data/regions"


def test_rays_launcher_accepts_the_cluster_of_own_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    monkeypatch.chdir(ROOT)
    config = yaml.safe_load((JOBS / "cluster.yaml").read_text())
    ready = prepare_config(config)
    validate_config(ready)
    assert ready["max_workers"] == len(config["provider"]["worker_ips"])
    for here in config["file_mounts"].values():
        assert Path(here).is_file()
    with pytest.raises(jsonschema.ValidationError, match="head_node_typ"):
        validate_config(prepare_config(config | {"head_node_typ": "x"}))
