"""Objects of the cluster, kept current by watches, for whoever waits for something.

A `View` lists what it is about and then follows the server's watch streams, so that a change is
seen when it happens and nothing is polled. Whoever waits looks at the whole state after each
change: ``while not done(view.items("pods")): view.wait()``. The streams are read by threads that
do nothing but read; all decisions stay with the thread of the task.
"""

from __future__ import annotations

import functools
import json
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from engine.module_api import ActionError, Cancelled, Context, TimedOut, Unreachable
from modules._kube.api import Cluster, Object
from modules._kube.errors import Expired
from modules._kube.kinds import Kind
from modules._kube.transport import cut

_ROUND = 120
"""Seconds after which a stream is opened anew: a connection that died silently is noticed."""

_PATIENCE = 300.0
"""Seconds for which a lost cluster is waited for where the step has no deadline that says it."""

_WARMING_UP = 60.0
"""Seconds for which a cluster that was lost may refuse, once it is back, what it allowed before:
a server that starts does not know its rules, its custom kinds and its credentials at once."""

_AGAIN = 0.5

_SOONEST = 0.1
"""Seconds between two openings of a stream: a proxy in between may end each at once."""

T = TypeVar("T")


class Selection(NamedTuple):
    """Which objects: of a kind in a namespace, by name, labels or fields."""

    kind: Kind
    namespace: str
    name: str = ""
    labels: str = ""
    fields: str = ""

    @property
    def field_selector(self) -> str:
        """The name is a field, too."""
        named = f"metadata.name={self.name}" if self.name else ""
        return ",".join(filter(None, (named, self.fields)))


class _News(NamedTuple):
    source: str
    stream: _Stream
    event: dict[str, Any] | None
    """None: the stream has ended."""


