# SPDX-License-Identifier: Apache-2.0
"""Checks the manifests in a folder against the schemas of what they are for: manifests.py FOLDER

Needs the packages of manifests.txt. Says each mistake, and ends with 1 if there is one.
"""
import pathlib
import sys

import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus

KUBERNETES = "1.37"
MODELS = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): keda.TriggerAuthentication,
    ("monitoring.coreos.com/v1", "PodMonitor"): prometheus.PodMonitor,
}
KUSTOMIZATION = {"apiVersion", "kind", "resources", "images", "patches"}
BY_HAND = {"kustomization.yaml", "secret.yaml", "podmonitor.yaml"}


def unknown(found, known, where=""):
    """Keys that the model has left out."""
    if isinstance(found, dict) and isinstance(known, dict):
        for key, value in found.items():
            if key in known:
                yield from unknown(value, known[key], f"{where}.{key}")
            else:
                yield f"{where}.{key} is unknown"
    elif isinstance(found, list) and isinstance(known, list):
        for i, (value, other) in enumerate(zip(found, known)):
            yield from unknown(value, other, f"{where}[{i}]")


def check_schema(path, document):
    kind = (document["apiVersion"], document["kind"])
    if kind in MODELS:
        known = MODELS[kind].model_validate(document)
        yield from unknown(document, known.model_dump(by_alias=True, exclude_unset=True, mode="json"))
    elif kind[1] == "Kustomization":
        yield from (f"{key} is unknown" for key in document if key not in KUSTOMIZATION)
        for name in document["resources"]:
            if not (path.parent / name).exists():
                yield f"{name} does not exist"
        files = {p.name for p in path.parent.glob("*.yaml")}
        yield from (f"{name} is missing" for name in files - BY_HAND - set(document["resources"]))
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def check_together(found):
    """found: documents by kind."""
    deployment = found["Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["volumes"]}
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    env = {e["name"]: e["value"] for e in container["env"]}
    for kind, selector in (
        ("Deployment", deployment["spec"]["selector"]["matchLabels"]),
        ("Service", found["Service"]["spec"]["selector"]),
        ("PodDisruptionBudget", found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]),
        ("PodMonitor", found["PodMonitor"]["spec"]["selector"]["matchLabels"]),
    ):
        if not selector.items() <= labels:
            yield f"{kind} does not select the pods"
    if set(mounts) != set(volumes):
        yield "volumes and mounts differ"
    if volumes["config"]["configMap"]["name"] != found["ConfigMap"]["metadata"]["name"]:
        yield "the pods' ConfigMap does not exist"
    if volumes["dsn"]["secret"]["secretName"] != found["Secret"]["metadata"]["name"]:
        yield "the pods' Secret does not exist"
    if volumes["dsn"]["secret"]["defaultMode"] & 0o007:
        yield "pgqrsd does not take a DSN that everybody may read"
    key = pathlib.PurePath(env["PGQRS_DSN_FILE"])
    if str(key.parent) != mounts["dsn"] or key.name not in found["Secret"]["stringData"]:
        yield "PGQRS_DSN_FILE is not a file of the Secret"
    if mounts["config"] != "/etc/pgqrs" or "pgqrsd.yaml" not in found["ConfigMap"]["data"]:
        yield "the configuration is not where the image expects it"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if container[probe]["httpGet"]["port"] not in ports:
            yield f"{probe} asks at no port"
    if found["Service"]["spec"]["ports"][0]["targetPort"] not in ports:
        yield "the Service leads to no port"
    scaled = found["ScaledObject"]["spec"]
    if scaled["scaleTargetRef"]["name"] != deployment["metadata"]["name"]:
        yield "the ScaledObject scales something else"
    target = found["TriggerAuthentication"]["spec"]["secretTargetRef"][0]
    if target["name"] != found["Secret"]["metadata"]["name"] or target["key"] != key.name:
        yield "KEDA has no DSN"


def main(folder):
    found = {}
    bad = 0
    for path in sorted(pathlib.Path(folder).rglob("*.yaml")):
        try:
            document = yaml.safe_load(path.read_text())
            found[document["kind"]] = document
            mistakes = list(check_schema(path, document))
        except Exception as error:  # of three libraries
            mistakes = [str(error).split("\n\nOn instance")[0]]
        for mistake in mistakes:
            print(f"{path}: {mistake}")
        bad += len(mistakes)
    if bad == 0:
        for mistake in check_together(found):
            print(f"{folder}: {mistake}")
            bad += 1
    print(f"{len(found)} kinds, {bad} mistakes")
    return 1 if bad else 0


sys.exit(main(sys.argv[1]))
