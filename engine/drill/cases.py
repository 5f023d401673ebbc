"""The cases of a scenario with a matrix: its file read once for every combination of variants."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from engine.errors import CeRunError
from engine.loader.problems import Problems
from engine.loader.source import Map, Seq, Source, Spot
from engine.templating import Scope, Templates, is_template

MOST = 500
"""Combinations of one matrix."""


def cases(root: Map, source: Source, problems: Problems) -> list[dict[str, Any]]:
    """Every combination: the matrix's names → their variants. One empty one without a matrix."""
    matrix = root.get("matrix")
    if not isinstance(matrix, Map) or not matrix:
        return [{}]
    lists = []
    for name, variants in matrix.items():
        if not isinstance(variants, Seq) or not variants:
            said = f"`{name}` of the matrix wants a list of its variants"
            problems.add(source.name, matrix.value_at(name), said)
            return []
        for index, each in enumerate(variants):
            if not isinstance(each, Map) or not isinstance(each.get("name"), str):
                said = f"a variant of `{name}` is a mapping with at least its `name`"
                problems.add(source.name, variants.item_at(index), said)
                return []
        lists.append(variants)
    made = [dict(zip(matrix, each, strict=True)) for each in itertools.product(*lists)]
    if len(made) > MOST:
        problems.add(source.name, matrix.at, f"the matrix has {len(made)} cases, more than {MOST}")
        return []
    return made


def case_name(case: dict[str, Any]) -> str:
    """What tells a case from the others: the names of its variants."""
    return ", ".join(str(each["name"]) for each in case.values())


class Filling:
    """Puts the values of a case into a scenario's texts."""

    def __init__(self, case: dict[str, Any], source: Source, problems: Problems) -> None:
        self._scope = Scope({"case": case})
        self._templates = Templates(environ={})
        self._source = source
        self._problems = problems

    def fill(self, root: Map) -> Map:
        """A scenario without its matrix, its templates rendered; places stay those of the file."""
        made = Map(root.at)
        for key, value in root.items():
            if key != "matrix":
                at = root.value_at(key)
                raw = (root.raws or {}).get(key)
                made.put(key, self._filled(value, at), root.key_at(key), at, raw)
        return made

    def _filled(self, value: Any, at: Spot) -> Any:
        if isinstance(value, Map):
            return self.fill_map(value)
        if isinstance(value, Seq):
            made = Seq(value.at)
            for index, each in enumerate(value):
                spot = value.item_at(index)
                made.put(self._filled(each, spot), spot, (value.raws or {}).get(index))
            return made
        if isinstance(value, str) and is_template(value):
            return self._rendered(value, at)
        return value

    def fill_map(self, value: Map) -> Map:
        """A mapping within a scenario."""
        made = Map(value.at)
        for key, each in value.items():
            at = value.value_at(key)
            raw = (value.raws or {}).get(key)
            made.put(key, self._filled(each, at), value.key_at(key), at, raw)
        return made

    def _rendered(self, text: str, at: Spot) -> Any:
        try:
            value = self._templates.render(text, self._scope)
        except CeRunError as error:
            self._problems.add(self._source.name, at, error.message, error.hint)
            return ""
        return _placed(value, at)


def _placed(value: Any, at: Spot) -> Any:
    """A value that a template made, as if it stood at its place."""
    if isinstance(value, Map | Seq):
        return value
    if isinstance(value, dict):
        made = Map(at)
        for key, each in value.items():
            made.put(str(key), _placed(each, at), at, at, None)
        return made
    if isinstance(value, list | tuple):
        listed = Seq(at)
        for each in value:
            listed.put(_placed(each, at), at, None)
        return listed
    return value


def shown_cases(made: list[dict[str, Any]]) -> Iterator[str]:
    """The names of the cases, for those who choose one."""
    return (case_name(each) for each in made if each)
