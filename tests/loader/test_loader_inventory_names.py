"""What arguments name of the inventory, and values that cannot be meant, are found before a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loader.conftest import Desk

INVENTORY = """\
metrics: {error_rate: up, latency_p95: up}
notify: {channels: {team: {console: {}}, oncall: {console: {}}}}
sql: {primary: {dsn: "postgresql://a/b"}, replica: {dsn: "postgresql://a/c"}}
haproxy: {edge: {address: "unix:/x"}, mesh: {address: "unix:/y"}}
"""

WRONG = [
    ("metrics.read: {name: eror_rate}", "no metric 'eror_rate'", "did you mean 'error_rate'?"),
    ("metrics.read: eror_rate", "no metric 'eror_rate'", "did you mean 'error_rate'?"),
    ('metrics.validate: {expect: {latency: "< 5"}}', "no metric 'latency'", "latency_p95"),
    ('metrics.soak: {for: 1m, expect: {eror_rate: "< 5"}}', "no metric 'eror_rate'", "error_rate"),
    ("metrics.compare: {name: [error_rate, x], version: a, baseline: b}", "no metric 'x'", ""),
    ("notify.send: {channel: taem, text: hi}", "no channel 'taem'", "did you mean 'team'?"),
    ("notify.send: {channel: [team, onkall], text: hi}", "no channel 'onkall'", "oncall"),
    ("sql.query: {sql: select 1, database: primry}", "no database 'primry'", "primary"),
    ("haproxy.state: {connection: egde}", "no HAProxy connection 'egde'", "edge"),
    ("haproxy.state: {}", "several HAProxy connections: 'edge' and 'mesh'", "`connection`"),
    ("http-check: {url: x, expect: {status: many}}", "`expect.status`: 'many' is not a", "2xx"),
    ("http-check: {url: x, expect: {status: [200, 20]}}", "20 is not a status", ""),
    ("http-check: {url: x, expect: {regex: '('}}", "is not a pattern", ""),
    ("http-check: {url: x, expect: {latency: {p95: soon}}}", "latency.p95", ""),
    ("http.request: {url: x, status: fine}", "'fine' is not a status", "2xx"),
]


def in_branch(branch: str, step: str) -> str:
    return f"steps:\n  - shell: x\n    {branch}:\n      - {step}\n"


@pytest.mark.parametrize("branch", ["steps", "rescue", "undo", "always"])
@pytest.mark.parametrize(("step", "said", "hint"), WRONG)
def test_a_wrong_name_is_found_wherever_it_stands(
    desk: Desk, branch: str, step: str, said: str, hint: str
) -> None:
    text = f"steps:\n  - {step}\n" if branch == "steps" else in_branch(branch, step)
    (problem,) = desk.problems(text, INVENTORY)
    assert said in problem.message
    assert hint in problem.suggestion
    assert problem.line == (2 if branch == "steps" else 4)


def test_what_is_there_or_only_known_later_is_fine(desk: Desk) -> None:
    desk.load(
        """
        vars: {metric: error_rate}
        steps:
          - metrics.read: {name: "{{ metric }}"}
          - metrics.validate: {expect: {error_rate: "< 1", latency_p95: {max: 5}}}
          - notify.send: {channel: [team, oncall], text: hi}
          - sql.query: select 1
          - haproxy.state: {connection: mesh}
          - http-check: {url: x, expect: {status: [2xx, 404], latency: {p95: 500ms}}}
        """,
        INVENTORY,
    )


def test_the_only_entry_needs_no_name_and_none_is_told(desk: Desk) -> None:
    desk.load("steps: [{sql.query: select 1}]", "sql: {orders: {dsn: x}}")
    (problem,) = desk.problems("steps: [{sql.query: select 1}]", "name: empty")
    assert "no database" in problem.message
    assert "add it below `sql:`" in problem.suggestion


def test_without_an_inventory_nothing_is_known_but_a_run_has_none(desk: Desk) -> None:
    desk.load("steps: [{metrics.read: x}]")
    (problem,) = desk.problems("steps: [{metrics.read: x}]", strict=True)
    assert "no metric 'x'" in problem.message
