"""Manifests of others: YAML as kubectl reads it, kinds of their own, objects made by kubectl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import ActionError, Failed, Refused
from modules import kubectl
from modules._kube import kinds as kube_kinds
from modules._kube import yaml as kube_yaml
from tests.lab.cluster.find_kubectl import find_kubectl
from tests.lab.cluster.objects import NAMESPACE, config_map
from tests.modules.conftest import Answer, MakeContext, Request, Serve
from tests.modules.kube_cluster import TestCluster, app

CONFIGS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    with TestCluster(tmp_path_factory.mktemp("kube"), pace=10.0) as cluster:
        yield cluster


@pytest.fixture
def ctx(make_context: MakeContext, cluster: TestCluster) -> TaskContext:
    return make_context({"kubectl": cluster.section}, seconds=20)


@pytest.fixture
def check(make_context: MakeContext, cluster: TestCluster) -> TaskContext:
    return make_context({"kubectl": cluster.section}, seconds=20, mode="check")


# -- YAML ---------------------------------------------------------------------------------------
SCALARS = """
apiVersion: example.com/v1
kind: Thing
metadata: {name: a}
spec:
  octal: 0644
  new-octal: 0o644
  no-octal: 08
  time: 12:30
  date: 2024-05-06
  instant: 2031-03-25T13:37:11Z
  exponent: 1e9
  signed-exponent: 1e+3
  flags: [y, yes, on, True, n, No, off]
  hexadecimal: 0x1F
  binary: 0b11
  grouped: 1_000
  grouped-fraction: 1_0.5
  fraction: .5
  whole-fraction: 1.0
  version: "5.10"
  number: 5.10
  nothing: ~
  empty:
  text: !!str 5
  bytes: !!binary aGVsbG8=
  sign: +5
  equals: =
  small: 0.1e-7
  merged: {<<: {a: 1}, b: 2}
  1: one
  true: two
  2.5: three
