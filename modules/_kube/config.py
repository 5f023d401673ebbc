"""Where the cluster is and who we are: the inventory's ``kubectl`` section and kubeconfig files.

The forms that clusters are reached by in practice (tokens, token files, client certificates,
basic authentication, a pod's service account, plug-ins) are read here, in a few milliseconds.
Users of the old ``auth-provider`` are handed to the `kubernetes` library, whose import takes a
quarter of a second: too much for an emergency rollback that may do without.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.module_api import Context, Failed, Refused

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
    proxy: str | None
    timeout: float
    """Seconds that one answer may take."""
    source: str
    """Where this comes from, for messages."""
    forget: Callable[[], None] | None = None
    """What to do when the server does not accept the credentials, if others can be had."""


def access(ctx: Context) -> Access:
    """How to reach the cluster of this run; Refused or Failed says what is missing."""
    section = dict(ctx.connection("kubectl"))
    if unknown := sorted(set(section) - set(_KEYS)):
        raise Refused(
            f"unknown keys in the inventory's kubectl section: {', '.join(unknown)}",
            hint=f"known are: {', '.join(_KEYS)}",
        )
    if section.get("server"):
        return _from_section(ctx, section)
    files = _kubeconfigs(section)
    if not files and (_SERVICE_ACCOUNT / "token").exists():
        return _in_cluster(ctx, section)
    return _from_kubeconfig(ctx, section, files)


def _from_section(ctx: Context, section: Mapping[str, Any]) -> Access:
    token = str(section.get("token") or "")
    if token:
        ctx.mask(token)
    server = str(section["server"]).rstrip("/")
    return Access(
        server=server,
        namespace=str(section.get("namespace") or "default"),
        authorization=_bearer(ctx, token),
        tls=_tls(
            ctx,
            server,
            verify=_verify(section),
            said_by="`kubectl` of the inventory",
            authority=_text_of(section.get("certificate_authority")),
            certificate=_path_of(section.get("client_certificate")),
            key=_path_of(section.get("client_key")),
        ),
        server_name=None,
        proxy=_proxy(server, None),
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
        tls=_tls(
            ctx,
            server,
            verify=_verify(section),
            said_by="`kubectl` of the inventory",
            authority=_path_of(_SERVICE_ACCOUNT / "ca.crt"),
            certificate=None,
            key=None,
        ),
        server_name=None,
        proxy=None,
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
    given = os.environ.get("KUBECONFIG")
    paths = given.split(os.pathsep) if given else ["~/.kube/config"]
    return [path for text in paths if text and (path := Path(text).expanduser()).exists()]


def _from_kubeconfig(ctx: Context, section: Mapping[str, Any], files: list[Path]) -> Access:
    if not files:
        raise Refused(
            "no cluster is configured: the inventory names none and there is no kubeconfig",
            hint="give `kubectl: {kubeconfig: …, context: …, namespace: …}` in the inventory",
        )
    config = _Config(files)
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
        tls=_tls(
            ctx,
            server,
            verify=verify,
            said_by=(
                f"context {name} of {config.where}"
                if _verify(section)
                else "`kubectl` of the inventory"
            ),
            authority=_pem(cluster, "certificate-authority", config.where),
            certificate=certificate,
            key=key,
        ),
        server_name=cluster.get("tls-server-name"),
        proxy=_proxy(server, cluster.get("proxy-url")),
        timeout=_timeout(section),
        source=f"context {name} of {config.where}",
        forget=forget,
    )


class _Config:
    """One or several kubeconfig files; what comes first counts, as in kubectl."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.where = ", ".join(str(path) for path in files)
        self.folders: dict[tuple[str, str], Path] = {}
        """Section and name of an entry that was found → the folder of its file."""
        self._documents = [_read(path) for path in files]

    @property
    def current(self) -> str:
        """The current context; Refused when none is set."""
        for document in self._documents:
            if name := document.get("current-context"):
                return str(name)
        raise Refused(
            f"{self.where} has no current context",
            hint="name one with `kubectl: {context: …}` in the inventory",
        )

    def entry(self, section: str, name: str, key: str) -> dict[str, Any]:
        """The entry `name` of a list such as ``contexts``; relative paths in it made absolute."""
        known: list[str] = []
        for path, document in zip(self.files, self._documents, strict=True):
            for item in document.get(section) or []:
                known.append(str(item.get("name")))
                if item.get("name") == name:
                    self.folders[section, name] = path.parent
                    return _absolute(item.get(key) or {}, path.parent)
        import difflib

        near = difflib.get_close_matches(name, known, 1)
        raise Refused(
            f"{self.where} has no {key} {name!r}"
            + (f" … did you mean {near[0]!r}?" if near else ""),
            hint=f"its {section} are: {', '.join(known) or 'none'}",
        )


