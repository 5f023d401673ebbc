"""Where the cluster is and who we are: the inventory's ``kubectl`` section and kubeconfig files.

The forms that clusters are reached by in practice (tokens, token files, client certificates,
basic authentication, a pod's service account, plug-ins) are read here, in a few milliseconds.
Users of the old ``auth-provider`` are handed to the `kubernetes` library, whose import takes a
quarter of a second: too much for an emergency rollback that may do without.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.module_api import Context, Failed, Refused
from modules._kube import proxy as kube_proxy
from modules._kube.kubeconfig import Config
from modules._kube.tls import path_of, pem, text_of, tls_context
from modules._shared.proxy import Proxy

if TYPE_CHECKING:
    import ssl

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_KEYS = (
    "context",
    "namespace",
    "kubeconfig",
    "server",
    "token",
    "certificate_authority",
    "client_certificate",
    "client_key",
    "verify",
    "timeout",
)
_TIMEOUT = 30.0


class Access(NamedTuple):
    """How to reach one cluster, and as whom."""

    server: str
    """``https://host:port``, with a path when there is one, without a slash at its end."""
    namespace: str
    authorization: Callable[[Context], str]
    """Value of the Authorization header, asked for with each request; may be empty."""
    tls: ssl.SSLContext | None
    server_name: str | None
    """The name that the server's certificate must have, when it is not that in `server`."""
    proxy: Proxy | None
    timeout: float
    """Seconds that one answer may take."""
    source: str
    """Where this comes from, for messages."""
    forget: Callable[[], None] | None = None
    """What to do when the server does not accept the credentials, if others can be had."""
    impersonation: tuple[tuple[str, str], ...] = ()
    """Headers by which we act as somebody else."""


def access(ctx: Context) -> Access:
    """How to reach the cluster of this run; Refused or Failed says what is missing."""
    section = dict(ctx.connection("kubectl"))
    if unknown := sorted(set(section) - set(_KEYS)):
        raise Refused(
            f"unknown keys in the inventory's kubectl section: {', '.join(unknown)}",
            hint=f"known are: {', '.join(_KEYS)}",
        )
    _refuse_at_odds(section)
    if section.get("server"):
        return _from_section(ctx, section)
    files = _kubeconfigs(section)
    if not files and (_SERVICE_ACCOUNT / "token").exists():
        return _in_cluster(ctx, section)
    return _from_kubeconfig(ctx, section, files)


_OF_SERVER = ("token", "certificate_authority", "client_certificate", "client_key")
_OF_FILES = ("context", "kubeconfig")


def _refuse_at_odds(section: Mapping[str, Any]) -> None:
    """Either the section says all itself, or a kubeconfig does: nothing is ignored."""
    alone = _OF_FILES if section.get("server") else _OF_SERVER
    if ignored := [key for key in alone if section.get(key)]:
        raise Refused(
            f"the inventory's kubectl section has `{ignored[0]}` "
            + ("beside `server`" if section.get("server") else "but no `server`")
            + ": it would be ignored",
            hint="give either `server` with its credentials, or a kubeconfig with its context",
        )


def _from_section(ctx: Context, section: Mapping[str, Any]) -> Access:
    token = str(section.get("token") or "")
    if token:
        ctx.mask(token)
    server = str(section["server"]).rstrip("/")
    return Access(
        server=server,
        namespace=str(section.get("namespace") or "default"),
        authorization=_bearer(ctx, token),
        tls=tls_context(
            ctx,
            server,
            verify=_verify(section),
            said_by="`kubectl` of the inventory",
            authority=text_of(section.get("certificate_authority")),
            certificate=path_of(section.get("client_certificate")),
            key=path_of(section.get("client_key")),
        ),
        server_name=None,
        proxy=_proxy(ctx, server, None, ""),
        timeout=_timeout(section),
        source="the inventory's kubectl section",
    )


