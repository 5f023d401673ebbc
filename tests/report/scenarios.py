"""FileStore that between them show everything that is told of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.events import GateAnswered, Person
from engine.runner import Observer, Signal
from engine.store import Command
from tests.report.recorded import ADA, Recorded

Scenario = Callable[[Path, list[Observer]], Recorded]

BOB = Person("bob", "ops2", "CI")

_DEPLOY = """
    name: Deploy Claude Enhancer 5.1
    budget: 2h
    locks: [production]
    inputs:
      version: {default: "5.1"}
    steps:
      - id: prepare
        name: Prepare
        budget: 30s
        steps:
          - id: backup
            toy.act: {seconds: 20s, message: claude_enhancer_5_0_backup_20260131T140509Z}
          - id: image
            needs: []
            toy.act: {seconds: 25s, changed: false, message: the image is there}
      - id: agents
        loop: [coordinator, {name: planner}]
        toy.act: {seconds: 1s, message: "{{ item.name | default(item) }} configured"}
      - id: canary
        name: Canary at 5 %
        budget: 30m
        guards:
          - name: error rate
            every: 10s
            toy.look: {values: [0.01, null, 0.02]}
            trip: result.value > 0.5
            for: 60s
        steps:
          - id: apply
            toy.act:
              seconds: 2s
              message: 3 objects applied
              diff: |
                --- deployment/claude-enhancer-canary
                +++ deployment/claude-enhancer-canary
                @@ -1 +1 @@
                -replicas: 0
                +replicas: 1
          - id: warm
            needs: []
            retry: {attempts: 3, delay: 2s}
            toy.act: {seconds: 1s, fail: unreachable, times: 1, message: connection refused}
          - id: route
            needs: [apply, warm]
            toy.act: {seconds: 500ms, message: 5 % to 5.1, data: {shares: {"5.0": 95, "5.1": 5}}}
          - id: soak
            wait: {for: 5m, reason: watching the canary}
      - id: chat
        when: false
        toy.act: {message: told the team}
      - id: switch
        confirm:
          message: Switch all traffic to 5.1?
          checklist: [figures are good, on-call is there]
        toy.act: {message: 100 % to 5.1}
      - id: users
        toy.act:
          changed: false
          message: counted
          data: {requests: 24680, failures: 0, sessions_lost: 0, p50_ms: 3.25, p95_ms: 12.5}
      - id: figures
        toy.act: {changed: false, message: "24,680 requests: 0 failed, 0 sessions lost"}
