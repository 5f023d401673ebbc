"""Random runbooks with a script of what happens in them.

One generator for the property tests (hypothesis chooses, and shrinks) and for the crash matrix
(a seed chooses). Three kinds:

- *calm*: anything may run beside anything, and all is well in the end;
- *sequential*: one step after another, and anything may fail, rescues and undos included;
- *wild*: everything at once, with deadlines, budgets, guards and tasks that do not obey.

How calm and sequential runs end does not depend on when things happen, so they can be compared
with what becomes of them when the process is killed on the way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from engine.events import Verdict
from engine.model import Effect, Fan, Gate, Guard, Retry, Runbook, Step
from tests.core.harness import Act, book, group, guard, loop, step

Kind = Literal["calm", "sequential", "wild"]
EFFECTS: tuple[Effect, ...] = ("read", "idempotent", "once")


class Generated:
    """A runbook, what happens in it, and what can be found out about it after a crash."""

    def __init__(self, rng: random.Random, kind: Kind) -> None:
        self.rng = rng
        self.kind = kind
        self.script: dict[str, Any] = {}
        self.looks: dict[str, Sequence[str]] = {}
        self.probes: dict[str, str] = {}
        self.once: set[str] = set()
        self._budget = rng.choice((4, 8, 14))
        self._names = 0
        self.runbook = self._book()

    def _chance(self, percent: int) -> bool:
        return self.rng.randrange(100) < percent

    @property
    def _parallel(self) -> bool:
        return self.kind != "sequential"

    @property
    def _fails(self) -> bool:
        return self.kind != "calm"

    # -- blocks -----------------------------------------------------------------------------------
    def _book(self) -> Runbook:
        keys: dict[str, Any] = {}
        if self._chance(15):
            keys["rescue"] = self._steps("", ".rescue", 1, 2)
        if self._chance(25):
            keys["always"] = self._steps("", ".always", 1, 2)
        if self._chance(10):
            keys["guards"] = (self._guard(""),)
        if self.kind == "wild" and self._chance(10):
            keys["budget"] = float(self.rng.randrange(5, 60))
        return book(*self._steps("", "", 0, 6), **keys)

    def _steps(self, owner: str, suffix: str, depth: int, most: int) -> list[Step]:
        prefix = f"{owner}{suffix}/" if owner or suffix else ""
        made: list[Step] = []
        for _ in range(self.rng.randrange(0 if depth else 1, most + 1)):
            self._budget -= 1
            needs = self._needs([each.id for each in made])
            self._names += 1
            name = f"s{self._names}"
            if depth < 3 and self._budget > 0 and self._chance(25):
                made.append(self._group(name, prefix + name, depth, needs))
            else:
                made.append(self._leaf(name, prefix + name, depth, needs))
        return made

    def _needs(self, before: list[str]) -> list[str] | None:
        if not self._parallel or self._chance(40):
            return None
        return [name for name in before if self._chance(40)]

    def _group(self, name: str, path: str, depth: int, needs: list[str] | None) -> Step:
        keys = self._common(path, depth)
        if self._chance(20):
            keys["guards"] = (self._guard(path),)
        if self.kind == "wild" and self._chance(15):
            keys["budget"] = float(self.rng.randrange(1, 40))
        steps = self._steps(path, "", depth + 1, 4)
        if self._chance(25):
            keys["fan"] = self._fan(range(self.rng.randrange(0, 4)))
            self._vary(path)
        return group(name, *steps, needs=needs, **keys)

    def _fan(self, items: range) -> Fan:
        serial = self.rng.choice((None, 1, 2))
        return loop(*items, serial=serial, max_fail_percentage=self.rng.choice((0.0, 0.0, 50.0)))

    def _vary(self, path: str) -> None:
        """Let what is inside some instances of a group end otherwise than in the others."""
        for name in [name for name in self.script if name.startswith((f"{path}/", f"{path}."))]:
            for item in range(4):
                if self._chance(25):
                    acts = self.script[name]
                    inside = name.removeprefix(path)
                    ends = [Act("ok", each.seconds) for each in acts[-1:]]
                    self.script[f"{path}[{item}]{inside}"] = ends

    def _common(self, path: str, depth: int) -> dict[str, Any]:
        keys: dict[str, Any] = {}
        deep = depth < 2
        if deep and self._chance(20):
            keys["rescue"] = self._steps(path, ".rescue", depth + 1, 2)
        if deep and self._chance(20):
            keys["always"] = self._steps(path, ".always", depth + 1, 2)
        if deep and self._chance(35):
            keys["undo"] = self._steps(path, ".undo", depth + 1, 2)
        if self._chance(10):
            keys["ignore_errors"] = True
        if self._chance(8):
            keys["when"] = ("false",) if self._chance(70) or not self._fails else ("error",)
        if self._chance(8):
            keys["gate"] = Gate("go on?")
        return keys

    def _guard(self, path: str) -> Guard:
        made = guard("g", every=float(self.rng.randrange(1, 8)), hold=self.rng.choice((0.0, 5.0)))
        if self.kind == "wild":
            verdicts: tuple[Verdict, ...] = ("pass", "pass", "pass", "fail", "inconclusive")
            self.looks[f"{path}!g"] = [
                self.rng.choice(verdicts) for _ in range(self.rng.randrange(1, 6))
            ]
        return made

    # -- steps ------------------------------------------------------------------------------------
    def _leaf(self, name: str, path: str, depth: int, needs: list[str] | None) -> Step:
        keys = self._common(path, depth)
        effect = self.rng.choice(EFFECTS)
        fanned = self._chance(15)
        if fanned:
            keys["fan"] = self._fan(range(self.rng.randrange(0, 5)))
        attempts = self.rng.choice((1, 1, 1, 2, 3))
        if attempts > 1:
            keys["retry"] = Retry(attempts, delay=float(self.rng.randrange(0, 4)))
        inline = not fanned and self._chance(15)
        if self.kind == "wild" and not inline:
            if self._chance(20):
                keys["timeout"] = float(self.rng.randrange(1, 12))
            if self._chance(10):
                keys["budget"] = float(self.rng.randrange(1, 20))
            if self._chance(10):
                keys["guards"] = (self._guard(path),)
        self._act(path, effect, attempts, fanned, inline)
        return step(name, effect=effect, needs=needs, inline=inline, **keys)

    def _act(self, path: str, effect: Effect, attempts: int, fanned: bool, inline: bool) -> None:
        if effect == "once":
            self.once.add(path)
            if not fanned and self._chance(30):
                self.probes[path] = self.rng.choice(("none", "unknown"))
        tasks = [f"{path}#{number}" for number in range(5)] if fanned else [path]
        for task in tasks:
            ends = self._one(attempts)
            if inline:
                ends = [Act(each.end) for each in ends]
            self.script[task] = ends

    def _one(self, attempts: int) -> list[Act]:
        failures = self.rng.randrange(0, attempts)
        if self._fails and self._chance(18):
            failures = attempts
        acts = [self._timed("failed") for _ in range(failures)]
        if failures < attempts:
            acts.append(self._timed("ok"))
        return acts

    def _timed(self, end: Any) -> Act:
        if end == "failed" and self._fails:
            end = self.rng.choice(("failed", "unreachable", "failed", "refused"))
            if self.kind == "sequential":
                end = "failed"
        obeys: float | None = 0.0
        if self.kind == "wild":
            obeys = self.rng.choice((0.0, 0.0, 1.0, None))
        seconds = float(self.rng.choice((0, 0, 1, 2, 3, 5, 8)))
        return Act(end, seconds, self.rng.choice((0.0, 0.5, 1.0)), obeys=obeys)


def generate(seed: int, kind: Kind) -> Generated:
    """The runbook of a seed."""
    return Generated(random.Random(seed), kind)


def keys_of(generated: Generated) -> Mapping[str, Any]:
    """What a `Case` of this runbook is made with."""
    return {
        "script": generated.script,
        "looks": {name: list(verdicts) for name, verdicts in generated.looks.items()},
        "probes": generated.probes,
    }
