"""Certificates are verified in every module; where the inventory says otherwise, the run warns.

Host keys of SSH servers are in test_ssh.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import ActionError, Refused, Unreachable
from modules import docker, http, http_check, kubectl, metrics, notify, sql
from tests.modules.conftest import Answer, Certificate, MakeContext, Request, Serve, Told
from tests.modules.postgres_server import Postgres

Use = Callable[[TaskContext], Any]


def answer(request: Request) -> Answer:
    """Enough for each of the clients below."""
    if request.path.endswith("/version"):
        return 200, json.dumps({"ApiVersion": "1.41"})
    if request.path.startswith("/api/v1/namespaces"):
        return 200, json.dumps({"kind": "NamespaceList", "metadata": {}, "items": []})
    if "/images/" in request.path:
        image = {"Id": "sha256:1", "RepoDigests": ["app@sha256:1"]}
        return 200, json.dumps(image)
    return 200, json.dumps({"value": 1})


def sections(url: str, **tls: Any) -> dict[str, Any]:
    """Each module's section for a server at `url`."""
    address = url.removeprefix("https://")
    return {
        "http-check": tls,
        "http": tls,
        "metrics": {"rate": {"url": f"{url}/rate", "value": "json.value", **tls}},
        "kubectl": {
            "server": url,
            **{{"ca": "certificate_authority"}.get(key, key): value for key, value in tls.items()},
        },
        "notify": {"channels": {"hook": {"webhook": {"url": url, **tls}}}},
        "docker": {"host": f"tcp://{address}", "tls": tls or {"verify": True}},
    }


USES: dict[str, Callable[[str], Use]] = {
    "http-check": lambda url: lambda ctx: http_check.get(ctx, url),
    "http": lambda url: lambda ctx: http.request(ctx, url),
    "metrics": lambda url: lambda ctx: metrics.read(ctx, "rate"),
    "notify": lambda url: lambda ctx: notify.send(ctx, "hook", text="x"),
    "kubectl": lambda url: lambda ctx: kubectl.get(ctx, "ns"),
    "docker": lambda url: lambda ctx: docker.inspect_digest(ctx, "app", local=True),
}


class Secure:
    """A server with a certificate that nobody knows."""

    def __init__(self, serve: Serve, made: Certificate) -> None:
        server = serve(answer, made.server)
        self.url = server.url.replace("http:", "https:")
        self.authority = str(made.file)


@pytest.fixture
def secure(serve: Serve, certificate: Callable[[float], Certificate]) -> Secure:
    """Such a server."""
    return Secure(serve, certificate(20))


@pytest.mark.parametrize("module", USES)
def test_a_certificate_of_nobody_is_refused(
    make_context: MakeContext, secure: Secure, told: Told, module: str
) -> None:
    ctx = make_context(sections(secure.url))
    with pytest.raises(ActionError) as caught:
        USES[module](secure.url)(ctx)
    assert "certificate" in " ".join([caught.value.message, *caught.value.evidence]).lower()
    assert told.warnings == []


@pytest.mark.parametrize("module", USES)
def test_the_inventory_can_name_its_authority(
    make_context: MakeContext, secure: Secure, told: Told, module: str
) -> None:
    USES[module](secure.url)(make_context(sections(secure.url, ca=secure.authority)))
    assert told.warnings == []


@pytest.mark.parametrize("module", USES)
def test_where_the_inventory_says_otherwise_the_run_warns(
    make_context: MakeContext, secure: Secure, told: Told, module: str
) -> None:
    USES[module](secure.url)(make_context(sections(secure.url, verify=False)))
    assert told.warnings
    for warned in told.warnings:
        assert "not verified" in warned
        assert "of the inventory says so" in warned


# -- databases ------------------------------------------------------------------------------------
def elsewhere(postgres: Postgres, **more: str) -> dict[str, Any]:
    """A database that answers here, and is called by the name of another machine."""
    entry = postgres.entry()
    named = {"host": "db.example.com", "hostaddr": "127.0.0.1"}
    return {"sql": {"primary": {**entry, **named, **more}}}


def test_a_database_elsewhere_has_to_prove_who_it_is(
    make_context: MakeContext, postgres: Postgres, told: Told
) -> None:
    with pytest.raises(Refused) as caught:
        sql.query(make_context(elsewhere(postgres)), "SELECT 1")
    assert "`sslmode` what is checked" in caught.value.hint
    assert any("SSL" in line for line in caught.value.evidence)
    assert told.warnings == []


@pytest.mark.parametrize("mode", ["disable", "prefer"])
def test_a_weaker_sslmode_is_warned_of(
    make_context: MakeContext, postgres: Postgres, told: Told, mode: str
) -> None:
    sql.query(make_context(elsewhere(postgres, sslmode=mode)), "SELECT 1")
    [warned] = told.warnings
    assert f"is not verified: sslmode={mode} of `sql.primary` says so" in warned


def test_a_database_here_needs_no_certificate(
    make_context: MakeContext, postgres: Postgres, told: Told
) -> None:
    ctx = make_context({"sql": {"primary": postgres.entry()}})
    sql.query(ctx, "SELECT 1")
    assert told.warnings == []


def test_a_docker_engine_elsewhere_without_tls_is_warned_of(
    make_context: MakeContext, told: Told
) -> None:
    ctx = make_context({"docker": {"host": "tcp://docker.invalid:2375"}})
    with pytest.raises(Unreachable):
        docker.inspect_digest(ctx, "app", local=True)
    [warned] = told.warnings
    assert "tcp://docker.invalid:2375 is spoken to without TLS" in warned