"""


def success(folder: Path, observers: list[Observer]) -> Recorded:
    """A deployment that works, with a retry, a guard that could not tell once, and --yes."""
    return Recorded(folder, _DEPLOY, extra={"version": "5.1"}, yes=True, observers=observers).run()


def check(folder: Path, observers: list[Observer]) -> Recorded:
    """The same as a check."""
    return Recorded(folder, _DEPLOY, mode="check", observers=observers).run()


def waiting(folder: Path, observers: list[Observer]) -> Recorded:
    """Nobody is there to answer."""
    return Recorded(folder, _DEPLOY, observers=observers).run()


def answered(folder: Path, observers: list[Observer]) -> Recorded:
    """Somebody refuses from another shell, then a process goes on."""
    waits = Recorded(folder, _DEPLOY, observers=observers).run()
    waits.append(GateAnswered("switch", "rejected", BOB, "figures are not good"))
    return waits.resume()


def undone(folder: Path, observers: list[Observer]) -> Recorded:
    """A failure that nothing rescues: what was completed is undone in reverse order."""
    return Recorded(
        folder,
        """
        name: Migrate
        steps:
          - id: scale
            toy.act: {seconds: 1s, message: scaled to 10}
            undo: {toy.act: {seconds: 1s, message: scaled to 0}}
          - id: config
            toy.act: {message: config applied}
            undo: {toy.act: {message: config removed}}
          - id: migrate
            timeout: 5m
            toy.act:
              seconds: 3s
              fail: failed
              message: "relation \\"agents\\" does not exist\\nLINE 1: select * from agents"
              hint: run the migrations of 5.0 first
              evidence: ["postgres-0: ERROR at character 15", "postgres-0: STATEMENT: select"]
          - id: after
            toy.act: {}
        """,
        observers=observers,
    ).run()


def needs_person(folder: Path, observers: list[Observer]) -> Recorded:
    """An undo that fails, too."""
    return Recorded(
        folder,
        """
        name: Migrate
        steps:
          - id: scale
            toy.act: {message: scaled to 10}
            undo: {toy.act: {fail: unreachable, message: no answer from the cluster}}
          - id: config
            toy.act: {message: config applied}
            undo: {toy.act: {message: config removed}}
          - id: migrate
            toy.act: {fail: refused, message: read-only transaction, hint: is this the primary?}
        """,
        observers=observers,
    ).run()


def rescued(folder: Path, observers: list[Observer]) -> Recorded:
    """A guard trips, what is in flight is cancelled, the group's rescue does its work."""
    return Recorded(
        folder,
        """
        name: Deploy
        budget: 10m
        steps:
          - id: execute
            name: All phases
            steps:
              - id: canary
                budget: 6m
                guards:
                  - name: error rate
                    every: 10s
                    toy.look: {values: [0.01, 0.7]}
                    trip: result.value > 0.5
                    for: 20s
                steps:
                  - id: soak
                    wait: {for: 5m}
                rescue:
                  - id: back
                    toy.act: {seconds: 1s, message: all traffic to 5.0}
                always:
                  - id: tell
                    toy.act: {changed: false, message: told the team}
              - id: full
                budget: 1m
                steps: [{id: switch, toy.act: {}}]
        """,
        observers=observers,
    ).run()


def failed(folder: Path, observers: list[Observer]) -> Recorded:
    """A step of many tasks fails, another is ignored; nothing is there to undo."""
    return Recorded(
        folder,
        """
        name: Restart all
        steps:
          - id: lint
            ignore_errors: true
            toy.act: {fail: failed, message: two warnings}
          - id: pods
            loop: [a, b, c]
            toy.act:
              seconds: 1s
              fail: "{{ 'timed_out' if item == 'b' else none }}"
              message: "{{ item }}"
          - id: after
            toy.act: {}
        """,
        observers=observers,
    ).run()


def interrupted(folder: Path, observers: list[Observer]) -> Recorded:
    """Ctrl-C in the middle of a wait."""
    return (
        Recorded(
            folder,
            """
            name: Soak
            steps:
              - id: one
                toy.act: {seconds: 2s}
              - id: canary
                guards:
                  - {name: errors, every: 10s, toy.look: {values: [0.1]}, trip: result.value > 5}
                steps:
                  - id: soak
                    wait: {for: 10m}
            """,
            observers=observers,
        )
        .at(30.0, Signal("SIGINT"))
        .run()
    )


def given_up(folder: Path, observers: list[Observer]) -> Recorded:
    """``ce-run stop --rescue`` from another shell."""
    return (
        Recorded(
            folder,
            """
            name: Soak
            steps:
              - id: one
                toy.act: {seconds: 2s}
                undo: {toy.act: {message: back again}}
              - id: soak
                wait: {for: 10m}
            """,
            observers=observers,
        )
        .at(30.0, Command("rescue", ADA, reason="customers complain"))
        .run()
    )


def forced(folder: Path, observers: list[Observer]) -> Recorded:
    """At 3 a.m., without a word about why."""
    return Recorded(
        folder,
        """
        name: Roll back
        budget: 30s
        preempts: true
        steps:
          - id: traffic
            toy.act: {seconds: 500ms, message: all traffic to 5.0}
        """,
        force=True,
        observers=observers,
    ).run()


SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        success,
        check,
        waiting,
        answered,
        undone,
        needs_person,
        rescued,
        failed,
        interrupted,
        given_up,
        forced,
    )
}
