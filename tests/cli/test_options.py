"""What ``-e`` and lists on the command line mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.cli.options import comma_list, extra_vars
from engine.errors import InvalidRunbook, UsageError
from engine.loader import convert_inputs
from engine.model import Input


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


@pytest.mark.parametrize("text", ["novalue", "=x", "1a=x", "a b=c", "{", "[1]"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        extra_vars([text])


@pytest.mark.parametrize(
    ("text", "place"), [('{"a": 1', "line 1, column 8"), ("{a: 1}", "line 1, column 2"), ("{", "1")]
)
def test_json_that_cannot_be_read_is_told_in_our_words(text: str, place: str) -> None:
    with pytest.raises(UsageError, match="this is no JSON") as caught:
        extra_vars([text])
    assert place in str(caught.value)
    assert "Expecting" not in str(caught.value)


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


def test_a_file_means_what_it_would_mean_in_a_runbook(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text("version: 5.10\nsize: 010\nday: 2024-01-31\nflag: on\nlimit: 2.50\n")
    given = extra_vars([f"@{file}"])
    assert given == {"version": 5.1, "size": "010", "day": "2024-01-31", "flag": "on", "limit": 2.5}
    inputs = {name: Input(name) for name in ("version", "size", "day")}
    inputs["limit"] = Input("limit", "number")
    assert convert_inputs(inputs, given) == {
        "version": "5.10",
        "size": "010",
        "day": "2024-01-31",
        "limit": 2.5,
    }
    assert convert_inputs(inputs, extra_vars([f"@{file}", '{"version": 6.0}', "limit=1"])) == {
        "version": "6.0",
        "size": "010",
        "day": "2024-01-31",
        "limit": 1.0,
    }


def test_a_file_with_mistakes_tells_all_of_them(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text("a: 1\na: 2\nb-c: 3\nrun: 4\n")
    with pytest.raises(InvalidRunbook) as caught:
        extra_vars([f"@{file}"])
    assert [each.message for each in caught.value.problems] == [
        "the key 'a' is here twice; it stands in line 1, too",
        "the variable 'b-c' has to be a word of letters, digits and _",
        "the variable 'run' takes a name that means something else here",
    ]
    with pytest.raises(InvalidRunbook, match="1 problem"):
        extra_vars([f"@{tmp_path / 'nowhere.yml'}"])


def test_a_list_that_is_given_as_text_is_told_how_to_give_it() -> None:
    with pytest.raises(UsageError) as caught:
        convert_inputs({"names": Input("names", "list")}, extra_vars(["names=a,b"]))
    assert caught.value.hint == """give inputs with -e '{"NAME": […]}' or -e @FILE"""


@pytest.mark.parametrize(
    "content", ["- a list\n", "a: [", "{1: 2", "1: 2\n", "a: !!python/name:os\n"]
)
def test_a_file_that_holds_no_variables_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yml").write_text(content, encoding="utf-8")
    with pytest.raises(InvalidRunbook) as caught:
        extra_vars([f"@{tmp_path / 'x.yml'}"])
    assert caught.value.problems[0].file.endswith("x.yml")
    assert caught.value.problems[0].line


def test_lists_with_commas() -> None:
    assert comma_list(["a,b", "c", " d , ,"]) == ("a", "b", "c", "d")


@pytest.mark.parametrize("text", ["a=1 b=2 c", "a='1 b=2", "a=it's b=2"])
def test_variables_that_can_be_read_in_two_ways_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="one value or as"):
        extra_vars([text])


def test_a_value_may_hold_spaces_and_a_quote() -> None:
    assert dict(extra_vars(["why=it's late, and dark"])) == {"why": "it's late, and dark"}