class View:
    """The objects of several selections, each under the name it was given.

    Use it as a context manager: leaving closes the streams.
    """

    def __init__(self, ctx: Context, cluster: Cluster, selections: Mapping[str, Selection]):
        self._ctx = ctx
        self._cluster = cluster
        self._selections = dict(selections)
        self._items: dict[str, dict[str, Object]] = {}
        self._versions: dict[str, str] = {}
        self._streams: dict[str, _Stream] = {}
        self._news: queue.SimpleQueue[_News | None] = queue.SimpleQueue()
        self._lost_since: float | None = None
        self._refused_since: float | None = None
        self._was_lost = False
        self._opened: dict[str, float] = {}
        """When a selection was last begun to be watched: the cluster allows that."""

    @staticmethod
    def of(ctx: Context, cluster: Cluster, selections: Mapping[str, Selection]) -> View:
        """The view of a cluster, real or simulated."""
        if ctx.mode == "simulate":
            from modules._kube.simulated import SimulatedView

            return SimulatedView(ctx, cluster, selections)
        return View(ctx, cluster, selections)

    def __enter__(self) -> View:
        for source in self._selections:
            self._list_at_last(source)
        return self

    def __exit__(self, *error: object) -> None:
        for stream in self._streams.values():
            stream.close()

    def items(self, source: str) -> list[Object]:
        """The objects of a selection as they are now; none if it is not followed."""
        return list(self._items.get(source, {}).values())

    def one(self, source: str) -> Object | None:
        """The only object of a selection, or None."""
        return next(iter(self._items[source].values()), None)

    def add(self, source: str, selection: Selection) -> None:
        """Follow one more selection."""
        self._selections[source] = selection
        self._list_at_last(source)

    def drop(self, source: str) -> None:
        """Follow a selection no longer."""
        self._selections.pop(source, None)
        if stream := self._streams.pop(source, None):
            stream.close()

    def wait(self, at_most: float | None = None) -> bool:
        """Wait for news, `at_most` seconds; whether there was any.

        Raises TimedOut, Cancelled, or Unreachable when the streams stay lost.
        """
        if self._open_missing():
            return True
        with self._ctx.on_cancel(lambda: self._news.put(None)):
            try:
                news = self._news.get(timeout=self._ctx.remaining(at_most))
            except queue.Empty:
                self._ctx.checkpoint()
                return False
        self._ctx.checkpoint()
        while True:
            if news is not None:
                self._take(news)
            try:
                news = self._news.get_nowait()
            except queue.Empty:
                return True

    # -- streams --------------------------------------------------------------------------------
    def _list_at_last(self, source: str) -> None:
        self.persist(functools.partial(self._list, source), source)

    def _list(self, source: str) -> None:
        chosen = self._selections[source]
        items, version = self._cluster.list(
            self._ctx,
            chosen.kind,
            chosen.namespace,
            labels=chosen.labels,
            fields=chosen.field_selector,
        )
        self._items[source] = {_identity(item): item for item in items}
        self._versions[source] = version

    def _open_missing(self) -> bool:
        """Open what is not open; whether something had to be listed anew, which may be news."""
        listed = False
        while missing := [name for name in self._selections if name not in self._streams]:
            source = missing[0]
            listed = self.persist(functools.partial(self._list_and_open, source), source) or listed
        return listed

    def _list_and_open(self, source: str) -> bool:
        """Open a stream; whether its selection had to be listed anew."""
        listed = source not in self._versions
        if listed:
            self._list(source)
        now = self._ctx.monotonic()
        if (pause := self._opened.get(source, -_SOONEST) + _SOONEST - now) > 0:
            self._ctx.sleep(pause)
        try:
            self._streams[source] = self._open(source)
            self._opened[source] = self._ctx.monotonic()
        except Expired:
            self._versions.pop(source, None)
        return listed

    def persist(self, ask: Callable[[], T], source: str = "") -> T:
        """Ask until it is answered: a cluster that has answered before is waited for.

        Until the step's deadline; without one, as long as `_PATIENCE`.
        """
        while True:
            try:
                answer = ask()
            except (Cancelled, TimedOut):
                raise
            except ActionError as error:
                if not self._bearable(source, error):
                    raise
                self._ctx.sleep(_AGAIN)
            else:
                self._lost_since = self._refused_since = None
                return answer

    def _bearable(self, source: str, error: ActionError) -> bool:
        """Whether a cluster that answers with this error is waited for."""
        now = self._ctx.monotonic()
        if isinstance(error, Unreachable):
            if not self._cluster.answered:
                return False
            self._was_lost = True
            self._lost_since = now if self._lost_since is None else self._lost_since
            return self._ctx.remaining() is not None or now - self._lost_since <= _PATIENCE
        if source not in self._opened and not self._was_lost:
            return False
        self._refused_since = now if self._refused_since is None else self._refused_since
        return now - self._refused_since <= _WARMING_UP

    def _open(self, source: str) -> _Stream:
        chosen = self._selections[source]
        path = chosen.kind.path(chosen.namespace)
        if not chosen.namespace:
            path = chosen.kind._replace(namespaced=False).path("")
        response = self._cluster.stream(
            self._ctx,
            path,
            {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": self._versions[source],
                "timeoutSeconds": str(_ROUND),
                "labelSelector": chosen.labels,
                "fieldSelector": chosen.field_selector,
            },
            silence=_ROUND + 15.0,
        )
        stream = _Stream(source, response, self._news)
        stream.start()
        return stream

    def _take(self, news: _News) -> None:
        source = news.source
        if self._streams.get(source) is not news.stream:
            return  # of a stream that was given up
        event = news.event
        if event is None or event.get("type") == "ERROR":
            # An ended stream goes on where it was; after an error (410: our version is too old)
            # everything is listed anew.
            self._streams.pop(source).close()
            if event is not None:
                self._versions.pop(source, None)
            return
        item = event["object"]
        self._versions[source] = item["metadata"]["resourceVersion"]
        if event["type"] == "DELETED":
            self._items[source].pop(_identity(item), None)
        elif event["type"] in ("ADDED", "MODIFIED"):
            self._items[source][_identity(item)] = item


class _Stream(threading.Thread):
    """Reads one watch and puts its events, and its end, into a queue."""

    def __init__(self, source: str, response: Any, news: queue.SimpleQueue[_News | None]):
        super().__init__(name=f"watch-{source}", daemon=True)
        self._source = source
        self._response = response
        self._news = news
        self._socket = getattr(response.connection, "wire", None)

    def run(self) -> None:
        """Read until the stream ends, for whatever reason."""
        rest = b""
        try:
            while chunk := self._response.read1(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        self._put(json.loads(line))
        except Exception:  # cut off, by us or by the network: the end, either way
            pass
        finally:
            self._response.close()
            self._put(None)

    def close(self) -> None:
        """End the stream and wait for the thread; a blocked read returns at once."""
        cut(self._socket)
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout=1.0)

    def _put(self, event: dict[str, Any] | None) -> None:
        self._news.put(_News(self._source, self, event))


def _identity(item: Object) -> str:
    metadata = item["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"
