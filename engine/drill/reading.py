"""Reads scenarios: every problem of the file, of its runbooks and its expressions, all at once."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from engine.drill.cases import Filling, case_name, cases
from engine.drill.checking import Books, check_condition, check_outage
from engine.drill.scenario import MAIN, ROLLBACK, START, Expectation, Scenario, ScenarioEntry
from engine.errors import InvalidRunbook
from engine.loader.includes import near_file
from engine.loader.problems import Problems
from engine.loader.reader import read
from engine.loader.source import Map, Source
from engine.loader.structures import StructReader
from engine.registry import describe
from engine.simulation.description import WorldDescription, read_description
from engine.text import did_you_mean
from engine.units import parse_duration

_WITHIN = re.compile(r"^(?P<that>.+?)\s+within\s+(?P<time>[\d.]+\w*)(\s+of\s+(?P<of>[\w.-]+))?$")
_ALWAYS = re.compile(r"^always\s+(?P<always>.+)$")

_HAPPENINGS = ("note", "fault", "heal", "down", "up", "command", "query", "site", "lose", "run",
               "stop", "crash")  # fmt: skip


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """One drill that can be played: a scenario, for one case of its matrix."""

    file: Path
    scenario: Scenario
    case: dict[str, Any]
    expect: list[Expectation]
    world: WorldDescription

    @property
    def name(self) -> str:
        """The scenario's name and the case's."""
        case = case_name(self.case)
        return f"{self.scenario.name}: {case}" if case else self.scenario.name

    def beside(self, name: str) -> Path:
        """A file that the scenario names."""
        return (self.file.parent / name).resolve()


def read_drills(path: Path, inventory: str | None = None) -> list[Drill]:
    """The drills of a file, one for each case. Raises InvalidRunbook with all that is wrong.

    `inventory` stands above that of the scenario and of its runbook.
    """
    problems = Problems()
    source = read(path.absolute(), problems)
    drills: list[Drill] = []
    if source is not None and not isinstance(source.root, Map):
        said = "a scenario is a mapping with `name`, `runbook` and so on, not "
        problems.add(source.name, (1, 1), said + describe(source.root))
    elif source is not None:
        books = Books(problems, inventory)
        for case in cases(source.root, source, problems):
            drill = _read_case(source, case, books, problems)
            if drill is not None:
                drills.append(drill)
    if len(problems):
        raise InvalidRunbook(problems.sorted())
    return drills


def _read_case(
    source: Source, case: dict[str, Any], books: Books, problems: Problems
) -> Drill | None:
    filled = Filling(case, source, problems).fill(source.root)
    reader = StructReader(source, problems)
    scenario = reader.read(Scenario, filled, "a scenario")
    if scenario is None:
        return None
    checks = _Checks(reader, scenario, books)
    checks.runbooks()
    checks.timeline()
    checks.answers()
    expect = checks.expectations()
    world = checks.world()
    return Drill(file=source.path, scenario=scenario, case=case, expect=expect, world=world)


class _Checks:
    """Looks at a scenario whose parts are all well formed."""

    def __init__(self, reader: StructReader, scenario: Scenario, books: Books) -> None:
        self.reader = reader
        self.scenario = scenario
        self.books = books
        self.folder = reader.source.path.parent
        self.moments = [START, ROLLBACK, *(each.id for each in scenario.timeline if each.id)]
        self.runs = [MAIN]

    def runbooks(self) -> None:
        """The runbooks of the drill can be read, and so can its inventory."""
        scenario = self.scenario
        inventory = self._file(scenario, "inventory") if scenario.inventory else None
        main = self._file(scenario, "runbook")
        if main is not None:
            self.books.load(MAIN, main, inventory, scenario.inputs, self._problem_at(scenario))
        for each in scenario.timeline:
            if each.run is None:
                continue
            if not each.id:
                self.reader.problem(each, "run", "an entry that begins a run needs an `id`")
            self.runs.append(each.id)
            there = self._file(each.run, "runbook")
            if there is not None:
                at = self._problem_at(each.run)
                self.books.load(each.id, there, inventory, each.run.inputs, at)

    def _problem_at(self, made: msgspec.Struct) -> Any:
        return lambda key, said, hint: self.reader.problem(made, key, said, hint)

    def _file(self, made: Any, key: str) -> Path | None:
        name: str = getattr(made, key)
        path = (self.folder / name).resolve()
        if path.is_file():
            return path
        self.reader.problem(made, key, f"there is no file '{name}'", near_file(path, name))
        return None

    def timeline(self) -> None:
        """Each entry says when and what, in words that mean something."""
        seen: set[str] = set()
        for each in self.scenario.timeline:
            if each.id in seen or each.id in (START, ROLLBACK, MAIN):
                self.reader.problem(each, "id", f"the id '{each.id}' is taken")
            seen.update([each.id] if each.id else [])
            if (each.at is None) == (not each.when):
                self.reader.problem(each, "", "an entry has either `at` or `when`")
            if not any(getattr(each, name) for name in _HAPPENINGS):
                said = f"nothing happens here: say one of {', '.join(_HAPPENINGS)}"
                self.reader.problem(each, "", said)
            self._condition(each, "when", each.when)
            self._outages(each)
            for part in (each.stop, each.crash):
                if part is not None and part.run not in self.runs:
                    hint = did_you_mean(part.run, self.runs, what="there are")
                    self.reader.problem(part, "run", f"there is no run '{part.run}'", hint)

    def _outages(self, each: ScenarioEntry) -> None:
        for key in ("down", "up"):
            for what in getattr(each, key):
                said, hint = check_outage(what, self.books)
                if said:
                    self.reader.problem(each, key, said, hint, fragment=what)

    def answers(self) -> None:
        """Each answer is for a confirmation that there is."""
        gates = self.books.gates()
        for each in self.scenario.answers:
            if gates and not any(fnmatchcase(gate, each.gate) for gate in gates):
                said = f"no confirmation fits '{each.gate}'"
                hint = did_you_mean(each.gate, gates, what="there are")
                self.reader.problem(each, "gate", said, hint)

    def expectations(self) -> list[Expectation]:
        """All of them, those that are written as one line as well."""
        made = []
        for index, each in enumerate(self.scenario.expect):
            told = self._written(each, index) if isinstance(each, str) else each
            if told is None:
                continue
            if bool(told.that) == bool(told.always):
                self._problem(each, index, "", "an expectation has either `that` or `always`")
            if told.always and told.within is not None:
                self._problem(each, index, "within", "`within` goes with `that`")
            if told.of not in self.moments:
                hint = did_you_mean(told.of, self.moments, what="there are")
                self._problem(each, index, "of", f"there is no moment '{told.of}'", hint, told.of)
            for key in ("that", "always"):
                self._condition(each, key, getattr(told, key), index)
            made.append(told)
        return made

    def _written(self, text: str, index: int) -> Expectation | None:
        if match := _ALWAYS.match(text):
            return Expectation(always=match["always"])
        if match := _WITHIN.match(text):
            seconds = parse_duration(match["time"])
            if seconds is None:
                said = f"'{match['time']}' is no duration such as 30s or 5m"
                self._problem(text, index, "", said, fragment=match["time"])
                return None
            return Expectation(
                that=match["that"], within=seconds, of=match["of"] or START, name=text
            )
        return Expectation(that=text)

    def _problem(
        self, each: Any, index: int, key: str, said: str, hint: str = "", fragment: str = ""
    ) -> None:
        if not isinstance(each, str):
            self.reader.problem(each, key, said, hint)
            return
        source = self.reader.source
        at = self.reader.map_of(self.scenario)["expect"].item_at(index)
        at = source.find(at, 1, fragment) if fragment else at
        self.reader.problems.add(source.name, at, said, hint)

    def _condition(self, made: Any, key: str, text: str, index: int = 0) -> None:
        if not text:
            return
        for said, hint, fragment in check_condition(text, self.books, self.runs):
            if isinstance(made, str):
                self._problem(made, index, key, said, hint, fragment)
            else:
                self.reader.problem(made, key, said, hint, fragment=fragment)

    def world(self) -> WorldDescription:
        """The world, from its own file if it has one."""
        told = self.scenario.world
        if isinstance(told, WorldDescription):
            return told
        path = self._file(self.scenario, "world")
        if path is None:
            return WorldDescription()
        try:
            return read_description(path)
        except InvalidRunbook as error:
            self.reader.problems.extend(error.problems)
            return WorldDescription()
