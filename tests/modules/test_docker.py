"""Images are built, pushed and compared by digest.

The counterpart is the lab's engine: the Docker Engine API on a unix socket, pushing over HTTP to
the lab's registry. With TEST_DOCKER_HOST (and TEST_REGISTRY, an address of a registry that this
engine may push to) the same tests run against a real engine.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web

from engine.executor import TaskContext
from engine.lab.images.docker_engine import DockerEngine
from engine.lab.images.registry import ImageRegistry
from engine.module_api import Cancelled, Failed, Refused, Unreachable
from modules import docker
from tests.modules.conftest import MakeContext
from tests.modules.docker_server import DockerServer

CancelWhen = Callable[[TaskContext, Callable[[], bool]], object]
DOCKERFILE = "FROM scratch\nARG VERSION=0\nLABEL version=$VERSION\nCOPY app /app\n"


class Engine(NamedTuple):
    """Where an engine listens, and the registry that it may push to."""

    host: str
    registry: str


class Apps:
    """aiohttp applications on a loop of their own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._runners: list[web.AppRunner] = []

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    async def _serve(self, app: web.Application, socket: str) -> int:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        self._runners.append(runner)
        site: web.BaseSite = (
            web.UnixSite(runner, socket) if socket else web.TCPSite(runner, "127.0.0.1", 0)
        )
        await site.start()
        return 0 if socket else runner.addresses[0][1]

    def serve(self, app: web.Application, socket: str = "") -> int:
        """Serve on a unix socket, or on a free port, which is returned."""
        port: int = self.call(self._serve(app, socket))
        return port

    def stop(self) -> None:
        async def clean() -> None:
            for runner in self._runners:
                await runner.cleanup()

        self.call(clean())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def lab_engine() -> Iterator[Engine]:
    """The lab's engine and registry."""
    apps = Apps()
    port = apps.serve(ImageRegistry().app())
    with tempfile.TemporaryDirectory(prefix="ce") as folder:  # short: a socket's path is limited
        apps.serve(DockerEngine("127.0.0.1", port).app(), f"{folder}/docker.sock")
        yield Engine(f"unix://{folder}/docker.sock", f"127.0.0.1:{port}")
        apps.stop()


@pytest.fixture(scope="module")
def real_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine that the environment names, or one of our own."""
    if "TEST_DOCKER_HOST" in os.environ:
        yield Engine(os.environ["TEST_DOCKER_HOST"], os.environ["TEST_REGISTRY"])
        return
    with tempfile.TemporaryDirectory(prefix="ce") as short:
        server = DockerServer(tmp_path_factory.mktemp("docker"), Path(short))
        try:
            yield Engine(server.host, server.registry)
        finally:
            server.stop()


@pytest.fixture(params=["lab", "real"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """The lab's engine, and a real one if there is one."""
    if request.param == "lab":
        found: Engine = request.getfixturevalue("lab_engine")
        return found
    real: Engine = request.getfixturevalue("real_engine")
    return real


@pytest.fixture
def ctx(make_context: MakeContext, engine: Engine) -> TaskContext:
    """A context whose inventory has that engine."""
    return make_context({"docker": {"host": engine.host}})


@pytest.fixture
def image(engine: Engine) -> str:
    """A name that nobody has used."""
    return f"{engine.registry}/ce-{uuid.uuid4().hex[:12]}:5.1"


@pytest.fixture
def context(root: Path) -> Path:
    """A folder with a Dockerfile."""
    folder = root / "files" / "image"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "app").write_text("version 5.1\n")
    return folder


def build(ctx: TaskContext, image: str, **options: Any) -> Any:
    return docker.build(ctx, "files/image", image, **options)


@pytest.mark.usefixtures("context")
def test_an_image_is_built_pushed_and_found_in_the_registry(ctx: TaskContext, image: str) -> None:
    built = build(ctx, image, args={"VERSION": "5.1"})
    assert built.changed
    assert built.data["id"].startswith("sha256:")
    pushed = docker.push(ctx, image)
    assert pushed.changed
    digest = pushed.data["digest"]
    assert digest.startswith("sha256:")
    assert docker.inspect_digest(ctx, image, expect=digest).data["digest"] == digest
    assert docker.inspect_digest(ctx, image, local=True).data["digest"] == digest
    assert not docker.push(ctx, image).changed


def test_the_image_depends_on_its_context(ctx: TaskContext, image: str, context: Path) -> None:
    first = build(ctx, image)
    assert not build(ctx, image).changed
    (context / "app").write_text("version 5.2\n")
    second = build(ctx, image)
    assert second.changed
    assert second.data["id"] != first.data["id"]


