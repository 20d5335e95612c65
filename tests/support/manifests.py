# SPDX-License-Identifier: Apache-2.0
"""Checks the manifests in a folder against the schemas of what they are for: manifests.py FOLDER

Needs the packages of manifests.txt. Says each mistake, and ends with 1 if there is one.
"""
import importlib.util
import pathlib
import sys

import cloudcoil
import kubernetes_validate
import yaml


def models(name):
    """One version of the models; their packages would load all, which takes seconds."""
    for folder in cloudcoil.__path__:
        path = pathlib.Path(folder, "models", f"{name}.py")
        if path.exists():
            spec = importlib.util.spec_from_file_location(name.replace("/", "."), path)
            module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ModuleNotFoundError(name)


keda = models("keda/v1alpha1")
prometheus = models("prometheus_operator/v1")
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
            if (path.parent / name).resolve() in path.resolve().parents:
                yield f"{name} contains it"
        files = {p.name for p in path.parent.glob("*.yaml")}
        yield from (f"{name} is not in it" for name in files - BY_HAND - set(document["resources"]))
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def check_pod(kind, pod, found):
    container = pod["containers"][0]
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["volumes"]}
    env = {e["name"]: e.get("value") for e in container["env"]}
    secret = volumes["dsn"]["secret"]
    dsn = pathlib.PurePath(env["PGQRS_DSN_FILE"])
    if set(mounts) != set(volumes):
        yield f"{kind}: volumes and mounts differ"
    if volumes["config"]["configMap"]["name"] != found["ConfigMap"]["metadata"]["name"]:
        yield f"{kind}: the ConfigMap does not exist"
    if mounts["config"] != "/etc/pgqrs" or "pgqrsd.yaml" not in found["ConfigMap"]["data"]:
        yield f"{kind}: the configuration is not where the image expects it"
    if secret["secretName"] != found["Secret"]["metadata"]["name"]:
        yield f"{kind}: the Secret does not exist"
    if secret["defaultMode"] & 0o007:
        yield f"{kind}: pgqrsd does not take a DSN that everybody may read"
    if str(dsn.parent) != mounts["dsn"] or dsn.name not in found["Secret"]["stringData"]:
        yield f"{kind}: PGQRS_DSN_FILE is not a file of the Secret"


def check_together(found):
    """found: documents by kind."""
    deployment = found["Deployment"]["spec"]
    name = found["Deployment"]["metadata"]["name"]
    labels = deployment["template"]["metadata"]["labels"].items()
    pod = deployment["template"]["spec"]
    ports = {p["name"] for p in pod["containers"][0]["ports"]}
    yield from check_pod("Deployment", pod, found)
    yield from check_pod(
        "CronJob", found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"], found
    )
    for kind, selector in (
        ("Deployment", deployment["selector"]["matchLabels"]),
        ("Service", found["Service"]["spec"]["selector"]),
        ("PodDisruptionBudget", found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]),
        ("PodMonitor", found["PodMonitor"]["spec"]["selector"]["matchLabels"]),
    ):
        if not selector.items() <= labels:
            yield f"{kind} does not select the pods"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if pod["containers"][0][probe]["httpGet"]["port"] not in ports:
            yield f"{probe} asks at no port"
    if found["Service"]["spec"]["ports"][0]["targetPort"] not in ports:
        yield "the Service leads to no port"
    if found["ScaledObject"]["spec"]["scaleTargetRef"]["name"] != name:
        yield "the ScaledObject scales something else"
    target = found["TriggerAuthentication"]["spec"]["secretTargetRef"][0]
    secret = found["Secret"]
    if target["name"] != secret["metadata"]["name"] or target["key"] not in secret["stringData"]:
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
