"""What a kubeconfig says is obeyed or refused by name: identities, proxies, unknown keys."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.executor import TaskContext
from engine.module_api import ActionError, Refused
from modules import kubectl
from modules._kube import config as kube_config
from modules._kube import proxy as kube_proxy
from tests.modules.conftest import Certificate, MakeContext, Serve, Server, Told

CONFIG = {"kind": "ConfigMap", "metadata": {"name": "a"}}

Configure = Callable[..., TaskContext]


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(lambda request: (200, CONFIG))


@pytest.fixture
def configure(make_context: MakeContext, tmp_path: Path, server: Server) -> Configure:
    """A context whose kubeconfig has these entries beside those that it needs."""

    def make(
        user: dict[str, Any] | None = None,
        cluster: dict[str, Any] | None = None,
        context: dict[str, Any] | None = None,
        **document: Any,
    ) -> TaskContext:
        file = tmp_path / "config.yml"
        config = {
            "current-context": "prod",
            "clusters": [{"name": "prod", "cluster": {"server": server.url, **(cluster or {})}}],
            "users": [{"name": "me", "user": {"token": "not-a-secret-1234", **(user or {})}}],
            "contexts": [
                {"name": "prod", "context": {"cluster": "prod", "user": "me", **(context or {})}}
            ],
            **document,
        }
        file.write_text(yaml.safe_dump(config))
        return make_context({"kubectl": {"kubeconfig": str(file)}}, seconds=5)

    return make


def test_who_is_to_be_acted_as_is_told_with_every_request(
    configure: Configure, server: Server
) -> None:
    extra = {"Reason/Why": ["change-77", "b"]}
    user = {"as": "deployer", "as-uid": "7", "as-groups": ["release", "night"]}
    ctx = configure({**user, "as-user-extra": extra})
    access = kube_config.access(ctx)
    assert access.impersonation == (
        ("Impersonate-User", "deployer"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "release"),
        ("Impersonate-Group", "night"),
        ("Impersonate-Extra-reason%2Fwhy", "change-77"),
        ("Impersonate-Extra-reason%2Fwhy", "b"),
    )
    kubectl.get(ctx, "cm", "a")
    kubectl.patch(ctx, "cm", "a", {"data": {"a": "b"}})
    with contextlib.suppress(ActionError):  # this server has no websockets
        kubectl.exec_read(ctx, "true", pod="a")
    with contextlib.suppress(ActionError):
        kubectl.wait(ctx, "cm", "a", for_="condition=Ready")
    assert {request.headers.get("impersonate-user") for request in server.requests} == {"deployer"}
    assert any("/exec" in request.path for request in server.requests)


@pytest.mark.parametrize(
    "user",
    [{"as-groups": ["release"]}, {"as": "a\nb"}, {"as": "x", "as-groups": "release"}],
)
def test_an_identity_that_makes_no_sense_is_refused(configure: Configure, user: Any) -> None:
    with pytest.raises(Refused, match=r"user 'me'|as-groups"):
        kubectl.get(configure(user), "cm", "a")


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"user": {"as-group": ["x"]}}, "unknown key 'as-group' … did you mean 'as-groups'"),
        ({"cluster": {"proxy_url": "http://p"}}, "unknown key 'proxy_url' … did you mean 'proxy-u"),
        ({"cluster": {"insecure-skip-tls-verify": "false"}}, "must be true or false"),
        ({"context": {"namspace": "x"}}, "unknown key 'namspace' … did you mean 'namespace'"),
        ({"currentcontext": "x"}, "unknown key 'currentcontext'"),
        ({"users": {"me": {}}}, "`users` of the kubeconfig .* is no list"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    configure: Configure, entries: dict[str, Any], problem: str
) -> None:
    with pytest.raises(Refused, match=problem):
        kubectl.get(configure(**entries), "cm", "a")


def test_a_damaged_kubeconfig_does_not_print_its_tokens(
    make_context: MakeContext, tmp_path: Path
) -> None:
    file = tmp_path / "config.yml"
    file.write_text("users:\n- name: me\n  user: {token: not-a-secret-1234, token: x\n")
    with pytest.raises(Refused, match=r"config\.yml:\d+:\d+") as caught:
        kubectl.get(make_context({"kubectl": {"kubeconfig": str(file)}}), "cm")
    assert "not-a-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "section",
    [
        {"server": "http://127.0.0.1:1", "context": "x"},
        {"server": "http://127.0.0.1:1", "kubeconfig": "x"},
        {"token": "not-a-secret-1234"},
        {"certificate_authority": "x"},
    ],
)
def test_settings_that_would_be_ignored_are_refused(
    make_context: MakeContext, section: dict[str, Any]
) -> None:
    with pytest.raises(Refused, match="would be ignored"):
        kubectl.get(make_context({"kubectl": section}), "cm")


# -- proxies ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rules", "server", "direct"),
    [
        ("10.0.0.0/8", "https://10.20.30.40:6443", True),
        ("10.0.0.0/8", "https://11.20.30.40:6443", False),
        ("192.168.0.0/16, 10.20.30.40", "https://10.20.30.40:6443", True),
        ("10.20.30.40:6443", "https://10.20.30.40:6443", True),
        ("10.20.30.40:443", "https://10.20.30.40:6443", False),
        ("fd00::/8", "https://[fd00::1]:6443", True),
        ("[fd00::1]:6443", "https://[fd00::1]:6443", True),
        ("example.com", "https://kube.example.com", True),
        ("example.com", "https://example.com", True),
        ("example.com", "https://myexample.com", False),
        (".example.com", "https://example.com", False),
        ("*.example.com", "https://kube.example.com", True),
        ("Kube.Example.com:443", "https://kube.example.com", True),
        ("*", "https://kube.example.com", True),
        ("", "https://kube.example.com", False),
        ("10.0.0.0/99,,", "https://10.20.30.40", False),
        ("", "https://localhost:6443", True),
        ("", "https://127.8.8.8:6443", True),
        ("", "https://[::1]:6443", True),
    ],
)
def test_no_proxy_is_read_as_kubectl_reads_it(
    monkeypatch: pytest.MonkeyPatch, rules: str, server: str, direct: bool
) -> None:
    for name in ("https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", rules)
    proxy = kube_proxy.choose(server, None, "")
    assert (proxy is None) == direct
    assert proxy is None or proxy.url == "http://proxy.example.com:3128"


@pytest.mark.parametrize(
    "url", ["socks5://127.0.0.1:11080", "socks5h://u:p@h", "ftp://x", "http://"]
)
def test_a_proxy_of_another_scheme_is_refused_in_words(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    far = {"server": "https://kube.example.com:6443"}
    with pytest.raises(Refused, match="proxy") as caught:
        kubectl.get(configure(cluster={**far, "proxy-url": url}), "cm")
    assert "`proxy-url` of " in caught.value.message
    monkeypatch.setenv("HTTPS_PROXY", url)
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(Refused, match="HTTPS_PROXY"):
        kubectl.get(configure(cluster=far), "cm")


def test_a_proxy_gets_its_user_and_the_password_is_masked(
    configure: Configure, serve: Serve, told: Told
) -> None:
    proxy = serve(lambda request: (403, "no"))
    url = proxy.url.replace("http://", "http://me:not-a-secret@")
    far = {"server": "https://kube.example.com:6443", "proxy-url": url}
    with pytest.raises(ActionError, match=r"kube\.example\.com"):
        kubectl.get(configure(cluster=far), "cm")
    assert "not-a-secret" in told.masked
    assert proxy.requests == []  # this server does not know CONNECT


def test_authorities_need_not_say_what_their_keys_are_for(
    make_context: MakeContext, certificate: Callable[[float], Certificate]
) -> None:
    authority = certificate(1).file
    section = {"server": "https://127.0.0.1:1", "certificate_authority": str(authority)}
    tls = kube_config.access(make_context({"kubectl": section})).tls
    assert tls
    assert not tls.verify_flags & ssl.VERIFY_X509_STRICT
    assert tls.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("token", ["with\nline", "ümlaut"])
def test_credentials_that_cannot_be_sent_are_refused(configure: Configure, token: str) -> None:
    with pytest.raises(Refused, match="cannot stand in a header") as caught:
        kubectl.get(configure({"token": token}), "cm", "a")
    assert token not in caught.value.message


@pytest.mark.parametrize("text", ["", "nothing", "-----BEGIN CERTIFICATE-----\nü"])
def test_an_authority_that_is_none_is_refused(
    make_context: MakeContext, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(text)
    section = {"server": "https://127.0.0.1:1", "certificate_authority": str(file)}
    with pytest.raises(ActionError, match="certificate"):
        kubectl.get(make_context({"kubectl": section}), "cm", "a")
