"""The lab's monitoring over HTTP, as Prometheus answers and as plain JSON.

`/metrics.json?name=…&version=…&window=…` gives values with the number of samples behind each;
`/api/v1/query?query=error_rate{version="5.1"}` answers in Prometheus' format, where the label
matcher `window="10s"` chooses the window and `<name>_samples` is the number of samples; `/metrics`
is the text format. A metric without data is absent everywhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from aiohttp import web

from engine.lab.clock import CLOCK
from engine.lab.monitoring.promql import QueryError, Selector, parse
from engine.lab.settings import Settings
from engine.lab.wire import Connection, WireError
from engine.production.cluster.runtime import Usage
from engine.production.metrics import METRICS, Measurement, PodSample
from engine.production.observations import Observations, measure

_SAMPLES = "_samples"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}
_SCRAPE_TIMEOUT = 3.0


class Monitoring:
    """Answers questions about `observations`."""

    def __init__(self, observations: Observations, settings: Settings) -> None:
        self._observations = observations
        self._window = settings.metrics_window

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/metrics.json", self._json)
        app.router.add_get("/metrics", self._text)
        app.router.add_get("/-/ready", self._ready)
        app.router.add_route("GET", "/api/v1/query", self._query)
        app.router.add_route("POST", "/api/v1/query", self._query)
        return app

    def series(self, name: str, window: float) -> Iterator[tuple[str, Measurement]]:
        """(version, value) for each version of which there is data."""
        for version in self._observations.versions():
            value = measure(self._observations, name, version, window)
            if value is not None:
                yield version, value

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response(text="The lab's monitoring is ready.\n")

    async def _json(self, request: web.Request) -> web.Response:
        """Values as a list of {name, version, value, samples, window}."""
        try:
            window = _seconds(request.query.get("window", str(self._window)))
            names = _names(request.query.getall("name", []))
        except ValueError as error:
            return _reply({"error": str(error)}, 400)
        only = request.query.get("version")
        rows = [
            {
                "name": name,
                "version": version,
                "value": round(value.value, 6),
                "samples": value.samples,
                "window": window,
            }
            for name in names
            for version, value in self.series(name, window)
            if only in (None, version)
        ]
        return _reply({"time": CLOCK.now(), "metrics": rows})

    async def _text(self, request: web.Request) -> web.Response:
        lines = [
            f'{name}{{version="{version}"}} {value.value:.10g}'
            for name in METRICS
            for version, value in self.series(name, self._window)
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def _query(self, request: web.Request) -> web.Response:
        form = await request.post() if request.method == "POST" else {}
        query = str(form.get("query") or request.query.get("query", ""))
        try:
            selector = parse(query)
            result = [*self._vector(selector)]
        except (QueryError, ValueError) as error:
            message = f'invalid parameter "query": {error}'
            return _reply({"status": "error", "errorType": "bad_data", "error": message}, 400)
        return _reply({"status": "success", "data": {"resultType": "vector", "result": result}})

    def _vector(self, selector: Selector) -> Iterator[dict[str, Any]]:
        base = selector.name.removesuffix(_SAMPLES)
        if base not in METRICS:
            return
        window = next((m.value for m in selector.matchers if m.label == "window"), "")
        seconds = _seconds(window) if window else self._window
        now = CLOCK.now()
        for version, value in self.series(base, seconds):
            labels = {"__name__": selector.name, "job": "claude-enhancer", "version": version}
            if window:
                labels["window"] = window
            if selector.matches(labels):
                figure = value.samples if selector.name.endswith(_SAMPLES) else value.value
                yield {"metric": labels, "value": [round(now, 3), f"{figure:.10g}"]}


class Scraper:
    """Reads the pods' metrics ports, as Prometheus would."""

    def __init__(self, observations: Observations, settings: Settings, port: int) -> None:
        self._observations = observations
        self._settings = settings
        self._port = port
        self._connections: dict[str, Connection] = {}

    async def run(
        self,
        pods: Callable[[], list[tuple[str, str, str]]],
        usage: Callable[[str], Usage],
        cpu_limit: Callable[[str], int],
    ) -> None:
        """Scrape every pod, again and again, until cancelled.

        `pods` gives (uid, version, address), `usage` and `cpu_limit` (millicores) those of a uid.
        """
        while True:
            current = pods()
            self._observations.keep_pods(uid for uid, _, _ in current)
            for gone in self._connections.keys() - {uid for uid, _, _ in current}:
                self._connections.pop(gone).close()
            for uid, version, address in current:
                metrics = await self._scrape(uid, address)
                if metrics:
                    sample = PodSample(
                        pod=uid,
                        version=version,
                        at=CLOCK.monotonic(),
                        metrics=metrics,
                        usage=usage(uid),
                        cpu_limit=cpu_limit(uid),
                        memory_limit=self._settings.pod_memory * 1024 * 1024,
                    )
                    self._observations.add_pod(sample)
            await asyncio.sleep(self._settings.scrape_period)

    async def _scrape(self, uid: str, address: str) -> dict[str, float]:
        connection = self._connections.setdefault(uid, Connection(address, self._port))
        try:
            async with asyncio.timeout(_SCRAPE_TIMEOUT):
                answer = await connection.request("GET", "/metrics")
        except (WireError, TimeoutError):
            connection.close()
            return {}
        return parse_text(answer.body.decode())


def parse_text(text: str) -> dict[str, float]:
    """Name → value of metrics in Prometheus' text format; labels are left out."""
    values = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            values[name.partition("{")[0]] = float(value)
    return values


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"not a duration: {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def _names(asked: list[str]) -> list[str]:
    """The metrics asked for, all if none; several may be given with commas."""
    names = [name for part in asked for name in part.split(",") if name]
    for name in names:
        if name not in METRICS:
            raise ValueError(f"unknown metric {name!r}; there are: {', '.join(METRICS)}")
    return names or list(METRICS)


def _reply(body: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )
