"""The world that runs change, as it can be compared: without what differs from run to run."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from engine.lab import control
from tests.lab.production import NAMESPACE, Production, eventually

_STAMPS = (
    (re.compile(r"\d{8}-\d{6}-[\w-]+?-[0-9a-f]{4}\b"), "RUN"),
    (re.compile(r"\d{8}[tT]\d{6}[zZ]"), "STAMP"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|\+00:00| UTC)?"), "TIME"),
    (re.compile(r"127\.\d+\.\d+\.\d+(:\d+)?"), "ADDRESS"),
    (re.compile(r"\b\d+(\.\d+)?(ms|s|m\d+s)\b"), "SECONDS"),
)
_NUMBER = re.compile(r"\d+(\.\d+)?|–")
"""A figure, or the dash of one that monitoring did not have at that moment."""
_OF_USERS = (
    "public.orders",
    "public.sessions",
    "public.switches",
    "public.workflow_states",
    "release_5_1.workflow_states",
)
"""Tables into which the load writes all the time, and the copy of one."""
_OWN = ("claude_enhancer", "postgres", "template0", "template1")


def plain(text: str) -> str:
    """A text without run ids, time stamps and addresses."""
    for pattern, word in _STAMPS:
        text = pattern.sub(word, text)
    return text


def world(lab: Production, trace: Path) -> dict[str, Any]:
    """What a run leaves behind, once the cluster has come to rest."""
    eventually(lambda: _at_rest(lab))
    status = control.status(lab.state)
    return {
        **_cluster(lab),
        "weights": status.weights,
        "serving": {
            name: Counter(re.sub(r"-\d+$", "", each) for each in servers)
            for name, servers in status.serving.items()
        },
        "haproxy": _haproxy(lab),
        **_database(lab),
        "backups": _backups(lab),
        "notices": notices(lab),
        "trace": {path.name: len(path.read_text().splitlines()) for path in trace.iterdir()},
    }


# -- the cluster --------------------------------------------------------------------------------
def _at_rest(lab: Production) -> bool:
    deployments = lab.apps.list_namespaced_deployment(NAMESPACE).items
    pods = lab.core.list_namespaced_pod(NAMESPACE).items
    wanted = sum(each.spec.replicas for each in deployments)
    ours = [pod for pod in pods if "pod-template-hash" in (pod.metadata.labels or {})]
    return len(ours) == wanted and all(_settled(each) for each in deployments)


def _settled(deployment: Any) -> bool:
    status, replicas = deployment.status, deployment.spec.replicas
    return bool(
        (status.observed_generation or 0) >= deployment.metadata.generation
        and (status.updated_replicas or 0) == replicas
        and (status.ready_replicas or 0) == replicas
    )


def _cluster(lab: Production) -> dict[str, Any]:
    raw = lab.core.api_client.sanitize_for_serialization
    place = ("networking.istio.io", "v1beta1", NAMESPACE, "virtualservices")
    listed = {
        "deployments": raw(lab.apps.list_namespaced_deployment(NAMESPACE)),
        "services": raw(lab.core.list_namespaced_service(NAMESPACE)),
        "configmaps": raw(lab.core.list_namespaced_config_map(NAMESPACE)),
        "routes": lab.custom.list_namespaced_custom_object(*place),
    }
    return {kind: _objects(found["items"]) for kind, found in listed.items()}


def _objects(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        plain(each["metadata"]["name"]): _plain_values(
            {
                "labels": each["metadata"].get("labels"),
                "annotations": each["metadata"].get("annotations"),
                "generation": each["metadata"].get("generation"),
                "spec": each.get("spec"),
                "data": each.get("data"),
            }
        )
        for each in found
    }


def _plain_values(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_values(each) for key, each in value.items() if key != "clusterIP"}
    if isinstance(value, list):
        return [_plain_values(each) for each in value]
    return plain(value) if isinstance(value, str) else value


def _haproxy(lab: Production) -> dict[str, str]:
    """Server → weight and administrative state, of the backend that splits the traffic."""
    lines = lab.haproxy("show stat").splitlines()
    columns = lines[0].lstrip("# ").split(",")
    rows = [dict(zip(columns, line.split(","), strict=False)) for line in lines[1:] if line]
    return {
        row["svname"]: f"{row['weight']} {row['status']}"
        for row in rows
        if row["pxname"] == "claude_split"
    }


# -- the database -------------------------------------------------------------------------------
def _database(lab: Production) -> dict[str, Any]:
    names = [name for (name,) in lab.sql("SELECT datname FROM pg_database ORDER BY 1")]
    others = [plain(name) for name in names if name not in _OWN]
    counts = {}
    tables = lab.sql(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables"
        " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        " AND table_type = 'BASE TABLE' ORDER BY 1"
    )
    for (table,) in tables:
        if table in _OF_USERS:
            continue
        counts[table] = lab.sql(f"SELECT count(*) FROM {table}")[0][0]
    return {"databases": others, "rows": counts, "ledger": ledger(lab)}


def ledger(lab: Production) -> dict[str, int]:
    """Step → how many rows the ledger has of it, all tasks together."""
    if not lab.sql("SELECT 1 WHERE to_regclass('ce_run.ledger') IS NOT NULL"):
        return {}
    rows = lab.sql("SELECT step, count(*) FROM ce_run.ledger GROUP BY step ORDER BY step")
    return dict(rows)


def _backups(lab: Production) -> list[str]:
    folder = Path(lab.info.folder) / "backups"
    if not folder.is_dir():
        return []
    return sorted(plain(path.name) for path in folder.rglob("*"))


# -- people -------------------------------------------------------------------------------------
def notices(lab: Production) -> Counter[str]:
    """What people got to see, and how often: a receiver shows one notice of a key once."""
    return Counter(
        f"{each.channel} {each.target}: {_NUMBER.sub('N', plain(each.summary))[:150]}"
        for each in control.inbox(lab.state)
        if each.accepted and not each.duplicate
    )


def notices_sent_again(lab: Production) -> int:
    """How often a receiver got what it had, and told so by the key that it was sent with."""
    return sum(each.duplicate for each in control.inbox(lab.state))


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two worlds differ, one line each."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in sorted({*one, *other}, key=str)
            for line in differences(one.get(key), other.get(key), f"{path}/{key}")
        ]
    return [] if one == other else [f"{path}: {one!r} instead of {other!r}"]
