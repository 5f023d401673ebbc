"""Images: built by the Docker Engine API, pushed to the registry, pulled by the kubelet."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import docker
import docker.errors
import httpx
import pytest

from engine.lab.images.registry import ImageRegistry, split_reference
from tests.lab.production import NAMESPACE, Production, eventually

DOCKERFILE = b"FROM scratch\nLABEL org.opencontainers.image.version=5.2\nCOPY app /app\n"


@pytest.fixture
def engine(lab: Production) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=lab.info.docker_host)
    yield client
    client.close()


def context(**files: bytes) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def build(engine: docker.DockerClient, tag: str, **files: bytes) -> Any:
    image, _ = engine.images.build(fileobj=context(**files), custom_context=True, tag=tag)
    return image


def test_the_same_context_makes_the_same_image(engine: docker.DockerClient) -> None:
    first = build(engine, "claude-enhancer:a", Dockerfile=DOCKERFILE, app=b"one")
    again = build(engine, "claude-enhancer:b", app=b"one", Dockerfile=DOCKERFILE)
    other = build(engine, "claude-enhancer:c", Dockerfile=DOCKERFILE, app=b"two")
    assert first.id == again.id != other.id
    assert {"claude-enhancer:a", "claude-enhancer:b"} <= set(again.tags)


def test_a_pushed_image_has_the_registry_s_digest_and_runs(
    lab: Production, engine: docker.DockerClient
) -> None:
    name = f"{lab.info.registry}/claude-enhancer"
    image = build(engine, "claude-enhancer:5.2", Dockerfile=DOCKERFILE, app=b"new")
    assert image.tag(name, "5.2")
    lines = engine.images.push(name, tag="5.2", stream=True, decode=True)
    aux = [line["aux"] for line in lines if "aux" in line]
    head = httpx.head(
        f"http://{lab.info.registry}/v2/claude-enhancer/manifests/5.2",
    )
    digest = head.headers["Docker-Content-Digest"]
    assert aux[0]["Digest"] == digest
    assert f"{name}@{digest}" in engine.images.get(f"{name}:5.2").attrs["RepoDigests"]
    assert engine.images.get_registry_data(f"{name}:5.2").id == digest

    pod = {
        "metadata": {"name": "next"},
        "spec": {"containers": [{"name": "app", "image": f"{name}@{digest}"}]},
    }
    lab.core.create_namespaced_pod(NAMESPACE, pod)
    address = eventually(lambda: lab.core.read_namespaced_pod("next", NAMESPACE).status.pod_ip)
    port = lab.info.pod_ports[8080]
    answer = eventually(lambda: _get(f"http://{address}:{port}/health"))
    assert answer.json()["version"] == "5.2"
    lab.core.delete_namespaced_pod("next", NAMESPACE)


def test_what_cannot_be_built_or_pushed_says_why(engine: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.BuildError, match="Cannot locate specified Dockerfile"):
        build(engine, "x:1", app=b"no dockerfile")
    with pytest.raises(docker.errors.ImageNotFound):
        engine.images.get("nobody/built:this")
    build(engine, "elsewhere.example.com/app:1", Dockerfile=DOCKERFILE)
    push = engine.images.push("elsewhere.example.com/app", tag="1", stream=True, decode=True)
    assert "no such host" in next(line for line in push if "error" in line)["error"]


def test_an_image_can_be_listed_and_removed(engine: docker.DockerClient) -> None:
    build(engine, "throw:away", Dockerfile=DOCKERFILE, app=b"x")
    assert any("throw:away" in image.tags for image in engine.images.list())
    engine.images.remove("throw:away")
    assert not any("throw:away" in image.tags for image in engine.images.list())


def test_the_registry_knows_both_releases(lab: Production) -> None:
    base = f"http://{lab.info.registry}/v2"
    assert httpx.get(f"{base}/").status_code == 200
    tags = httpx.get(f"{base}/claude-enhancer/tags/list").json()["tags"]
    assert {"5.0", "5.1"} <= set(tags)
    answer = httpx.get(f"{base}/claude-enhancer/manifests/5.1")
    digest = answer.headers["Docker-Content-Digest"]
    by_digest = httpx.get(f"{base}/claude-enhancer/manifests/{digest}")
    assert by_digest.content == answer.content
    assert httpx.get(f"{base}/claude-enhancer/manifests/9.9").status_code == 404
    assert httpx.get(f"{base}/nothing/tags/list").json()["errors"][0]["code"] == "NAME_UNKNOWN"
    layer = answer.json()["layers"][0]["digest"]
    assert httpx.head(f"{base}/claude-enhancer/blobs/{layer}").status_code == 200


def test_a_blob_must_be_what_its_digest_says(lab: Production) -> None:
    base = f"http://{lab.info.registry}"
    begun = httpx.post(f"{base}/v2/app/blobs/uploads/")
    assert begun.status_code == 202
    place = f"{base}{begun.headers['Location']}?digest=sha256:{'0' * 64}"
    assert httpx.put(place, content=b"x").json()["errors"][0]["code"] == "DIGEST_INVALID"


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("claude-enhancer:5.1", ("", "claude-enhancer", "5.1")),
        ("claude-enhancer", ("", "claude-enhancer", "latest")),
        ("library/nginx", ("", "library/nginx", "latest")),
        ("127.0.0.1:5000/a/b:1", ("127.0.0.1:5000", "a/b", "1")),
        (f"r.example.com/a@sha256:{'a' * 64}", ("r.example.com", "a", f"sha256:{'a' * 64}")),
    ],
)
def test_references_are_read_as_docker_reads_them(
    reference: str, parts: tuple[str, str, str]
) -> None:
    assert split_reference(reference) == parts


@pytest.mark.parametrize("reference", ["", "UPPER", "a:b:c", "a b", "a@sha256:1"])
def test_what_is_no_reference_names_no_image(reference: str) -> None:
    assert ImageRegistry().version_of(reference) is None


def _get(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url)
    except httpx.TransportError:
        return None
