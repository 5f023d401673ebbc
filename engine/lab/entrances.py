"""How others reach a lab: its description, its mail server, and what pods find inside."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, AuthResult

from engine.lab.balancers.haproxy import HAProxy
from engine.lab.clock import stamp
from engine.lab.databases.postgres import DATABASE, USER, Postgres
from engine.lab.layout import LabInfo, Layout, socket_fits
from engine.lab.network import Network
from engine.lab.people.inbox import Inbox
from engine.production.names import NAMESPACE

if TYPE_CHECKING:
    from engine.lab.lab import Lab

CONTEXT = "lab"
PAGERDUTY_PATH = "/pagerduty/v2/enqueue"

_REDIS_CLI = """\
#!/bin/bash
# Enough of redis-cli to ask the lab's Redis one thing.
exec 3<>"/dev/tcp/$REDIS_HOST/$REDIS_PORT" || exit 1
printf '%s\\r\\n' "$*" >&3
IFS= read -r answer <&3
answer=${answer%$'\\r'}
case $answer in
    '$-1') echo '(nil)' ;;
    '$'*) head -c "${answer#?}" <&3; echo ;;
    -*) echo "(error) ${answer#?}"; exit 1 ;;
    :*) echo "(integer) ${answer#?}" ;;
    *) echo "${answer#?}" ;;
esac
"""


def describe(lab: Lab, ca_file: str, haproxy: HAProxy) -> LabInfo:
    """The running lab, for `lab.json`."""
    network, layout = lab.network, lab.layout

    def url(service: str, path: str = "", scheme: str = "http") -> str:
        return f"{scheme}://{network.address(service)}{path}"

    docker = layout.docker_socket
    return LabInfo(
        pid=os.getpid(),
        started=stamp(),
        folder=str(layout.root),
        network=network.prefix,
        app_url=url("edge"),
        app_tls_url=url("edge_tls", scheme="https"),
        ca_file=ca_file,
        mesh_url=url("mesh"),
        stats_url=url("edge", "/haproxy-stats"),
        kubernetes_url=lab.kube.url,
        kubeconfig=str(lab.kube.kubeconfig_path),
        context=CONTEXT,
        namespace=NAMESPACE,
        redis_url=url("redis", scheme="redis"),
        haproxy_socket=haproxy.socket_path,
        haproxy_address=network.address("haproxy"),
        metrics_url=url("metrics"),
        smtp_host=network.host("smtp"),
        smtp_port=network.port("smtp"),
        registry=network.address("registry"),
        docker_host=f"unix://{docker}" if socket_fits(docker) else "",
        pod_ports=network.pod_ports,
        request_rate=lab.settings.request_rate,
        request_log=str(layout.requests),
        **_database(lab.postgres),
        **_people(url("inbox")),
    )


def _database(postgres: Postgres) -> dict[str, Any]:
    """Where the database of the lab is, and who may use it."""
    return {
        "dsn": postgres.dsn,
        "postgres_host": postgres.host,
        "postgres_port": postgres.port,
        "postgres_user": USER,
        "postgres_password": postgres.password,
        "postgres_database": DATABASE,
        "postgres_bin": str(postgres.binaries),
    }


def _people(inbox: str) -> dict[str, Any]:
    """Where those listen who are told of a run."""
    return {
        "inbox_url": inbox,
        "slack_url": f"{inbox}/slack",
        "pagerduty_url": f"{inbox}{PAGERDUTY_PATH}",
        "statuspage_url": f"{inbox}/statuspage/v1",
        "webhook_url": f"{inbox}/webhook",
    }


async def serve_mail(inbox: Inbox, host: str, port: int) -> asyncio.Server:
    """An SMTP server for the inbox; who signs in is let in, whatever the password."""

    def let_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=True, auth_data=data)

    def protocol() -> SMTP:
        return SMTP(
            inbox,
            hostname="lab.invalid",  # or it would ask a name server for ours
            ident="ce-run lab",
            auth_require_tls=False,
            authenticator=let_in,
        )

    return await asyncio.get_running_loop().create_server(protocol, host, port)


def pod_environment(postgres: Postgres, network: Network) -> dict[str, str]:
    """What programs in a pod need to reach the data layer."""
    return {
        "DATABASE_URL": postgres.dsn,
        "PGHOST": postgres.host,
        "PGPORT": str(postgres.port),
        "PGUSER": USER,
        "PGPASSWORD": postgres.password,
        "PGDATABASE": DATABASE,
        "REDIS_HOST": network.host("redis"),
        "REDIS_PORT": str(network.port("redis")),
    }


def make_tools(layout: Layout, postgres: Postgres) -> str:
    """Folders with the programs of the data layer, for `exec`; separated by colons."""
    layout.tools.mkdir(exist_ok=True)
    tool = layout.tools / "redis-cli"
    tool.write_text(_REDIS_CLI)
    tool.chmod(0o700)
    return f"{layout.tools}:{postgres.binaries}"