def _in_cluster(ctx: Context, section: Mapping[str, Any]) -> Access:
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    own = _SERVICE_ACCOUNT / "namespace"
    namespace = own.read_text().strip() if own.exists() else ""
    return Access(
        server=server,
        namespace=str(section.get("namespace") or namespace or "default"),
        authorization=lambda ctx: _token_file(ctx, _SERVICE_ACCOUNT / "token"),
        tls=tls_context(
            ctx,
            server,
            verify=_verify(section),
            said_by="`kubectl` of the inventory",
            authority=path_of(_SERVICE_ACCOUNT / "ca.crt"),
            certificate=None,
            key=None,
        ),
        server_name=None,
        proxy=_proxy(ctx, server, None, ""),
        timeout=_timeout(section),
        source="the service account of this pod",
    )


def _kubeconfigs(section: Mapping[str, Any]) -> list[Path]:
    """The kubeconfig files that count; a file named by the inventory must be there."""
    if named := section.get("kubeconfig"):
        path = Path(str(named)).expanduser()
        if not path.exists():
            raise Refused(
                f"the kubeconfig {path} is not there",
                hint="it is named by `kubectl.kubeconfig` in the inventory",
            )
        return [path]
    named = os.environ.get("KUBECONFIG")
    paths = named.split(os.pathsep) if named else ["~/.kube/config"]
    return [path for text in paths if text and (path := Path(text).expanduser()).exists()]


def _from_kubeconfig(ctx: Context, section: Mapping[str, Any], files: list[Path]) -> Access:
    if not files:
        raise Refused(
            "no cluster is configured: the inventory names none and there is no kubeconfig",
            hint="give `kubectl: {kubeconfig: …, context: …, namespace: …}` in the inventory",
        )
    config = Config(files)
    name = str(section.get("context") or config.current)
    context = config.entry("contexts", name, "context")
    cluster = config.entry("clusters", str(context.get("cluster")), "cluster")
    user = config.entry("users", str(context["user"]), "user") if context.get("user") else {}
    server = str(cluster.get("server") or "").rstrip("/")
    if not server:
        raise Refused(f"the cluster of context {name!r} has no server in {config.where}")
    verify = _verify(section) and not cluster.get("insecure-skip-tls-verify")
    authorization, certificate, key, forget = _credentials(ctx, config, context, user, name)
    return Access(
        server=server,
        namespace=str(section.get("namespace") or context.get("namespace") or "default"),
        authorization=authorization,
        tls=tls_context(
            ctx,
            server,
            verify=verify,
            said_by=(
                f"context {name} of {config.where}"
                if _verify(section)
                else "`kubectl` of the inventory"
            ),
            authority=pem(cluster, "certificate-authority", config.where),
            certificate=certificate,
            key=key,
        ),
        server_name=cluster.get("tls-server-name"),
        proxy=_proxy(ctx, server, cluster.get("proxy-url"), config.where),
        timeout=_timeout(section),
        source=f"context {name} of {config.where}",
        forget=forget,
        impersonation=_impersonation(user, f"user {context.get('user')!r} of {config.where}"),
    )


def _proxy(ctx: Context, server: str, configured: object, where: str) -> Proxy | None:
    proxy = kube_proxy.choose(server, configured, where)
    if proxy and proxy.password:
        ctx.mask(proxy.password)
    return proxy


