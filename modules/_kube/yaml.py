"""YAML as Kubernetes reads it, which is neither Python's nor the engine's.

kubectl turns a manifest into JSON by the rules of its own library (sigs.k8s.io/yaml): what looks
like a time is text, ``12:30`` is text and no number in base 60, ``0644`` and ``0o644`` are octal,
``1e9`` is a number, ``y`` and ``on`` are true, and keys are always text. A key that stands twice is
refused: one of the two would be dropped without a word.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from engine.module_api import Refused

if TYPE_CHECKING:
    import yaml

_BOOLS = {
    **dict.fromkeys(
        ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True
    ),
    **dict.fromkeys(
        ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False
    ),
}
_NULLS = ("", "~", "null", "Null", "NULL")
_INT = re.compile(r"[-+]?(?:0[bB][01]+|0|0[oO]?[0-7]+|0[xX][0-9a-fA-F]+|[1-9][0-9]*)$")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$")
_ODD = re.compile(r"[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$")
_TAG = "tag:yaml.org,2002:"
_MOST_NODES = 1_000_000
"""Values that a document may have once its aliases are expanded: a bomb has more."""


def load(text: str, where: str) -> Iterator[Any]:
    """The documents of a text, as JSON values; Refused says what is wrong, and where.

    `where` names the file in messages; lines are counted in `text`.
    """
    import yaml

    try:
        for document in yaml.load_all(text, Loader=_loader()):
            yield as_json(document, where)
    except RecursionError:
        raise Refused(f"{where} is nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise Refused(
            f"{where}{place} is not YAML of Kubernetes: {getattr(error, 'problem', None) or error}",
            hint='the place is counted in the rendered text; quote templates: "{{ … }}"',
        ) from error


def scalar(text: str) -> Any:
    """What a plain (unquoted) scalar means."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    number = text.replace("_", "")
    if _INT.match(number):
        return _integer(number)
    if _FLOAT.match(number):
        return _number(float(number))
    return math.nan if _ODD.match(text) else text


def _integer(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-").lower()
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def _number(value: float) -> float | int:
    """A number as Go writes it in JSON: without a fraction where it has none."""
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def as_json(value: Any, where: str) -> Any:
    """A value with text as its keys; Refused names what JSON cannot hold."""
    return _Plain(where).of(value, "")


class _Plain:
    """Turns values into JSON values, within bounds."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._count = 0
        self._above: set[int] = set()

    def of(self, value: Any, path: str) -> Any:
        """The value at a path of the document."""
        self._count += 1
        if self._count > _MOST_NODES:
            raise Refused(f"{self._where} holds too many values (are aliases nested?)")
        if value is None or isinstance(value, str | bool | int):
            return value
        if isinstance(value, float):
            if math.isnan(value) or math.isinf(value):
                raise Refused(f"{self._where}: {path or 'it'} is a number that JSON does not have")
            return _number(value)
        if not isinstance(value, dict | list | tuple):
            return str(value)  # a date of an argument, which YAML of Kubernetes has as text
        if id(value) in self._above:
            raise Refused(f"{self._where}: {path or 'it'} contains itself")
        self._above.add(id(value))
        try:
            if isinstance(value, dict):
                return {self._key(key): self.of(one, f"{path}.{key}") for key, one in value.items()}
            return [self.of(one, f"{path}[{index}]") for index, one in enumerate(value)]
        finally:
            self._above.discard(id(value))

    def _key(self, key: Any) -> str:
        if isinstance(key, bool):
            return "true" if key else "false"
        if isinstance(key, str | int | float):
            return str(key)
        raise Refused(f"{self._where}: a key is {key!r}: keys are text")


@cache
def _loader() -> type[yaml.SafeLoader]:
    """PyYAML's loader with the rules of Kubernetes; PyYAML is imported at first use."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
        yaml_constructors: ClassVar[dict[Any, Any]] = {}

    for tag, build in (
        (f"{_TAG}plain", lambda loader, node: scalar(loader.construct_scalar(node))),
        (f"{_TAG}str", lambda loader, node: loader.construct_scalar(node)),
        (f"{_TAG}null", lambda loader, node: None),
        (f"{_TAG}bool", lambda loader, node: scalar(loader.construct_scalar(node))),
        (f"{_TAG}int", lambda loader, node: scalar(loader.construct_scalar(node))),
        (f"{_TAG}float", lambda loader, node: scalar(loader.construct_scalar(node))),
        (f"{_TAG}timestamp", lambda loader, node: loader.construct_scalar(node)),
        (f"{_TAG}binary", _binary),
        (f"{_TAG}seq", base.yaml_constructors[f"{_TAG}seq"]),
        (f"{_TAG}map", _mapping),
        (None, _unknown),
    ):
        Loader.add_constructor(tag, build)
    Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"^<<$"), ["<"])
    Loader.add_implicit_resolver(f"{_TAG}plain", re.compile(r"", re.DOTALL), None)
    return Loader


def _mapping(loader: Any, node: Any) -> Iterator[dict[str, Any]]:
    """A mapping none of whose keys stands twice."""
    seen: dict[str, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == f"{_TAG}merge":
            continue
        key = _key(loader, key_node)
        if key in seen:
            raise _problem(
                key_node,
                f"the key {key!r} stands twice (first in line {seen[key]}): one of them would be "
                "dropped",
            )
        seen[key] = key_node.start_mark.line + 1
    result: dict[str, Any] = {}
    yield result
    loader.flatten_mapping(node)
    for key_node, value_node in node.value:
        result[_key(loader, key_node)] = loader.construct_object(value_node, deep=True)


def _key(loader: Any, node: Any) -> str:
    """A key, as text whatever it looks like."""
    key = loader.construct_object(node, deep=True)
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, str | int | float):
        return str(key)
    raise _problem(node, "a key is empty, or no text")


def _binary(loader: Any, node: Any) -> str:
    try:
        return base64.b64decode(loader.construct_scalar(node)).decode()
    except ValueError:
        raise _problem(node, "!!binary is not base64 of text") from None


def _unknown(loader: Any, node: Any) -> Any:
    raise _problem(node, f"the tag {node.tag!r} means nothing to Kubernetes")


def _problem(node: Any, text: str) -> Exception:
    import yaml

    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)
