"""5.10 is 5.10, wherever nobody says that a number is wanted; and counts as a number, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.templating import Scope, Templates

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loader.conftest import Desk


def test_in_variables_inventories_loops_and_free_arguments(desk: Desk) -> None:
    book, inventory = desk.whole(
        """
        vars: {wanted: 5.10, many: [5.8, 5.9, 5.10], deep: {version: 1.20}}
        steps:
          - loop: [5.8, 5.9, 5.10]
            vars: {inner: 3.10}
            notify.send: {channel: team, text: x, vars: {version: 5.10}}
        """,
        """
        vars: {base: 5.10}
        notify: {channels: {team: {console: {}}}}
        hosts: {web: {vars: {of_group: 2.0}, hosts: {w: {of_host: 6.10}}}}
        """,
    )
    assert book.vars == {"wanted": "5.10", "many": [5.8, 5.9, "5.10"], "deep": {"version": "1.20"}}
    step = book.block.steps[0]
    assert step.fan is not None
    assert step.fan.loop == [5.8, 5.9, "5.10"]
    assert step.vars == {"inner": "3.10"}
    assert step.call is not None
    assert step.call.arguments["vars"] == {"version": "5.10"}
    assert inventory.vars == {"base": "5.10"}
    assert inventory.host_vars("w") == {"of_group": 2.0, "of_host": "6.10"}


def test_in_a_file_of_variables(tmp_path: Path) -> None:
    from engine.loader import load_variables

    file = tmp_path / "vars.yml"
    file.write_text("version: 5.10\nlist: [1.0, 1.10]\n")
    given = load_variables(file)
    assert given == {"version": 5.1, "list": [1.0, "1.10"]}  # an input may want the number
    assert given.as_written() == {"version": "5.10", "list": [1.0, "1.10"]}


def test_where_a_number_is_wanted_it_is_one(desk: Desk) -> None:
    book = desk.load("""
        steps:
          - {shell: x, retry: {attempts: 2, jitter: 0.10}}
          - wait: 1.50
    """)
    first, second = book.block.steps
    assert first.retry is not None
    assert first.retry.jitter == 0.1
    assert second.call is not None


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("wanted == '5.10'", True),
        ("wanted", "5.10"),
        ("measured > threshold", True),
        ("threshold <= 0.5", True),
        ("threshold * 2", 1.0),
        ("1 - threshold", 0.5),
        ("'=' * 3", "==="),
        ("'5.10' ~ 'x'", "5.10x"),
    ],
)
def test_such_text_counts_as_a_number_among_numbers(expression: str, value: Any) -> None:
    scope = Scope({"wanted": "5.10", "threshold": "0.50", "measured": 0.7})
    assert Templates().evaluate(expression, scope) == value
