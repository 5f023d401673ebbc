"""`kubectl` finds its cluster and says who it is in all the ways that clusters are reached by."""

from __future__ import annotations

import contextlib
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.clock import VirtualClock
from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, TimedOut, Unreachable
from modules import kubectl
from modules._kube import config as kube_config
from modules._kube.plugin import Plugin
from tests.lab.cluster.objects import NAMESPACE
from tests.modules.conftest import Answer, Certificate, MakeContext, Request, Serve, Told
from tests.modules.kube_cluster import TestCluster

CancelWhen = Callable[[TaskContext, Callable[[], bool]], object]
V1 = "client.authentication.k8s.io/v1"
EMPTY = {"kind": "NamespaceList", "metadata": {}, "items": []}
NO_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods?limit=500"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """One cluster for all tests of this file: they only look."""
    with TestCluster(tmp_path_factory.mktemp("kube")) as cluster:
        yield cluster


# -- plug-ins -----------------------------------------------------------------------------------
class PluginUser:
    """A kubeconfig whose user is known by a plug-in: a script that says what `answer` holds."""

    def __init__(self, folder: Path, cluster: TestCluster) -> None:
        self.folder = folder
        self.token = cluster.server.token
        self.file = folder / "kubeconfig"
        self._config = yaml.safe_load(cluster.server.kubeconfig_path.read_text())
        self.script('echo "$KUBERNETES_EXEC_INFO" >> asked; cat answer')
        self.answer(token=self.token)
        self.configure()

    def configure(self, **more: Any) -> None:
        command = {"apiVersion": V1, "command": "./plugin", "interactiveMode": "Never"}
        self._config["users"][0]["user"] = {"exec": {**command, **more}}
        self.file.write_text(yaml.safe_dump(self._config))

    def script(self, text: str) -> None:
        plugin = self.folder / "plugin"
        plugin.write_text(f'#!/bin/sh\ncd "$(dirname "$0")"\n{text}\n')
        plugin.chmod(0o755)

    def answer(self, name: str = "answer", /, **status: Any) -> None:
        credential = {"apiVersion": V1, "kind": "ExecCredential", "status": status}
        (self.folder / name).write_text(json.dumps(credential))

    @property
    def asked(self) -> list[Any]:
        """What the plug-in was told, each time it was asked."""
        return [json.loads(line) for line in (self.folder / "asked").read_text().splitlines()]

    @property
    def section(self) -> dict[str, Any]:
        return {"kubectl": {"kubeconfig": str(self.file), "namespace": NAMESPACE}}


@pytest.fixture
def user(tmp_path: Path, cluster: TestCluster) -> PluginUser:
    return PluginUser(tmp_path, cluster)


def test_a_plug_in_is_asked_once_and_what_it_gives_is_masked(
    make_context: MakeContext, user: PluginUser, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the kubernetes library: its import takes as long as a rollback may."""
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    ctx = make_context(user.section)
    for _ in range(3):
        assert kubectl.get(ctx, "ns").data["count"]
    (info,) = user.asked
    assert info == {"kind": "ExecCredential", "apiVersion": V1, "spec": {"interactive": False}}
    assert user.token in told.masked


def test_a_plug_in_gets_its_arguments_environment_and_cluster(
    make_context: MakeContext, user: PluginUser
) -> None:
    user.script('echo "$KUBERNETES_EXEC_INFO" >> asked; [ "$1$2$REGION" = "a beu" ] && cat answer')
    environment = [{"name": "REGION", "value": "eu"}]
    user.configure(args=["a ", "b"], env=environment, provideClusterInfo=True)
    assert kubectl.get(make_context(user.section), "ns").data["count"]
    shown = user.asked[0]["spec"]["cluster"]
    assert shown["server"].startswith("https://127.0.0.1:")
    assert shown["certificate-authority-data"]


def test_an_expired_credential_is_asked_for_anew(
    make_context: MakeContext, user: PluginUser
) -> None:
    user.answer(token=user.token, expirationTimestamp="2020-01-01T00:00:00Z")
    ctx = make_context(user.section)
    kubectl.get(ctx, "ns")
    before = len(user.asked)
    user.answer(token=user.token, expirationTimestamp="2099-01-01T00:00:00Z")
    for _ in range(3):
        kubectl.get(ctx, "ns")
    assert len(user.asked) == before + 1