def test_another_digest_is_refused(ctx: TaskContext, image: str, context: Path) -> None:
    build(ctx, image)
    first = docker.push(ctx, image).data["digest"]
    (context / "app").write_text("something else\n")
    build(ctx, image)
    second = docker.push(ctx, image).data["digest"]
    with pytest.raises(Refused) as caught:
        docker.inspect_digest(ctx, image, expect=first)
    assert caught.value.message == f"{image} is {second}, not {first}"
    assert caught.value.data["digest"] == second


@pytest.mark.usefixtures("context")
def test_an_image_can_have_several_names(ctx: TaskContext, image: str) -> None:
    built = build(ctx, image)
    other = image.replace(":5.1", ":stable")
    assert docker.tag.checker is not None
    assert docker.tag.checker(ctx, image, other).diff == f"+ {other}\n"
    tagged = docker.tag(ctx, image, other)
    assert (tagged.changed, tagged.data["id"]) == (True, built.data["id"])
    assert not docker.tag(ctx, image, other).changed
    with pytest.raises(Failed, match="there is no image"):
        docker.tag(ctx, "nobody:none", other)


def test_a_build_that_fails_says_why(ctx: TaskContext, image: str, context: Path) -> None:
    (context / "Dockerfile").write_text("RUN nothing-yet\n")
    with pytest.raises(Failed, match=r"(?i)(the build of .* failed|docker says): .*no build stage"):
        build(ctx, image)
    (context / "Dockerfile").unlink()
    with pytest.raises(Refused, match="there is no Dockerfile in files/image"):
        build(ctx, image)


def test_what_is_not_there_cannot_be_pushed_or_inspected(ctx: TaskContext, image: str) -> None:
    with pytest.raises(Failed, match="there is no image"):
        docker.push(ctx, image)
    with pytest.raises(Failed, match="the registry has no"):
        docker.inspect_digest(ctx, image)
    with pytest.raises(Failed, match="the engine has no"):
        docker.inspect_digest(ctx, image, local=True)


@pytest.mark.usefixtures("context")
def test_check_asks_and_changes_nothing(ctx: TaskContext, image: str) -> None:
    assert docker.build.checker is not None
    assert docker.push.checker is not None
    shown = docker.build.checker(ctx, "files/image", image)
    assert (shown.changed, shown.diff, shown.data["id"]) == (True, f"+ image {image}\n", "")
    built = build(ctx, image)
    assert shown.data.keys() == built.data.keys()
    before = docker.push.checker(ctx, image)
    assert (before.changed, before.data["digest"]) == (True, "")
    digest = docker.push(ctx, image).data["digest"]
    after = docker.push.checker(ctx, image)
    assert (after.changed, after.data["digest"]) == (False, digest)


@pytest.mark.usefixtures("context")
def test_output_goes_to_the_log(ctx: TaskContext, image: str, tmp_path: Path) -> None:
    build(ctx, image)
    assert "FROM scratch" in (tmp_path / "logs" / "step.0.1.log").read_text()


def test_an_engine_that_is_not_there_is_unreachable(make_context: MakeContext) -> None:
    for host in ("unix:///no/such.sock", "tcp://127.0.0.1:1"):
        with pytest.raises(Unreachable, match=f"the Docker engine {host} cannot be reached"):
            docker.inspect_digest(make_context({"docker": {"host": host}}), "x")


# The docker library leaves the file with the context to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("transport", ["tcp", "unix"])
@pytest.mark.parametrize("silent", ["while it builds", "before it answers", "from the start"])
@pytest.mark.usefixtures("context")
def test_a_cancelled_build_is_broken_off(
    make_context: MakeContext, cancel_when: CancelWhen, transport: str, silent: str
) -> None:
    """An engine that is silent for ever, at one point: its client goes."""
    silence = threading.Event()

    async def for_ever() -> web.Response:
        silence.set()
        await asyncio.sleep(60)
        raise AssertionError("nobody cancelled")

    async def version(request: web.Request) -> web.StreamResponse:
        if silent == "from the start":
            return await for_ever()
        return web.json_response({"ApiVersion": "1.44"})

    async def slow(request: web.Request) -> web.StreamResponse:
        await request.read()
        if silent == "before it answers":
            return await for_ever()
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        await answer.write(b'{"stream": "Step 1/4"}\r\n')
        return await for_ever()

    async def nothing(request: web.Request) -> web.Response:
        return web.json_response({"message": "no such image"}, status=404)

    app = web.Application(handler_args={"handler_cancellation": True})
    app.router.add_get("/version", version)
    app.router.add_post("/v1.44/build", slow)
    app.router.add_get(r"/v1.44/images/{name:.+}/json", nothing)
    apps = Apps()
    with tempfile.TemporaryDirectory(prefix="ce") as folder:
        socket = f"{folder}/docker.sock" if transport == "unix" else ""
        port = apps.serve(app, socket)
        host = f"unix://{socket}" if socket else f"tcp://127.0.0.1:{port}"
        ctx = make_context({"docker": {"host": host}})
        cancel_when(ctx, silence.is_set)
        with pytest.raises(Cancelled):
            build(ctx, "x:1")
        apps.stop()


