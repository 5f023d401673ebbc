"""Watches tell everything, in order, from the place where the client left off."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Any

import httpx

from tests.lab.cluster.objects import CONFIG_MAPS, DEPLOYMENTS, PODS, config_map, deployment
from tests.lab.cluster.running_server import RunningServer

Start = Callable[..., RunningServer]
MERGE = {"Content-Type": "application/merge-patch+json"}


class Listener:
    """Reads a watch in a thread; `next` waits for the next event."""

    def __init__(self, http: httpx.Client, path: str, **parameters: str) -> None:
        self._events: Queue[dict[str, Any] | None] = Queue()
        self._http = http
        self._path = path
        self._parameters = {"watch": "true", "timeoutSeconds": "10", **parameters}
        self._headers: dict[str, str] = {}
        self.thread = threading.Thread(target=self._read)

    def table(self) -> Listener:
        self._headers["Accept"] = "application/json;as=Table;v=v1;g=meta.k8s.io"
        return self

    def _read(self) -> None:
        with self._http.stream(
            "GET", self._path, params=self._parameters, headers=self._headers
        ) as response:
            for line in response.iter_lines():
                self._events.put(json.loads(line))
        self._events.put(None)

    def next(self) -> dict[str, Any] | None:
        return self._events.get(timeout=10)

    def told(self) -> tuple[str, str]:
        event = self.next()
        assert event is not None
        return event["type"], event["object"]["metadata"]["name"]


@contextmanager
def listening(cluster: RunningServer, listener: Listener) -> Iterator[Listener]:
    listener.thread.start()
    try:
        yield listener
    finally:
        cluster.do(cluster.server._watches.close)
        listener.thread.join(10)


def _put(http: httpx.Client, name: str, **data: str) -> dict[str, Any]:
    answer: dict[str, Any] = http.post(CONFIG_MAPS, json=config_map(name, **data)).json()
    return answer


def test_without_a_version_a_watch_begins_with_what_is_there(
    cluster: RunningServer, http: httpx.Client
) -> None:
    _put(http, "old")
    with listening(cluster, Listener(http, CONFIG_MAPS)) as listener:
        assert listener.told() == ("ADDED", "old")
        _put(http, "new")
        assert listener.told() == ("ADDED", "new")
        http.patch(f"{CONFIG_MAPS}/new", json={"data": {"a": "1"}}, headers=MERGE)
        assert listener.told() == ("MODIFIED", "new")
        http.delete(f"{CONFIG_MAPS}/new")
        assert listener.told() == ("DELETED", "new")


def test_a_watch_resumes_after_the_version_it_names(
    cluster: RunningServer, http: httpx.Client
) -> None:
    first = _put(http, "one")["metadata"]["resourceVersion"]
    _put(http, "two")
    http.delete(f"{CONFIG_MAPS}/two")
    with listening(cluster, Listener(http, CONFIG_MAPS, resourceVersion=first)) as listener:
        assert listener.told() == ("ADDED", "two")
        assert listener.told() == ("DELETED", "two")


def test_a_version_that_is_too_old_ends_the_watch_with_410(start_cluster: Start) -> None:
    cluster = start_cluster(history=3)
    with cluster.client() as http:
        first = _put(http, "one")["metadata"]["resourceVersion"]
        for number in range(5):
            _put(http, f"more-{number}")
        with listening(cluster, Listener(http, CONFIG_MAPS, resourceVersion=first)) as listener:
            event = listener.next()
            assert event is not None
            assert event["type"] == "ERROR"
            assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
            assert event["object"]["message"].startswith("too old resource version: ")
            assert listener.next() is None


def test_an_object_that_leaves_the_selection_is_deleted_to_the_watcher(
    cluster: RunningServer, http: httpx.Client
) -> None:
    _put(http, "one")
    watched = Listener(http, CONFIG_MAPS, labelSelector="in=yes")
    with listening(cluster, watched) as listener:
        for value in ("yes", "no"):
            http.patch(
                f"{CONFIG_MAPS}/one", json={"metadata": {"labels": {"in": value}}}, headers=MERGE
            )
        assert listener.told() == ("ADDED", "one")
        assert listener.told() == ("DELETED", "one")


def test_a_watch_of_one_object_tells_of_no_other(
    cluster: RunningServer, http: httpx.Client
) -> None:
    watched = Listener(http, CONFIG_MAPS, fieldSelector="metadata.name=mine")
    with listening(cluster, watched) as listener:
        _put(http, "other")
        _put(http, "mine")
        assert listener.told() == ("ADDED", "mine")


def test_a_watch_ends_when_its_time_is_up(http: httpx.Client) -> None:
    answer = http.get(CONFIG_MAPS, params={"watch": "true", "timeoutSeconds": "0"})
    assert (answer.status_code, answer.text) == (200, "")


def test_a_streamed_list_ends_with_a_bookmark(cluster: RunningServer, http: httpx.Client) -> None:
    _put(http, "one")
    asked = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    with listening(cluster, Listener(http, CONFIG_MAPS, **asked)) as listener:
        assert listener.told() == ("ADDED", "one")
        event = listener.next()
        assert event is not None
        assert event["type"] == "BOOKMARK"
        assert event["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_watch_can_be_printed(cluster: RunningServer, http: httpx.Client) -> None:
    with listening(cluster, Listener(http, CONFIG_MAPS).table()) as listener:
        _put(http, "one", a="1", b="2")
        event = listener.next()
        assert event is not None
        assert event["object"]["kind"] == "Table"
        assert event["object"]["rows"][0]["cells"][:2] == ["one", 2]


def test_a_stopping_server_ends_its_watches(start_cluster: Start) -> None:
    cluster = start_cluster()
    with cluster.client() as http:
        _put(http, "one")
        listener = Listener(http, CONFIG_MAPS, timeoutSeconds="600")
        listener.thread.start()
        assert listener.told() == ("ADDED", "one")
        cluster.wait(cluster.server.stop())
        assert listener.next() is None
        listener.thread.join(10)


def test_versions_never_go_back_in_a_watch(cluster: RunningServer, http: httpx.Client) -> None:
    now = http.get(PODS).json()["metadata"]["resourceVersion"]
    with listening(cluster, Listener(http, PODS, resourceVersion=now)) as listener:
        cluster.do(cluster.server.apply, deployment(replicas=3))
        cluster.settle()
        http.delete(f"{DEPLOYMENTS}/web")
        cluster.settle()
        versions: list[int] = []
        gone = 0
        while gone < 3:
            event = listener.next()
            assert event is not None
            versions.append(int(event["object"]["metadata"]["resourceVersion"]))
            gone += event["type"] == "DELETED"
        assert versions == sorted(set(versions))
