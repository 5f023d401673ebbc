"""The server answers as a real one did: every recorded request, in order, against one cluster.

The `kubernetes` library sends them. Its client makes any body into JSON, so the one request whose
body is not JSON goes out by itself; and it is told to call itself as the recorded client did, since
that is where the names of field managers come from.

`normalising.py` says what may differ. Between requests the test brings the cluster to where the
real one was when it answered: some answers were recorded in the middle of a rollout, and there
the controllers are held and moved step by step.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import kubernetes.config
import kubernetes.dynamic
import kubernetes.watch
import pytest
from kubernetes.dynamic.exceptions import DynamicApiError

from tests.lab.cluster.memory_runtime import MemoryRuntime
from tests.lab.cluster.normalising import Normaliser, versions_seen
from tests.lab.cluster.running_server import RunningServer

Transcript = dict[str, Any]
library: Any = kubernetes
TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.json"))
NAMESPACE = "claude-enhancer"
GREEN = (NAMESPACE, "claude-enhancer-green")
RECORDED_AGENT = "python-httpx/0.28.1"


class Answer(NamedTuple):
    """What came back."""

    status: int
    content_type: str
    body: Any


class Session:
    """The cluster, and what was asked of it so far."""

    def __init__(self, running: RunningServer, folder: Path) -> None:
        self.running = running
        self.server = running.server
        self.api = library.config.new_client_from_config(str(self.server.kubeconfig_path))
        self.api.user_agent = RECORDED_AGENT
        self.client = library.dynamic.DynamicClient(self.api, cache_file=str(folder / "discovered"))
        self.answers: dict[str, Answer] = {}

    def close(self) -> None:
        self.api.close()

    def send(self, transcript: Transcript) -> None:
        name = transcript["name"]
        getattr(self, "before_" + name.replace("-", "_"), self.running.settle)()
        self.answers[name] = self.exchange(name, transcript["request"])
        getattr(self, "after_" + name.replace("-", "_"), lambda: None)()

    def exchange(self, name: str, request: dict[str, Any]) -> Answer:
        body = request["body"]
        if name in ("put-configmap", "put-stale-configmap"):
            # What was put is what had been got before, so it must carry our uid and version.
            body = {**body, "metadata": self.answers["get-configmap"].body["metadata"]}
        if isinstance(body, str):
            return self.exchange_bytes(request)
        if name == "unauthorized":
            with self.as_a_stranger():
                return self.ask(request, body)
        return self.ask(request, body)

    @contextlib.contextmanager
    def as_a_stranger(self) -> Iterator[None]:
        """The library would read the right token again from the kubeconfig: it is kept from it."""
        settings = self.api.configuration
        known = settings.api_key, settings.refresh_api_key_hook
        settings.api_key = dict.fromkeys(settings.api_key, "Bearer wrong")
        settings.refresh_api_key_hook = None
        yield
        settings.api_key, settings.refresh_api_key_hook = known

    def ask(self, request: dict[str, Any], body: Any) -> Answer:
        try:
            response = self.open(request, body)
            status, headers, data = response.status, response.headers, response.data
        except DynamicApiError as error:
            status, headers, data = error.status, error.headers, error.body
        kind = headers["Content-Type"]
        text = data if isinstance(data, str) else data.decode()
        return Answer(status, kind, json.loads(text) if kind == "application/json" else text)

    def open(self, request: dict[str, Any], body: Any = None) -> Any:
        address = urlsplit(request["path"])
        return self.client.request(
            request["method"],
            address.path,
            body=body,
            query_params=parse_qsl(address.query),
            content_type=request["content_type"],
            serialize=False,
        )

    def exchange_bytes(self, request: dict[str, Any]) -> Answer:
        with self.running.client(RECORDED_AGENT) as client:
            response = client.request(
                request["method"],
                request["path"],
                content=request["body"],
                headers={"Content-Type": request["content_type"]},
            )
        return Answer(response.status_code, response.headers["content-type"], response.json())

    # -- where the real cluster was -----------------------------------------------------------

    def hold(self) -> None:
        self.running.do(self.server.controllers.pause)

    def release(self) -> None:
        self.running.do(self.server.controllers.resume)
        self.running.settle()

    def step(self, controller: str, key: tuple[str, str], until: Callable[[], bool]) -> None:
        for _ in range(20):
            if self.running.do(until):
                return
            assert self.running.do(self.server.controllers.step, controller, key)
        raise AssertionError(f"{controller} did not get there")

    def before_server_side_apply_create(self) -> None:
        self.running.settle()
        self.running.runtime.hold = True
        self.hold()

    def watch(self, transcript: Transcript) -> None:
        """The controllers begin when the watch has seen the object; pods become ready in turn."""
        events: list[Any] = []
        wanted = len(transcript["response"]["body"])
        begun = threading.Event()

        def listen() -> None:
            response = self.open(transcript["request"])
            for line in library.watch.watch.iter_resp_lines(response):
                events.append(json.loads(line))
                begun.set()
                if len(events) == wanted:
                    response.close()
                    return

        listener = threading.Thread(target=listen)
        listener.start()
        assert begun.wait(10)
        self.release()
        self.make_all_ready()
        listener.join(10)
        self.answers[transcript["name"]] = Answer(200, "application/json", events)

    def make_all_ready(self) -> None:
        for pod in self.running.do(self.server.list, "Pod", NAMESPACE):
            ready = {c["type"]: c["status"] for c in pod["status"]["conditions"]}["Ready"]
            if ready == "False":
                self.running.do(self.running.runtime.make_ready, pod["metadata"]["name"])
                self.running.settle()

    def before_get_scale(self) -> None:
        self.hold()

    def after_get_deployment_just_scaled(self) -> None:
        self.release()
        self.make_all_ready()
        self.running.runtime.hold = False

    def before_patch_scale(self) -> None: ...

    def before_get_deployment_just_scaled(self) -> None: ...

    def before_strategic_merge_patch_image(self) -> None:
        self.running.settle()
        self.hold()

    def green(self) -> Any:
        return self.server.get("Deployment", GREEN[1], NAMESPACE)

    def green_sets(self) -> list[Any]:
        sets = self.server.list("ReplicaSet", NAMESPACE)
        return sorted(
            (each for each in sets if each["metadata"]["name"].startswith(GREEN[1])),
            key=lambda each: int(each["metadata"]["annotations"][REVISION]),
        )

    def before_get_deployment_second_revision(self) -> None:
        self.step(
            "deployments",
            GREEN,
            lambda: self.green()["metadata"]["annotations"][REVISION] == "2",
        )

    def before_list_replicasets_second_revision(self) -> None:
        self.step("deployments", GREEN, lambda: self.green_sets()[0]["spec"]["replicas"] == 3)
        new = self.running.do(self.green_sets)[1]["metadata"]["name"]
        self.step(
            "replicasets",
            (NAMESPACE, new),
            lambda: self.green_sets()[1]["status"]["replicas"] == 1,
        )

    def before_rollout_restart(self) -> None: ...

    def before_bad_image_rollout(self) -> None:
        self.step("deployments", GREEN, lambda: len(self.green_sets()) == 3)

    def after_bad_image_rollout(self) -> None:
        def timed_out() -> bool:
            conditions = self.green()["status"]["conditions"]
            return any(c["reason"] == "ProgressDeadlineExceeded" for c in conditions)

        self.release()
        self.running.until(timed_out)

    def after_list_events(self) -> None:
        path = f"/api/v1/namespaces/{NAMESPACE}/events"
        self.answers["all-events"] = self.ask(
            {"method": "GET", "path": path, "content_type": None}, None
        )


REVISION = "deployment.kubernetes.io/revision"


@pytest.fixture(scope="module")
def recorded() -> list[Transcript]:
    return [json.loads(path.read_text()) for path in TRANSCRIPTS]


@pytest.fixture(scope="module")
def session(
    recorded: list[Transcript], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("kube")
    running = RunningServer(
        folder,
        MemoryRuntime(ip="10.244.0.5"),
        pace=20,
        istio=False,
        metrics=False,
        git_version="v0.0.0-master+$Format:%H$",
    )
    with running:
        session = Session(running, folder)
        for transcript in recorded:
            if transcript["name"] == "watch-deployment":
                session.watch(transcript)
            else:
                session.send(transcript)
        yield session
        session.close()


@pytest.fixture(scope="module")
def compared(recorded: list[Transcript], session: Session) -> dict[str, tuple[Any, Any]]:
    """Name → (our body, the recorded body), both normalised in the order of the session."""
    ours, theirs = Normaliser(), Normaliser()
    result = {}
    for transcript in recorded:
        name = transcript["name"]
        if name != "list-events":
            theirs_body = theirs.normalise(transcript["response"]["body"])
            result[name] = (ours.normalise(session.answers[name].body), theirs_body)
    return result


NAMES = [path.stem.partition("-")[2] for path in TRANSCRIPTS]


def test_no_recording_is_missing() -> None:
    numbers = [int(path.name.partition("-")[0]) for path in TRANSCRIPTS]
    assert numbers == list(range(1, 49))


@pytest.mark.parametrize("name", NAMES)
def test_status_and_media_type_are_those_of_a_real_server(
    name: str, recorded: list[Transcript], session: Session
) -> None:
    response = next(t["response"] for t in recorded if t["name"] == name)
    assert session.answers[name][:2] == (response["status"], response["content_type"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "list-events"])
def test_body_is_that_of_a_real_server(name: str, compared: dict[str, tuple[Any, Any]]) -> None:
    ours, theirs = compared[name]
    assert ours == theirs


def test_events_hold_what_the_real_controllers_told(
    recorded: list[Transcript], session: Session
) -> None:
    """The recorded cluster had no kubelet, so its events are a part of ours."""
    page = session.answers["list-events"].body
    real = next(t["response"]["body"] for t in recorded if t["name"] == "list-events")
    everything = session.answers["all-events"].body
    normaliser = Normaliser(numbered=False)
    ours = [normaliser.normalise(event) for event in everything["items"]]
    for event in normaliser.normalise(real["items"]):
        assert event in ours
    assert {**page, "items": 5, "metadata": 0} == {**real, "items": 5, "metadata": 0}
    assert len(page["items"]) == 5
    assert page["metadata"].keys() == real["metadata"].keys()
    assert page["metadata"]["remainingItemCount"] == len(everything["items"]) - 5


def test_the_continue_token_is_that_of_a_real_server(
    recorded: list[Transcript], session: Session
) -> None:
    real = next(t["response"]["body"] for t in recorded if t["name"] == "list-events")
    page = session.answers["list-events"].body

    def read(body: Any) -> Any:
        token = body["metadata"]["continue"]
        return json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))

    assert read(real) == {
        "v": "meta.k8s.io/v1",
        "rv": int(real["metadata"]["resourceVersion"]),
        "start": real["items"][-1]["metadata"]["name"] + "\0",
    }
    assert read(page) == {
        "v": "meta.k8s.io/v1",
        "rv": int(page["metadata"]["resourceVersion"]),
        "start": page["items"][-1]["metadata"]["name"] + "\0",
    }


def _relations(bodies: list[Any]) -> list[list[int]]:
    """For every object, in order of appearance: how each version compares to the one before."""
    seen: dict[str, list[int]] = {}
    for body in bodies:
        for uid, version in versions_seen(body):
            seen.setdefault(uid, []).append(version)
    return [
        [(later > earlier) - (later < earlier) for earlier, later in itertools.pairwise(row)]
        for row in seen.values()
    ]


def test_resource_versions_stay_and_grow_as_those_of_a_real_server(
    recorded: list[Transcript], session: Session
) -> None:
    # Lists of pods and events are left out: their members come in another order.
    chosen = [t for t in recorded if t["name"] not in ("list-events", "list-pods-by-label")]
    theirs = _relations([transcript["response"]["body"] for transcript in chosen])
    ours = _relations([session.answers[transcript["name"]].body for transcript in chosen])
    assert ours == theirs
