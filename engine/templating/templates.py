"""Rendering and evaluating, and the one error that everything that goes wrong becomes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from engine.errors import CeRunError, Failed
from engine.templating.fields import CALL
from engine.templating.scope import Scope
from engine.text import did_you_mean, parse_boolean
from engine.units import parse_duration

RESERVED = frozenset(
    (
        *("inputs", "run", "steps", "host", "hosts", "groups", "item", "failure", "result"),
        *("endpoints", "metrics", "inventory_hostname"),
        *("range", "dict", "namespace", "cycler", "joiner", "true", "false", "none"),
        *("True", "False", "None", "loop", "self", "varargs", "kwargs", "caller"),
        *("not", "and", "or", "is", "in", "if", "else", "recursive"),
    )
)
"""Names that no variable, input or registered result may take."""


_MISSING: Any = object()


class TemplateFailed(Failed):
    """A template or expression could not be rendered; trying again alone will not help."""

    retryable = False


class _Stack(threading.local):
    """The variables being rendered on this thread, to notice one that reads itself."""

    def __init__(self) -> None:
        self.names: list[str] = []


_stack = _Stack()


def is_template(text: str) -> bool:
    """Whether text holds anything for Jinja2 to do."""
    return "{" in text and ("{{" in text or "{%" in text or "{#" in text)


class Templates:
    """Renders templates in scopes. One for a run; any thread may use it."""

    def __init__(
        self,
        *,
        secret: Callable[[str], str] | None = None,
        lab: Callable[[str], Any] | None = None,
        now: Callable[[], float] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`secret(name)` and `lab(name)` are the functions of those names in templates, `now` tells
        ``now()`` the seconds since the epoch, `environ` is what ``env()`` reads (the process's
        own environment if None)."""
        self._functions: dict[str, Any] = {
            "env": self._env,
            "secret": secret or _no_secret,
            "lab": lab or _no_lab,
            "now": self._time,
        }
        self._now = now
        self._environ = os.environ if environ is None else environ

    def render(self, value: Any, scope: Scope) -> Any:
        """`value` with every template in it rendered; lists and mappings are walked.

        Text that is exactly one expression gives the expression's own value, other text gives
        text. Parts without templates are passed on as they are. Raises TemplateFailed.
        """
        if isinstance(value, str):
            return self._run(value, scope, expression=False) if is_template(value) else value
        if isinstance(value, dict):
            return self._render_mapping(value, scope)
        if isinstance(value, list | tuple):
            made = [self.render(each, scope) for each in value]
            same = all(a is b for a, b in zip(made, value, strict=True))
            return value if same and isinstance(value, list) else made
        return value

    def evaluate(self, expression: str, scope: Scope) -> Any:
        """The value of an expression without braces. Raises TemplateFailed."""
        return self._run(expression, scope, expression=True)

    def test(self, expression: str, scope: Scope) -> bool:
        """Whether a condition holds. Text must say yes or no (``true``, ``no``, ``off``, …):
        that any other text counts as true is how conditions go wrong unnoticed."""
        value = self.evaluate(expression, scope)
        if isinstance(value, str):
            word = parse_boolean(value) if value.strip() else False
            if word is None:
                raise TemplateFailed(
                    f"{_at(scope)}the condition `{expression}` gave the text {_short(value)!r}",
                    hint="compare it with something: a condition has to be true or false",
                )
            return word
        return bool(value)

    def lookup(self, name: str, scope: Scope, missing: Any = None) -> Any:
        """A name's value in a scope, rendered; a function only where it is called."""
        if name.startswith(CALL):
            return self._functions[name.removeprefix(CALL)]
        return scope.lookup(name, self._variable, missing)

    def known(self, scope: Scope) -> list[str]:
        """All names in a scope, functions included."""
        return [*scope.known(), *self._functions]

    def _variable(self, name: str, raw: Any, scope: Scope) -> Any:
        """A variable's value; a mapping's entries are rendered one by one when they are read."""
        if isinstance(raw, dict) and raw:
            return Lazy(name, raw, scope, self)
        if isinstance(raw, str) and not is_template(raw):
            return raw
        if name in _stack.names:
            path = " → ".join([*_stack.names[_stack.names.index(name) :], name])
            raise TemplateFailed(
                f"{_at(scope)}the variable '{name}' reads itself: {path}",
                hint="give one of them another name, or a value",
            )
        _stack.names.append(name)
        try:
            return self.render(raw, scope)
        finally:
            _stack.names.pop()

    def _render_mapping(self, value: dict[Any, Any], scope: Scope) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        same = True
        for key, each in value.items():
            new_key = self.render(key, scope) if isinstance(key, str) else key
            made[new_key] = new = self.render(each, scope)
            same = same and new is each and new_key is key
        return value if same else made

    def _run(self, text: str, scope: Scope, *, expression: bool) -> Any:
        from engine.templating import sandbox

        try:
            return sandbox.run(text, expression, self, scope)
        except CeRunError:
            raise
        except sandbox.EXPECTED as error:
            shown = text if len(text) <= 200 else text[:197] + "…"
            what = "expression" if expression else "template"
            raise TemplateFailed(
                f"{_at(scope)}the {what} `{shown}` failed: {sandbox.explain(error)}"
            ) from error

    def _time(self, later: Any = 0) -> str:
        """``now()``: UTC as ISO 8601; ``now('30m')`` is in half an hour."""
        seconds = parse_duration(later)
        if self._now is None or seconds is None:
            raise TemplateFailed(
                "now() has no clock here"
                if self._now is None
                else f"now({later!r}): that is no duration such as 30m"
            )
        moment = datetime.fromtimestamp(self._now() + seconds, UTC)
        return moment.isoformat(timespec="seconds")

    def _env(self, name: str, default: Any = _MISSING) -> Any:
        found = self._environ.get(str(name))
        if found is not None:
            return found
        if default is not _MISSING:
            return default
        hint = did_you_mean(str(name), self._environ)
        raise TemplateFailed(
            f"the environment variable {name} is not set",
            hint="set it, or give a default: env('NAME', 'default')"
            + (f" ({hint})" if hint.startswith("did") else ""),
        )