@pytest.mark.usefixtures("context")
def test_the_inventorys_credentials_go_with_builds_and_pushes(make_context: MakeContext) -> None:
    """A build's base images may be private, too."""
    seen: dict[str, Any] = {}

    def decoded(header: str) -> Any:
        return json.loads(base64.urlsafe_b64decode(header))

    async def version(request: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.44"})

    async def built(request: web.Request) -> web.Response:
        await request.read()
        seen["build"] = decoded(request.headers["X-Registry-Config"])
        return web.json_response({"stream": "Successfully built"})

    async def pushed(request: web.Request) -> web.Response:
        seen["push"] = decoded(request.headers["X-Registry-Auth"])
        return web.json_response({"aux": {"Digest": "sha256:0"}})

    async def inspected(request: web.Request) -> web.Response:
        return web.json_response({"Id": "sha256:0", "Descriptor": {"digest": "sha256:0"}})

    app = web.Application()
    app.router.add_get("/version", version)
    app.router.add_post("/v1.44/build", built)
    app.router.add_post(r"/v1.44/images/{name:.+}/push", pushed)
    app.router.add_get(r"/v1.44/images/{name:.+}/json", inspected)
    app.router.add_get(r"/v1.44/distribution/{name:.+}/json", inspected)
    apps = Apps()
    ce, hub = {"username": "ce", "password": "one"}, {"username": "us", "password": "two"}
    host = f"tcp://127.0.0.1:{apps.serve(app)}"
    registries = {"registry.example.com": ce, "docker.io": hub}
    ctx = make_context({"docker": {"host": host, "registries": registries}})
    build(ctx, "registry.example.com/ce:1")
    assert seen["build"]["registry.example.com"] == ce
    assert seen["build"]["https://index.docker.io/v1/"] == hub
    for name, login in (("registry.example.com/ce:1", ce), ("us/ce:1", hub), ("ce:1", hub)):
        docker.push(ctx, name)
        assert seen["push"] == login
    apps.stop()


@pytest.mark.usefixtures("context")
def test_an_image_can_be_asked_for_by_its_digest(ctx: TaskContext, image: str) -> None:
    build(ctx, image)
    digest = docker.push(ctx, image).data["digest"]
    named = f"{image.rpartition(':')[0]}@{digest}"
    assert docker.inspect_digest(ctx, named).data["digest"] == digest
    assert docker.inspect_digest(ctx, named, local=True).data["digest"] == digest
    with pytest.raises(Refused, match="names a digest"):
        docker.push(ctx, named)


# -- an engine that tells what it likes ----------------------------------------------------------
OLD, NEW = f"sha256:{'b' * 64}", f"sha256:{'a' * 64}"
ID = f"sha256:{'c' * 64}"
Script = dict[str, Any]


@pytest.fixture
def scripted(make_context: MakeContext) -> Iterator[Callable[..., TaskContext]]:
    """An engine whose build and push stream these messages, with this digest in its registry."""
    apps = Apps()

    def start(messages: list[Script], there: str = OLD, **section: Any) -> TaskContext:
        async def version(request: web.Request) -> web.Response:
            return web.json_response({"ApiVersion": "1.44"})

        async def stream(request: web.Request) -> web.StreamResponse:
            await request.read()
            answer = web.StreamResponse(headers={"Content-Type": "application/json"})
            answer.enable_chunked_encoding()
            await answer.prepare(request)
            for one in messages:
                await answer.write(f"{json.dumps(one)}\r\n".encode())
            await answer.write_eof()
            return answer

        async def inspected(request: web.Request) -> web.Response:
            names = ["acme/shop", "nginx", "localhost:5000/shop"]
            digests = [f"{name}@{NEW}" for name in names]
            return web.json_response({"Id": ID, "RepoDigests": digests})

        async def distribution(request: web.Request) -> web.Response:
            return web.json_response({"Descriptor": {"digest": there} if there else None})

        app = web.Application()
        app.router.add_get("/version", version)
        app.router.add_post("/v1.44/build", stream)
        app.router.add_post(r"/v1.44/images/{name:.+}/push", stream)
        app.router.add_get(r"/v1.44/images/{name:.+}/json", inspected)
        app.router.add_get(r"/v1.44/distribution/{name:.+}/json", distribution)
        host = f"tcp://127.0.0.1:{apps.serve(app)}"
        return make_context({"docker": {"host": host, **section}})

    yield start
    apps.stop()


Scripted = Callable[..., TaskContext]
REFERS = {"status": "The push refers to repository [registry.example.com/shop]"}
IMAGE = "registry.example.com/shop:5.1"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([REFERS, {"errorDetail": {"message": "denied: no access"}}], "failed: denied: no access"),
        ([REFERS, {"errorDetail": {"code": 500}}], "failed: the engine gave the code 500"),
        ([REFERS, {"errorDetail": {}}], "failed: no reason given"),
        ([REFERS, {"error": "blob upload unknown"}], "failed: blob upload unknown"),
        ([REFERS], "ended without a digest"),
        ([], "ended without a digest"),
        ([REFERS, {"aux": {"Tag": "5.1", "Digest": NEW}}], "the registry has sha256:bbbbbbbbbbbb"),
    ],
)
def test_a_push_is_done_when_the_registry_has_what_was_pushed(
    scripted: Scripted, messages: list[Script], words: str
) -> None:
    with pytest.raises((Failed, Refused), match=words):
        docker.push(scripted(messages), IMAGE)


