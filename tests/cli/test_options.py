"""What ``-e`` and lists on the command line mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.cli.options import comma_list, extra_vars
from engine.errors import UsageError


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["version=5.1"], {"version": "5.1"}),
        (["a=1", "a=2"], {"a": "2"}),
        (["a=1 b=2"], {"a": "1", "b": "2"}),
        (["a='x y' b=2"], {"a": "x y", "b": "2"}),
        (["reason=it is slow"], {"reason": "it is slow"}),
        (["reason=it's slow"], {"reason": "it's slow"}),
        (["sum=a=b"], {"sum": "a=b"}),
        (["empty="], {"empty": ""}),
        (['{"a": 1, "b": [true, null]}'], {"a": 1, "b": [True, None]}),
        (["a=1", '{"a": 2}'], {"a": 2}),
        ([], {}),
    ],
)
def test_extra_variables(given: list[str], meant: dict[str, Any]) -> None:
    assert extra_vars(given) == meant


@pytest.mark.parametrize("text", ["novalue", "=x", "1a=x", "a b=c", "{", "[1]", "@nowhere.yml"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        extra_vars([text])


@pytest.mark.parametrize(
    ("name", "content", "meant"),
    [
        ("a.yml", "version: '5.1'\nlist: [1, 2]\n", {"version": "5.1", "list": [1, 2]}),
        ("a.json", '{"version": "5.1"}', {"version": "5.1"}),
        ("empty.yml", "", {}),
    ],
)
def test_extra_variables_of_a_file(
    tmp_path: Path, name: str, content: str, meant: dict[str, Any]
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert extra_vars([f"@{tmp_path / name}"]) == meant


@pytest.mark.parametrize(
    "content", ["- a list\n", "a: [", "{1: 2", "1: 2\n", "a: !!python/name:os\n"]
)
def test_a_file_that_holds_no_variables_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yml").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"x\.yml"):
        extra_vars([f"@{tmp_path / 'x.yml'}"])


def test_lists_with_commas() -> None:
    assert comma_list(["a,b", "c", " d , ,"]) == ("a", "b", "c", "d")
