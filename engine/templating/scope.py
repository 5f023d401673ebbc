"""What names mean where: layered variables, rendered when they are first read.

As in Ansible a variable may be a template that reads others, and is rendered in the scope that
reads it: a variable of the runbook sees the `item` of the step that uses it. A Scope therefore
keeps layers of variables *as written* and remembers what they rendered to only for itself.

Precedence, highest first: the engine's own names (``run``, ``steps``, ``item``, …, which no
variable may take), registered results, extra variables (``-e``), variables of the step, its
groups, the runbook, the host, the inventory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engine.text import did_you_mean

_NOTHING: Any = object()
_ROLES = frozenset(("rescue", "undo", "always"))
_EMPTY: Mapping[str, Any] = {}


class Scope:
    """The names that templates of one step (for one host or item) can read. Never changes."""

    __slots__ = (
        "_rendered",
        "extra",
        "host_vars",
        "inventory",
        "levels",
        "names",
        "place",
        "registered",
    )

    def __init__(
        self,
        names: Mapping[str, Any] = _EMPTY,
        *,
        vars: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] = _EMPTY,
        inventory: Mapping[str, Any] = _EMPTY,
        host_vars: Mapping[str, Any] = _EMPTY,
        registered: Mapping[str, Any] = _EMPTY,
        place: object = None,
    ) -> None:
        """`names` are ready values, `registered` gives one when it is asked for it; `vars`,
        `extra`, `inventory` and `host_vars` may hold templates. `place` is told in errors."""
        self.names = names
        self.registered = registered
        self.levels: tuple[Mapping[str, Any], ...] = (vars,) if vars else ()
        self.extra = extra
        self.inventory = inventory
        self.host_vars = host_vars
        self.place = place
        self._rendered: dict[str, Any] = {}

    def child(
        self,
        names: Mapping[str, Any] = _EMPTY,
        *,
        vars: Mapping[str, Any] | None = None,
        host_vars: Mapping[str, Any] | None = None,
        registered: Mapping[str, Any] | None = None,
        place: object = None,
    ) -> Scope:
        """A scope inside this one: more names, variables above its variables."""
        made = Scope(
            {**self.names, **names} if names else self.names,
            extra=self.extra,
            inventory=self.inventory,
            host_vars=self.host_vars if host_vars is None else host_vars,
            registered=self.registered if registered is None else registered,
            place=self.place if place is None else place,
        )
        made.levels = (vars, *self.levels) if vars else self.levels
        return made

    def included(self, names: Mapping[str, Any], *, vars: Mapping[str, Any] | None = None) -> Scope:
        """The scope inside an included runbook: its own names and variables, not its caller's.

        The inventory, the host and extra variables stay; `names` (its ``inputs``, its ``steps``)
        replace the names of the same kind, ``item`` and ``failure`` end here.
        """
        kept = {k: v for k, v in self.names.items() if k not in ("item", "failure", "result")}
        return Scope(
            {**kept, **names},
            vars=vars,
            extra=self.extra,
            inventory=self.inventory,
            host_vars=self.host_vars,
            place=self.place,
        )

    def lookup(
        self, name: str, render: Callable[[str, Any, Scope], Any], missing: Any = None
    ) -> Any:
        """The value of a name, rendered by `render(name, raw, scope)`; `missing` if there is
        none."""
        if name in self.names:
            return self.names[name]
        if name in self.registered:
            return self.registered[name]
        found = self._rendered.get(name, _NOTHING)
        if found is not _NOTHING:
            return found
        raw = self.raw(name, _NOTHING)
        if raw is _NOTHING:
            return missing
        value = self._rendered[name] = render(name, raw, self)
        return value

    def raw(self, name: str, missing: Any = None) -> Any:
        """A variable as written in the highest layer that has it."""
        for layer in self._layers():
            if name in layer:
                return layer[name]
        return missing

    def known(self) -> list[str]:
        """Every name there is, in order of precedence."""
        found = dict.fromkeys((*self.names, *self.registered))
        for layer in self._layers():
            found.update(dict.fromkeys(layer))
        return list(found)

    def _layers(self) -> Iterator[Mapping[str, Any]]:
        yield self.extra
        yield from self.levels
        yield self.host_vars
        yield self.inventory


class Steps:
    """``steps`` in a template: what became of other steps, by id or by path.

    A key is looked for among the siblings of the step that reads it, then among those of the
    group around it, and so on outwards to the top, where a path from the top is found.
    """

    def __init__(
        self,
        find: Callable[[str], Any],
        group: str = "",
        known: Callable[[], list[str]] = list,
    ) -> None:
        """`find(path)` gives a step's value or None; `group` is the path of the group in which
        the reader stands (``""`` at the top); `known()` gives paths, for error messages."""
        self._find = find
        self._group = group
        self._known = known

    def __getitem__(self, key: str) -> Any:
        for path in lexical_paths(self._group, key):
            found = self._find(path)
            if found is not None:
                return found
        raise KeyError(key)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        try:
            return self[key]
        except KeyError:
            raise AttributeError(key) from None

    def keys(self) -> list[str]:
        """Paths that could be meant, for error messages."""
        return self._known()

    def missing(self, key: str) -> str:
        """What to say when there is no such step (or it has not run)."""
        hint = did_you_mean(key, self._known())
        return f"step '{key}' has no result here" + (f" … {hint}" if hint else "")


class Forgotten(dict[str, Any]):
    """The result of a ``no_log`` step that an earlier process carried out: whether it changed
    something is known, what it gave was stored nowhere."""

    def __init__(self, step: str, known: Mapping[str, Any]) -> None:
        super().__init__(known)
        self._step = step

    def missing(self, key: str) -> str:
        """What to say when somebody reads what is gone."""
        return (
            f"'{key}' of step '{self._step}' is not known any more: with `no_log` its result was "
            "not stored, and the run was resumed since … start the runbook anew, or have this "
            "step fetch the value by itself"
        )


def lexical_paths(group: str, key: str) -> Iterator[str]:
    """Paths that `key` may stand for inside `group`, innermost first.

    ``a/b`` and ``c`` → ``a/b/c``, ``a/c``, ``c``; ``a.rescue`` and ``c`` → ``a.rescue/c``,
    ``a/c``, ``c``: a rescue, undo or always stands inside the group that it belongs to.
    """
    while group:
        yield f"{group}/{key}"
        head, slash, tail = group.rpartition("/")
        owner, _, role = tail.rpartition(".")
        group = f"{head}{slash}{owner}" if role in _ROLES else head
    yield key
