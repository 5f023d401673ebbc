"""Recorded answers of a real Kubernetes API server, for requests that a client sends to it.

The recordings are in `tests/lab/cluster/transcripts`. A `Replay` holds some of them, in order: a
request gets the first one not yet used that has its method and path. What the client must get
right beside those is compared: the content type, and the query parameters that matter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.modules.conftest import Answer, Request

_COMPARED = ("dryRun", "watch", "fieldSelector", "labelSelector")
_FOLDER = Path(__file__).parents[1] / "lab" / "cluster" / "transcripts"


def recorded(name: str) -> dict[str, Any]:
    """The recording with the number `name`, such as ``12``."""
    (file,) = _FOLDER.glob(f"{name}-*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def body(name: str) -> Any:
    """The body of a recorded answer."""
    return recorded(name)["response"]["body"]


def listed(*objects: Any, version: str = "370") -> Any:
    """Recorded objects as the answer to a list."""
    return {"metadata": {"resourceVersion": version}, "items": list(objects)}


class Replay:
    """Answers requests from recordings; `missing` collects requests that nothing was left for."""

    def __init__(self, *steps: str | tuple[str, str, Any]) -> None:
        """A step is the name of a recording, or (method, path, body or recording to answer).

        A method with a star, such as ``GET*``, answers as often as it is asked, never included.
        """
        self._always = {
            (method.rstrip("*"), path): (200, content)
            for method, path, content in (step for step in steps if isinstance(step, tuple))
            if method.endswith("*")
        }
        steps = tuple(step for step in steps if isinstance(step, str) or "*" not in step[0])
        self._left = [self._step(step) for step in steps]
        self.missing: list[str] = []
        self.wrong: list[str] = []

    def __call__(self, request: Request) -> Answer:
        """The answer to a request, for a `Server`."""
        address = urlsplit(request.path)
        for index, (method, path, query, content, answer) in enumerate(self._left):
            if (method, path) != (request.method, address.path):
                continue
            sent = {key: values[0] for key, values in parse_qs(address.query).items()}
            wanted = {key: value for key, value in query.items() if key in _COMPARED}
            got = {key: value for key, value in sent.items() if key in _COMPARED}
            if query is not _ANY and got != wanted:
                self.wrong.append(f"{request.path}: query {got}, recorded {wanted}")
            if content and request.headers.get("content-type") != content:
                self.wrong.append(f"{request.path}: {request.headers.get('content-type')}")
            del self._left[index]
            return answer
        if (request.method, address.path) in self._always:
            return self._always[request.method, address.path]
        self.missing.append(f"{request.method} {request.path}")
        return 404, {"kind": "Status", "message": "nothing recorded", "reason": "NotFound"}

    def done(self) -> None:
        """Fail unless every recording was used and every request had one."""
        assert not self.wrong
        assert not self.missing
        assert not [(method, path) for method, path, *_ in self._left]

    def _step(
        self, step: str | tuple[str, str, Any]
    ) -> tuple[str, str, dict[str, str], str | None, Answer]:
        if isinstance(step, tuple):
            method, path, answer = step
            if isinstance(answer, str):
                answer = self._answer(recorded(answer)["response"])
            elif not isinstance(answer, tuple):
                answer = (200, answer)
            return method, path, _ANY, None, answer
        found = recorded(step)
        address = urlsplit(found["request"]["path"])
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        return (
            found["request"]["method"],
            address.path,
            query,
            found["request"]["content_type"],
            self._answer(found["response"]),
        )

    def _answer(self, response: dict[str, Any]) -> Answer:
        content = response["body"]
        if isinstance(content, list):  # a watch: one event a line
            lines = "".join(f"{json.dumps(event)}\n" for event in content)
            return response["status"], lines.encode(), {"Content-Type": "application/json"}
        return response["status"], content, {"Content-Type": response["content_type"]}


_ANY: dict[str, str] = {}
"""The query of a step that stands for itself: it is not compared."""