def _impersonation(user: Mapping[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    """The headers for ``as``, ``as-uid``, ``as-groups`` and ``as-user-extra``."""
    from urllib.parse import quote

    groups, extra = user.get("as-groups") or [], user.get("as-user-extra") or {}
    values = {"as": user.get("as"), "as-uid": user.get("as-uid")}
    if not isinstance(groups, list) or not isinstance(extra, dict):
        raise Refused(f"`as-groups` (a list) or `as-user-extra` (a mapping) of {where} is neither")
    pairs = [("Impersonate-User", values["as"]), ("Impersonate-Uid", values["as-uid"])]
    pairs += [("Impersonate-Group", group) for group in groups]
    for key, each in extra.items():
        name = f"Impersonate-Extra-{quote(str(key).lower(), safe='')}"
        pairs += [(name, one) for one in (each if isinstance(each, list) else [each])]
    headers = tuple((name, str(value)) for name, value in pairs if value)
    if headers and not values["as"]:
        raise Refused(f"{where} says as which groups to act, but not as whom (`as`)")
    if any(not value.isprintable() for _, value in headers):
        raise Refused(f"{where} says to act as somebody whose name cannot stand in a header")
    return headers


_Credentials = tuple[Callable[[Context], str], str | None, str | None, Callable[[], None] | None]
"""The Authorization header, PEM texts of a client certificate and its key, and how to renew."""


def _credentials(
    ctx: Context,
    config: Config,
    context: Mapping[str, Any],
    user: Mapping[str, Any],
    name: str,
) -> _Credentials:
    if user.get("exec"):
        return _plugin(ctx, config, context, user["exec"])
    if user.get("auth-provider"):
        return _by_library(config, name)
    certificate = pem(user, "client-certificate", config.where)
    key = pem(user, "client-key", config.where)
    if path := user.get("tokenFile"):
        return lambda ctx: _token_file(ctx, Path(path)), certificate, key, None
    if token := str(user.get("token") or ""):
        return _bearer(ctx, token), certificate, key, None
    if user.get("username"):
        password = str(user.get("password") or "")
        ctx.mask(password)
        pair = base64.b64encode(f"{user['username']}:{password}".encode()).decode()
        return lambda ctx: f"Basic {pair}", certificate, key, None
    return lambda ctx: "", certificate, key, None


def _bearer(ctx: Context, token: str) -> Callable[[Context], str]:
    if token:
        ctx.mask(token)
    return lambda ctx: f"Bearer {token}" if token else ""


def _token_file(ctx: Context, path: Path) -> str:
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise Refused(f"the token file {path} cannot be read: {error.strerror}") from error
    ctx.mask(token)
    return f"Bearer {token}"


def _plugin(
    ctx: Context, config: Config, context: Mapping[str, Any], spec: Mapping[str, Any]
) -> _Credentials:
    """Credentials by the program that the user's ``exec`` names."""
    from modules._kube.plugin import Plugin

    user, cluster = str(context["user"]), str(context["cluster"])
    folder = config.folders["users", user]
    plugin = Plugin(spec, user, folder, _for_plugin(config.entry("clusters", cluster, "cluster")))
    credential = plugin.credential(ctx)
    return plugin.authorization, credential.certificate, credential.key, plugin.forget


def _for_plugin(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """What a plug-in learns of its cluster when it asks for that (``provideClusterInfo``)."""
    cluster_info = {
        key: cluster[key]
        for key in (
            "server",
            "tls-server-name",
            "insecure-skip-tls-verify",
            "certificate-authority-data",
            "proxy-url",
        )
        if key in cluster
    }
    if path := cluster.get("certificate-authority"):
        cluster_info["certificate-authority-data"] = base64.b64encode(
            Path(path).read_bytes()
        ).decode()
    for one in cluster.get("extensions") or []:
        if one.get("name") == "client.authentication.k8s.io/exec":
            cluster_info["config"] = one.get("extension")
    return cluster_info


def _by_library(config: Config, context: str) -> _Credentials:
    """Credentials of an ``auth-provider``: the `kubernetes` library gets and renews them."""
    from kubernetes import config as library
    from kubernetes.client import Configuration

    configuration = Configuration()
    load: Any = library.load_kube_config

    def header(ctx: Context) -> str:
        try:
            return configuration.get_api_key_with_prefix("authorization", "BearerToken") or ""
        except Exception as error:  # a renewal goes through somebody else's code and server
            raise _library_failed(context, error) from error

    try:
        load(
            config_file=os.pathsep.join(str(path) for path in config.files),
            context=context,
            client_configuration=configuration,
        )
    except Exception as error:
        raise _library_failed(context, error) from error
    certificate, key = configuration.cert_file, configuration.key_file
    return (
        header,
        Path(certificate).read_text() if certificate else None,
        Path(key).read_text() if key else None,
        None,
    )


def _library_failed(context: str, error: Exception) -> Failed:
    return Failed(
        f"the auth-provider of context {context!r} failed: {error}",
        hint="run `kubectl get --raw /version` with the same kubeconfig to see it fail",
    )


def _verify(section: Mapping[str, Any]) -> bool:
    value = section.get("verify", True)
    if not isinstance(value, bool):
        raise Refused(f"`kubectl.verify` must be true or false, not {value!r}")
    return value


def _timeout(section: Mapping[str, Any]) -> float:
    value = section.get("timeout", _TIMEOUT)
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    raise Refused(f"`kubectl.timeout` must be a number of seconds, not {value!r}")