class _ReadOneByOne(Mapping[str, Any]):
    """A mapping whose entries are made when they are first read.

    An entry that cannot be made here harms nobody who does not read it.
    """

    __slots__ = ("_made", "_raw", "_scope", "_templates")

    def __init__(self, raw: dict[str, Any], scope: Scope, templates: Templates) -> None:
        self._raw = raw
        self._scope = scope
        self._templates = templates
        self._made: dict[str, Any] = {}

    def _make(self, key: str, raw: Any) -> Any:
        raise NotImplementedError

    def __getitem__(self, key: str) -> Any:
        if key not in self._made:
            self._made[key] = self._make(key, self._raw[key])
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __contains__(self, key: object) -> bool:
        return key in self._raw


class Lazy(_ReadOneByOne):
    """A mapping among the variables: ``endpoints.health`` can be ``{{ endpoints.api }}/health``."""

    __slots__ = ("_name",)

    def __init__(self, name: str, raw: dict[str, Any], scope: Scope, templates: Templates) -> None:
        super().__init__(raw, scope, templates)
        self._name = name

    def _make(self, key: str, raw: Any) -> Any:
        return self._templates._variable(f"{self._name}.{key}", raw, self._scope)


class Entries(_ReadOneByOne):
    """A section of the inventory, whose entries are rendered whole.

    Named entries within one (channels, registries) are read one by one as well, so a secret that
    is missing here stops only the entry that needs it.
    """

    __slots__ = ("_deep",)

    def __init__(
        self, raw: dict[str, Any], scope: Scope, templates: Templates, *, deep: bool = True
    ) -> None:
        super().__init__(raw, scope, templates)
        self._deep = deep

    def _make(self, key: str, raw: Any) -> Any:
        if self._deep and _named_entries(raw):
            return Entries(raw, self._scope, self._templates, deep=False)
        return self._templates.render(raw, self._scope)


def _named_entries(raw: Any) -> bool:
    return (
        isinstance(raw, dict) and bool(raw) and all(isinstance(one, dict) for one in raw.values())
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"


def _at(scope: Scope) -> str:
    return f"{scope.place}: " if scope.place is not None else ""


def _no_secret(name: str) -> str:
    raise TemplateFailed(f"there are no secrets here, so secret('{name}') has no value")


def _no_lab(name: str) -> Any:
    raise TemplateFailed(f"there is no lab here, so lab('{name}') has no value")