@pytest.mark.parametrize(
    "last", [{"aux": {"Digest": OLD}}, {"status": f"5.1: digest: {OLD} size: 528"}]
)
def test_a_digest_may_stand_in_the_status(scripted: Scripted, last: Script) -> None:
    assert docker.push(scripted([REFERS, last]), IMAGE).data["digest"] == OLD


def test_a_registry_without_a_digest_is_told_in_words(scripted: Scripted) -> None:
    ctx = scripted([], there="")
    with pytest.raises(Failed, match="did not tell the digest of registry"):
        docker.inspect_digest(ctx, IMAGE)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"stream": "Step 1/1 : FROM scratch\n"}], "ended without a word of success"),
        ([{"errorDetail": {"message": "no space left"}}], "failed: no space left"),
        ([{"aux": {"ID": OLD}}], "made sha256:bbbbbbbbbbbb, but .* is sha256:cccccccccccc"),
    ],
)
@pytest.mark.usefixtures("context")
def test_a_build_is_done_when_the_name_stands_for_what_was_built(
    scripted: Scripted, messages: list[Script], words: str
) -> None:
    with pytest.raises(Failed, match=words):
        build(scripted(messages), IMAGE)


@pytest.mark.parametrize(
    "last",
    [
        {"aux": {"ID": ID}},
        {"stream": "Successfully built cccccccccccc\n"},
        {"stream": f"{'c' * 64}\n"},
    ],
)
@pytest.mark.usefixtures("context")
def test_engines_tell_what_they_built_in_several_ways(scripted: Scripted, last: Script) -> None:
    assert build(scripted([last]), IMAGE).data["id"] == ID


def test_a_name_that_stays_with_another_image_is_no_success(make_context: MakeContext) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/version"):
            return web.json_response({"ApiVersion": "1.44"})
        if request.method == "POST":
            return web.Response(status=201)
        return web.json_response({"Id": OLD if "stable" in request.path else ID})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    apps = Apps()
    ctx = make_context({"docker": {"host": f"tcp://127.0.0.1:{apps.serve(app)}"}})
    with pytest.raises(Failed, match="shop:stable was to name sha256:cccc"):
        docker.tag(ctx, "shop:5.1", "shop:stable")
    apps.stop()


@pytest.mark.parametrize(
    "name",
    [
        "docker.io/acme/shop:5.1",
        "acme/shop",
        "index.docker.io/acme/shop:5.1",
        "nginx:1.27",
        "docker.io/library/nginx",
        "localhost:5000/shop:5.1",
    ],
)
def test_an_image_is_found_by_each_of_its_names(scripted: Scripted, name: str) -> None:
    assert docker.inspect_digest(scripted([]), name, local=True).data["digest"] == NEW


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"registrys": {}}, "docker of the inventory is not right: unknown setting 'registrys'"),
        ({"tls": {"cert": "c.pem"}}, "one of `cert` and `key`: both are needed"),
        ({"tls": {"verfy": True}}, "docker.tls of the inventory is not right: unknown setting"),
        (
            {"registries": {"registry.example.com": {"user": "ce", "password": "x"}}},
            "docker.registries.registry.example.com .* is not right: unknown setting 'user'",
        ),
    ],
)
def test_settings_that_are_not_understood_are_refused_by_name(
    scripted: Scripted, section: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        docker.inspect_digest(scripted([], **section), IMAGE)