def test_a_credential_that_is_not_accepted_is_asked_for_once_more(
    make_context: MakeContext, user: PluginUser
) -> None:
    user.script('echo "$KUBERNETES_EXEC_INFO" >> asked; cat first || cat answer; rm -f first')
    user.answer("first", token="revoked")
    assert kubectl.get(make_context(user.section), "ns").data["count"]
    assert len(user.asked) == 2
    user.answer(token="never good")
    with pytest.raises(Refused, match="Unauthorized"):
        kubectl.get(make_context(user.section), "ns")
    assert len(user.asked) == 4


def test_a_plug_in_may_give_a_client_certificate(
    make_context: MakeContext,
    user: PluginUser,
    serve: Serve,
    certificate: Callable[[float], Certificate],
) -> None:
    own = certificate(30)
    own.server.verify_mode = ssl.CERT_REQUIRED
    own.server.load_verify_locations(own.file)
    server = serve(lambda request: (200, EMPTY), own.server)
    pem, key = own.file.read_text(), own.file.with_name("key.pem").read_text()
    user.answer(clientCertificateData=pem, clientKeyData=key)
    config = yaml.safe_load(user.file.read_text())
    config["clusters"][0]["cluster"] = {
        "server": server.url.replace("http:", "https:"),
        "certificate-authority": str(own.file),
    }
    user.file.write_text(yaml.safe_dump(config))
    assert kubectl.get(make_context(user.section), "ns").data["count"] == 0
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("script", "settings", "error", "words"),
    [
        ("echo no session >&2; exit 7", {}, Failed, "failed with exit status 7"),
        ("echo hello", {}, Refused, "answered with no ExecCredential"),
        ("cat answer | sed s.auth.oauth.", {}, Refused, "not as it was asked"),
        ("cat answer | sed s/token/nothing/", {}, Refused, "gave neither a token nor"),
        ("", {"command": "no-such-plugin"}, Refused, "cannot be run: no-such-plugin"),
        ("", {"command": None}, Refused, "names no command"),
        ("", {"apiVersion": "v9"}, Refused, "has apiVersion 'v9'"),
        ("", {"interactiveMode": "Always"}, Refused, "wants to ask a person"),
    ],
)
def test_a_plug_in_that_gives_nothing_is_named(
    make_context: MakeContext,
    user: PluginUser,
    script: str,
    settings: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    user.script(script)
    user.configure(installHint="install it from the shelf", **settings)
    with pytest.raises(error, match=words) as caught:
        kubectl.get(make_context(user.section), "ns")
    assert isinstance(caught.value, Failed | Refused)
    assert "the credential plug-in" in caught.value.message
    assert caught.value.hint
    if error is Failed:
        assert caught.value.evidence == ["no session"]
    if "cannot be run" in words:
        assert caught.value.hint == "install it from the shelf"


def test_a_plug_in_that_hangs_ends_with_the_step(
    make_context: MakeContext, user: PluginUser, cancel_when: CancelWhen
) -> None:
    user.script("echo >> hangs; exec sleep 60")
    with pytest.raises(TimedOut):
        kubectl.get(make_context(user.section, seconds=0.3), "ns")
    (user.folder / "hangs").unlink(missing_ok=True)
    ctx = make_context(user.section)
    cancel_when(ctx, (user.folder / "hangs").exists)
    with pytest.raises(Cancelled):
        kubectl.get(ctx, "ns")


def test_who_waits_for_another_task_s_plug_in_can_be_stopped(
    make_context: MakeContext, tmp_path: Path
) -> None:
    """One task asks for all; each has its own deadline and its own end."""
    script = tmp_path / "plugin"
    script.write_text('#!/bin/sh\necho > "$0.asked"\nexec sleep 60\n')
    script.chmod(0o755)
    spec = {"apiVersion": V1, "command": "./plugin", "interactiveMode": "Never"}
    plugin = Plugin(spec, "me", tmp_path, {})
    asking, waiting = make_context(), make_context(seconds=0.2)

    def ask() -> None:
        with contextlib.suppress(Cancelled):
            plugin.credential(asking)

    asker = threading.Thread(target=ask)
    asker.start()
    while not (tmp_path / "plugin.asked").exists():
        threading.Event().wait(0.01)
    with pytest.raises(TimedOut):
        plugin.credential(waiting)
    asking.cancel()
    asker.join()


# -- tokens in files ----------------------------------------------------------------------------
def test_a_token_file_is_read_anew_for_each_request(
    make_context: MakeContext, cluster: TestCluster, tmp_path: Path, told: Told
) -> None:
    """Its path counts from the folder of the kubeconfig; who renews the token writes it anew."""
    config = yaml.safe_load(cluster.server.kubeconfig_path.read_text())
    config["users"][0]["user"] = {"tokenFile": "token"}
    file, token = tmp_path / "config", tmp_path / "token"
    file.write_text(yaml.safe_dump(config))
    token.write_text(f"{cluster.server.token}\n")
    ctx = make_context({"kubectl": {"kubeconfig": str(file)}})
    assert kubectl.get(ctx, "ns").data["count"]
    assert cluster.server.token in told.masked
    token.write_text("revoked")
    with pytest.raises(Refused, match="Unauthorized"):
        kubectl.get(ctx, "ns")
    token.unlink()
    with pytest.raises(Refused, match=r"the token file .*/token cannot be read"):
        kubectl.get(ctx, "ns")


@pytest.fixture
def pod_account(cluster: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a pod's service account mounts, and the environment that a pod has."""
    import base64

    config = yaml.safe_load(cluster.server.kubeconfig_path.read_text())
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(base64.b64decode(authority))
    (folder / "token").write_text(cluster.server.token)
    (folder / "namespace").write_text(f"{NAMESPACE}\n")
    monkeypatch.setattr(kube_config, "_SERVICE_ACCOUNT", folder)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(cluster.server.port))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return folder


def test_in_a_pod_its_service_account_is_used(
    make_context: MakeContext, cluster: TestCluster, pod_account: Path
) -> None:
    ctx = make_context()
    assert kubectl.get(ctx, "pods").data["count"] == 0
    assert list(cluster.server.requests)[-1].path == NO_PODS
    (pod_account / "token").write_text("rotated away")
    with pytest.raises(Refused, match="Unauthorized") as caught:
        kubectl.get(ctx, "pods")
    assert "the service account of this pod" in caught.value.hint


def test_a_kubeconfig_goes_before_the_service_account(
    make_context: MakeContext, cluster: TestCluster, pod_account: Path, tmp_path: Path
) -> None:
    (pod_account / "token").write_text("nobody")
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text(cluster.server.kubeconfig_path.read_text())
    assert kubectl.get(make_context(), "pods").data["count"] == 0


def test_contexts_of_several_files_are_one_configuration(
    make_context: MakeContext,
    cluster: TestCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with kubectl, what comes first counts."""
    whole = yaml.safe_load(cluster.server.kubeconfig_path.read_text())
    users = {"users": whole.pop("users"), "current-context": "elsewhere"}
    elsewhere = {"cluster": "none", "user": "none"}
    users["contexts"] = [{"name": "elsewhere", "context": elsewhere}]
    for name, document in (("users", users), ("rest", whole)):
        (tmp_path / name).write_text(yaml.safe_dump(document))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'users'}:{tmp_path / 'rest'}:/nowhere")
    assert kubectl.get(make_context({"kubectl": {"context": "lab"}}), "ns").data["count"]
    with pytest.raises(Refused, match="no cluster 'none'"):
        kubectl.get(make_context(), "ns")


# -- a server that is too busy ------------------------------------------------------------------
def busy(times: int, status: int = 429, after: str = "3") -> Callable[[Request], Answer]:
    """Answers that the server is too busy, so many times, then with an empty list."""
    left = iter(range(times))

    def answer(request: Request) -> Answer:
        if next(left, None) is None:
            return 200, EMPTY
        return status, {"message": "too many requests"}, {"Retry-After": after} if after else {}

    return answer


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_a_busy_server_is_asked_again_when_it_says(
    make_context: MakeContext, serve: Serve, status: int
) -> None:
    server, clock = serve(busy(2, status)), VirtualClock()
    begun = clock.now()
    ctx = make_context({"kubectl": {"server": server.url}}, clock=clock)
    assert kubectl.get(ctx, "ns").data["count"] == 0
    assert clock.now() - begun == 6
    assert len(server.requests) == 3


def test_a_busy_server_is_not_waited_for_beyond_the_deadline(
    make_context: MakeContext, serve: Serve
) -> None:
    server = serve(busy(1, after="60"))
    ctx = make_context({"kubectl": {"server": server.url}}, seconds=10)
    with pytest.raises(Unreachable, match="too many requests"):
        kubectl.get(ctx, "ns")


@pytest.mark.parametrize(
    ("status", "after", "requests"),
    [(429, "", 1), (429, "tomorrow", 1), (403, "1", 1), (503, "1", 10)],
)
def test_an_end_is_put_to_asking_again(
    make_context: MakeContext, serve: Serve, status: int, after: str, requests: int
) -> None:
    server = serve(busy(1000, status, after))
    with pytest.raises((Unreachable, Refused), match="too many requests"):
        kubectl.get(make_context({"kubectl": {"server": server.url}}, clock=VirtualClock()), "ns")
    assert len(server.requests) == requests