"""


def test_yaml_is_read_as_kubectl_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "thing.yml"
    file.write_text(SCALARS)
    command = [find_kubectl(), "annotate", "--local", "-f", str(file), "a=b", "-o", "json"]
    theirs = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    (ours,) = kube_yaml.load(SCALARS, "thing.yml")
    assert ours["spec"] == theirs["spec"]
    kinds = {key: type(value) for key, value in ours["spec"].items()}
    assert kinds == {key: type(value) for key, value in theirs["spec"].items()}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", r"f\.yml:3:1 .* the key 'a' stands twice"),
        ("{a: {b: 1, b: 1}}", "the key 'b' stands twice"),
        ("{1: a, '1': b}", "the key '1' stands twice"),
        ("a: .inf", r"\.a is a number that JSON does not have"),
        ("a: !vault x", "the tag '!vault' means nothing"),
        ("{[1]: 2}", "a key is empty, or no text"),
        ("a: &a [*a]", "recursive"),
        ("a: [1", r"f\.yml:\d:\d is not YAML"),
        ("[" * 3000, "nested too deeply|not YAML"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{c}: &{c} [{', '.join(['*' + p] * 10)}]\n"
                for p, c in zip("abcdef", "bcdefg", strict=True)
            ),
            "too many values",
        ),
    ],
)
def test_yaml_that_kubernetes_cannot_mean_is_refused(text: str, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        list(kube_yaml.load(text, "f.yml"))


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfapiVersion: v1\r\nkind: ConfigMap\r\nmetadata: {name: marked}\r\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: marked}\n".encode("utf-16"),
        "---\n---\n\ufeffapiVersion: v1\nkind: ConfigMap\nmetadata: {name: marked}".encode(),
    ],
)
def test_byte_order_marks_are_no_part_of_a_manifest(
    ctx: TaskContext, root: Path, data: bytes
) -> None:
    (root / "m.yml").write_bytes(data)
    assert kubectl.apply(ctx, Path("m.yml")).data["objects"][0]["name"] == "marked"


def test_a_vendor_s_file_is_no_template(ctx: TaskContext, cluster: TestCluster, root: Path) -> None:
    text = 'summary: "{{ $labels.instance }} is down"\nscript: echo "${#hosts[@]} hosts"\n'
    indented = text.replace("\n", "\n    ")
    (root / "m.yml").write_text(
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: vendor}}\n"
        f"data:\n  x: |\n    {indented}"
    )
    with pytest.raises(ActionError, match=r"m\.yml") as caught:
        kubectl.apply(ctx, Path("m.yml"))
    assert "template: false" in caught.value.hint
    kubectl.apply(ctx, Path("m.yml"), template=False)
    assert cluster.read(f"{CONFIGS}/vendor")["data"]["x"].rstrip() == text.rstrip()
    gone = kubectl.delete(ctx, file=Path("m.yml"), template=False)
    assert gone.data["objects"][0]["result"] == "deleted"


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        (
            "{name: 20240506}",
            "the name of a ConfigMap must be text: 20240506 is not; put it in quo",
        ),
        ("{name: true}", "must be text: True is not"),
        ("{name: a, namespace: 7}", "the namespace of configmap/a must be text: 7 is not"),
        ("{generateName: a-}", "no `metadata.name` but `generateName`"),
        ("{name: }", "has no `metadata.name`"),
        ("[]", "has no `metadata.name`"),
    ],
)
def test_names_that_are_no_text_are_refused_in_words(
    ctx: TaskContext, root: Path, metadata: str, problem: str
) -> None:
    (root / "m.yml").write_text(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\n")
    with pytest.raises(Refused, match=problem):
        kubectl.apply(ctx, Path("m.yml"))


@pytest.mark.parametrize("spec", [{"replicas": None}, {"replicas": None, "strategy": {}}])
def test_an_empty_number_of_replicas_is_fine_under_check(
    check: TaskContext, spec: dict[str, Any]
) -> None:
    item = app("claude-enhancer-hpa", "5.1", 1)
    item["spec"].update(spec)
    checked = kubectl.apply.checker
    assert checked
    result = checked(check, objects=[item], wait=True)
    assert result.data["rollouts"]["deployment/claude-enhancer-hpa"]["desired"] == 1


def test_what_a_template_made_a_number_is_text_where_kubernetes_has_text(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    item = config_map("weighed")
    item["metadata"]["annotations"] = {"weight": 5, "on": True}
    kubectl.apply(ctx, objects=[item])
    kubectl.patch(ctx, "cm", "weighed", {"metadata": {"annotations": {"weight": 20}}})
    annotations = cluster.read(f"{CONFIGS}/weighed")["metadata"]["annotations"]
    assert annotations == {"weight": "20", "on": "true"}


def test_typed_lists_give_their_items_a_kind(ctx: TaskContext, root: Path) -> None:
    (root / "m.yml").write_text(
        "apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: listed}\n  data: {a: b}\n"
        "---\napiVersion: v1\nkind: List\nitems:\n"
    )
    objects = kubectl.apply(ctx, Path("m.yml")).data["objects"]
    assert [(one["kind"], one["name"]) for one in objects] == [("ConfigMap", "listed")]


def definition(plural: str, kind: str, group: str = "cases.example.com") -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def lane(name: str, kind: str = "Lane") -> dict[str, Any]:
    return {
        "apiVersion": "cases.example.com/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"length": 3},
    }


def test_a_definition_and_its_object_may_stand_in_one_manifest(
    ctx: TaskContext, check: TaskContext
) -> None:
    objects = [definition("lanes", "Lane"), lane("first")]
    checked = kubectl.apply.checker
    assert checked
    planned = [one["result"] for one in checked(check, objects=objects).data["objects"]]
    applied = [one["result"] for one in kubectl.apply(ctx, objects=objects).data["objects"]]
    assert planned == applied == ["created", "created"]
    assert not kubectl.apply(ctx, objects=objects).changed
    for word in ("lanes.cases.example.com", "lane", "lanes.v1.cases.example.com", "Lane"):
        assert kubectl.get(ctx, word, "first").data["found"]
    with pytest.raises(Failed, match=r"no kind 'lanes\.other\.example\.com'"):
        kubectl.get(ctx, "lanes.other.example.com", "first")


def test_a_rehearsal_knows_what_its_earlier_steps_would_have_made(check: TaskContext) -> None:
    rehearse = kubectl.apply.checker
    assert rehearse
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "of-a-step"}}
    rehearse(check, objects=[definition("ferries", "Ferry"), namespace])
    inside = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "one", "namespace": "of-a-step"},
    }
    for made in (lane("first", "Ferry"), inside):
        assert rehearse(check, objects=[made]).data["objects"][0]["result"] == "created"


def test_an_object_before_its_definition_is_refused_alike_in_rehearsal_and_run(
    ctx: TaskContext, check: TaskContext
) -> None:
    objects = [lane("first", "Canal"), definition("canals", "Canal")]
    rehearse = kubectl.apply.checker
    assert rehearse
    with pytest.raises(Failed, match="the cluster has no kind 'Canal'"):
        rehearse(check, objects=objects)
    with pytest.raises(Failed, match="the cluster has no kind 'Canal'"):
        kubectl.apply(ctx, objects=objects)


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("deployments.apps", "/apis/apps/v1/namespaces/n/deployments"),
        ("deploy.v1.apps", "/apis/apps/v1/namespaces/n/deployments"),
        ("Ingress.networking.k8s.io", "/apis/networking.k8s.io/v1/namespaces/n/ingresses"),
        ("pods", "/api/v1/namespaces/n/pods"),
        ("pods.v1.", "/api/v1/namespaces/n/pods"),
    ],
)
def test_kinds_may_be_named_with_version_and_group(word: str, path: str) -> None:
    kind = kube_kinds.known(word)
    assert kind
    assert kind.path("n") == path
    assert kube_kinds.known("deployments.example.com") is None


@pytest.mark.parametrize(
    ("api_version", "custom"),
    [
        ("v1", False),
        ("apps/v1", False),
        ("networking.k8s.io/v1", False),
        ("rbac.authorization.k8s.io/v1", False),
        ("gateway.networking.k8s.io/v1", True),
        ("snapshot.storage.k8s.io/v1", True),
        ("cert-manager.io/v1", True),
        ("stable/v1", True),
    ],
)
def test_custom_are_the_groups_that_are_not_the_server_s_own(
    api_version: str, custom: bool
) -> None:
    assert kube_kinds.Kind(api_version, "X", "xs").custom is custom


def test_one_dead_aggregated_api_does_not_hide_the_others(
    serve: Serve, make_context: MakeContext
) -> None:
    def group(name: str) -> dict[str, Any]:
        return {"name": name, "preferredVersion": {"groupVersion": f"{name}/v1"}}

    def answer(request: Request) -> Answer:
        path = request.path.partition("?")[0]
        if path == "/apis":
            return 200, {"kind": "APIGroupList", "groups": [group("dead.io"), group("cert.io")]}
        if path == "/apis/cert.io/v1":
            one = {"name": "certificates", "kind": "Certificate", "namespaced": True}
            return 200, {"kind": "APIResourceList", "resources": [one]}
        if path == "/apis/dead.io/v1":
            return 503, {"kind": "Status", "message": "service unavailable"}
        if path.endswith("/certificates/a"):
            return 200, {"kind": "Certificate", "metadata": {"name": "a"}}
        return 200, {"kind": "APIResourceList", "resources": []}

    ctx = make_context({"kubectl": {"server": serve(answer).url}}, seconds=10)
    assert kubectl.get(ctx, "certificate", "a").data["found"]
    with pytest.raises(Failed, match="no kind") as caught:
        kubectl.get(ctx, "nothing", "a")
    assert any("dead.io/v1 did not answer" in line for line in caught.value.evidence)


def test_a_refusal_after_something_was_applied_is_told_as_a_failure(ctx: TaskContext) -> None:
    bad = {**config_map("Bad_Name")}
    with pytest.raises(ActionError) as caught:
        kubectl.apply(ctx, objects=[config_map("half-done"), bad])
    assert type(caught.value) is Failed
    assert "applied before: configmap/half-done created" in caught.value.evidence


# -- objects that were applied on the client's side ---------------------------------------------
def made_by_kubectl(cluster: TestCluster, tmp_path: Path, item: dict[str, Any]) -> None:
    """Apply an object as `kubectl apply` does without any option."""
    file = tmp_path / "object.json"
    file.write_text(json.dumps(item))
    command = [find_kubectl(), "apply", "-f", str(file), "--validate=false"]
    kubeconfig = str(cluster.server.kubeconfig_path)
    environment = {"KUBECONFIG": kubeconfig, "HOME": str(tmp_path), "PATH": "/usr/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_what_kubectl_applied_is_taken_over_with_its_fields(
    ctx: TaskContext, check: TaskContext, cluster: TestCluster, tmp_path: Path
) -> None:
    name = "client-side"
    old = {**config_map(name), "data": {"keep": "1", "legacy": "x"}}
    made_by_kubectl(cluster, tmp_path, {**old, "metadata": {"name": name, "namespace": NAMESPACE}})
    new = {**config_map(name), "data": {"keep": "2"}}
    checked = kubectl.apply.checker
    assert checked
    planned = checked(check, objects=[new])
    assert cluster.read(f"{CONFIGS}/{name}")["data"] == {"keep": "1", "legacy": "x"}
    applied = kubectl.apply(ctx, objects=[new])
    assert cluster.read(f"{CONFIGS}/{name}")["data"] == {"keep": "2"}
    changes = [line for line in applied.diff.splitlines() if line.strip("+-") != line]
    assert "-  legacy: x" in changes
    assert [one for one in planned.diff.splitlines() if one[0] in "+-"] == changes
    metadata = cluster.read(f"{CONFIGS}/{name}")["metadata"]
    assert [one["manager"] for one in metadata["managedFields"]] == ["ce-run"]
    assert not metadata.get("annotations")
    assert not kubectl.apply(ctx, objects=[new]).changed


def test_what_helm_made_is_taken_over_and_what_others_set_stays(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    name = "by-helm"
    with cluster.client(agent="helm") as client:
        item = {**config_map(name), "data": {"keep": "1", "legacy": "x"}}
        client.post(f"{CONFIGS}?fieldManager=helm", json=item).raise_for_status()
        client.patch(
            f"{CONFIGS}/{name}?fieldManager=somebody",
            json={"data": {"theirs": "1"}},
            headers={"Content-Type": "application/merge-patch+json"},
        ).raise_for_status()
    kubectl.apply(ctx, objects=[{**config_map(name), "data": {"keep": "2"}}])
    assert cluster.read(f"{CONFIGS}/{name}")["data"] == {"keep": "2", "theirs": "1"}


def test_fields_of_other_managers_are_still_not_taken(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    name = "of-others"
    with cluster.client() as client:
        item = {**config_map(name), "data": {"keep": "1"}}
        client.post(f"{CONFIGS}?fieldManager=somebody", json=item).raise_for_status()
    with pytest.raises(Refused, match=r"somebody owns \.data\.keep"):
        kubectl.apply(ctx, objects=[{**config_map(name), "data": {"keep": "2"}}])