def _read(path: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(path.read_text(), Loader=loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Refused(f"the kubeconfig {path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise Refused(f"the kubeconfig {path} is not a kubeconfig: it holds no mapping")
    return document


def _absolute(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    paths = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
    return {
        key: str(folder / Path(str(value)).expanduser()) if key in paths and value else value
        for key, value in entry.items()
    }


_Credentials = tuple[Callable[[Context], str], str | None, str | None, Callable[[], None] | None]
"""The Authorization header, PEM texts of a client certificate and its key, and how to renew."""


def _credentials(
    ctx: Context,
    config: _Config,
    context: Mapping[str, Any],
    user: Mapping[str, Any],
    name: str,
) -> _Credentials:
    if user.get("exec"):
        return _plugin(ctx, config, context, user["exec"])
    if user.get("auth-provider"):
        return _by_library(config, name)
    certificate = _pem(user, "client-certificate", config.where)
    key = _pem(user, "client-key", config.where)
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
    ctx: Context, config: _Config, context: Mapping[str, Any], spec: Mapping[str, Any]
) -> _Credentials:
    """Credentials by the program that the user's ``exec`` names."""
    from modules._kube.plugin import Plugin

    user, cluster = str(context["user"]), str(context["cluster"])
    folder = config.folders["users", user]
    plugin = Plugin(spec, user, folder, _for_plugin(config.entry("clusters", cluster, "cluster")))
    found = plugin.credential(ctx)
    return plugin.authorization, found.certificate, found.key, plugin.forget


def _for_plugin(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """What a plug-in is told of its cluster when it asks for that (``provideClusterInfo``)."""
    told = {
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
        told["certificate-authority-data"] = base64.b64encode(Path(path).read_bytes()).decode()
    for one in cluster.get("extensions") or []:
        if one.get("name") == "client.authentication.k8s.io/exec":
            told["config"] = one.get("extension")
    return told


def _by_library(config: _Config, context: str) -> _Credentials:
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


def _pem(entry: Mapping[str, Any], name: str, where: str) -> str | None:
    """The PEM text of ``<name>-data`` (base64) or of the file ``<name>``."""
    if encoded := entry.get(f"{name}-data"):
        try:
            return base64.b64decode(str(encoded)).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Refused(f"{name}-data in {where} is not base64 of a PEM text") from error
    return _path_of(entry.get(name))


def _path_of(path: object) -> str | None:
    if not path:
        return None
    try:
        return Path(str(path)).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read: {error}") from error


def _text_of(value: object) -> str | None:
    """A PEM text as it is, or the text of the file that is named."""
    return str(value) if value and "-----BEGIN" in str(value) else _path_of(value)


def _tls(
    ctx: Context,
    server: str,
    *,
    verify: bool,
    said_by: str,
    authority: str | None,
    certificate: str | None,
    key: str | None,
) -> ssl.SSLContext | None:
    if not server.startswith("https:"):
        return None
    import ssl

    try:
        context = ssl.create_default_context(cadata=authority)
        if certificate:
            _load_certificate(context, certificate, key or certificate)
    except ssl.SSLError as error:
        raise Failed(
            f"the certificates for {server} cannot be used: {error.reason or error}",
            hint="check certificate-authority, client-certificate and client-key",
        ) from error
    if not verify:
        ctx.warn(f"the TLS certificate of {server} is not verified: {said_by} says so")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL reads a key only from a file: one of our own that lives for a moment."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # mode 0600
        file.write(f"{certificate}\n{key}")
        file.flush()
        context.load_cert_chain(file.name)


def _proxy(server: str, configured: object) -> str | None:
    """The proxy to tunnel through; a cluster without TLS is on this machine or next to it."""
    if not server.startswith("https:"):
        return None
    if configured:
        return str(configured)
    named = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    if not named:
        return None
    from urllib.parse import urlsplit
    from urllib.request import proxy_bypass

    host = urlsplit(server).hostname or ""
    here = host in ("localhost", "::1") or host.startswith("127.")  # as in kubectl
    return None if here or proxy_bypass(host) else named


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
