"""YAML as the loader reads it: values, places, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.loader.problems import Problems
from engine.loader.reader import LARGEST, MOST_ALIASED, read, resolve
from engine.loader.source import Map, Source

if TYPE_CHECKING:
    from tests.loader.conftest import Desk


def source(desk: Desk, text: str | bytes) -> tuple[Source | None, list[str]]:
    problems = Problems()
    found = read(desk.write("x.yml", text).resolve(), problems)
    return found, [str(each) for each in problems.sorted()]


def value(desk: Desk, text: str) -> Any:
    found, problems = source(desk, text)
    assert problems == []
    assert found is not None
    return found.root


def complaint(desk: Desk, text: str | bytes) -> str:
    _, problems = source(desk, text)
    assert len(problems) == 1
    return problems[0].removeprefix("x.yml:")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("12", 12),
        ("-3", -3),
        ("0x1f", 31),
        ("007", "007"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2024-01-31", "2024-01-31"),
        ("5.10", 5.1),
        ("1.5e3", 1500.0),
        ("12e5", "12e5"),
        ("1.0e400", "1.0e400"),
        (".inf", ".inf"),
        ("1" * 40, "1" * 40),
        ("5.1.0", "5.1.0"),
        ("-", "-"),
        ("=", "="),
    ],
)
def test_a_plain_word_means(written: str, meant: object) -> None:
    assert resolve(written) == meant
    assert type(resolve(written)) is type(meant)


def test_quoted_words_are_text(desk: Desk) -> None:
    assert value(desk, "['12', \"true\", '~']") == ["12", "true", "~"]


def test_keys_are_always_text(desk: Desk) -> None:
    assert value(desk, "{200: a, true: b, 5.10: c}") == {"200": "a", "true": "b", "5.10": "c"}


def test_values_know_where_they_stand_and_what_was_written(desk: Desk) -> None:
    root = value(desk, "a: 1\nlist:\n  - 5.10\n  - {x: yes, 'y':   no}\n")
    assert isinstance(root, Map)
    assert (root.key_at("list"), root.value_at("list")) == ((2, 1), (3, 3))
    assert root["list"].item_at(0) == (3, 5)
    assert root["list"].raws == {0: "5.10"}
    inner = root["list"][1]
    assert (inner.at, inner.key_at("y"), inner.value_at("y")) == ((4, 5), (4, 14), (4, 21))


def test_places_of_a_large_mapping(desk: Desk) -> None:
    root = value(desk, "".join(f"key{n}: {n}\n" for n in range(100)))
    assert [root.value_at(f"key{n}") for n in (0, 50, 99)] == [(1, 7), (51, 8), (100, 8)]


def test_places_in_a_line_of_millions_of_characters(desk: Desk) -> None:
    root = value(desk, "{a: '" + "x" * 2_000_000 + "', b: 1}")
    assert root.value_at("b") == (1, 2_000_012)


def test_merge_keys_do_not_override(desk: Desk) -> None:
    root = value(desk, "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 0}\n")
    assert root["c"] == {"x": 0, "y": 2, "z": 4}
    assert root["c"].key_at("z") == (2, 14)


def test_a_byte_order_mark_is_skipped(desk: Desk) -> None:
    found, _ = source(desk, b"\xef\xbb\xbfa: 1\n")
    assert found is not None
    assert found.root == {"a": 1}


def test_every_duplicate_key_is_told_with_both_lines(desk: Desk) -> None:
    found, problems = source(desk, "a: 1\nb: 2\na: 3\nc: {x: 1, x: 2}\n")
    assert problems == [
        "x.yml:3:1: the key 'a' is here twice; it stands in line 1, too",
        "x.yml:4:11: the key 'x' is here twice; it stands in line 4, too",
    ]
    assert found is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!python/object/apply:os.system [x]", "1:4: the tag !!python/object/apply:os.system"),
        ("a: !vault x", "1:4: the tag !vault is not allowed"),
        ("a: !!str 5", "1:4: the tag !!str is not allowed"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document begins here"),
        ("a: &a [*a]", "1:8: the alias *a stands inside what it stands for"),
        ("a: &a {b: *a}", "1:11: the alias *a stands inside what it stands for"),
        ("a: *nope", "1:4: there is no anchor &nope before this alias"),
        ("? [a]\n: b", "1:3: a key has to be a word, not a list or mapping"),
        ("a: 1\n<<: 5", "2:5: `<<` takes a mapping or a list of mappings"),
        ("? \n: 1", "1:2: a key is missing before the ':'"),
        ("url: {{ x }}", "1:7: a key has to be a word, not a list or mapping … put a value that"),
        ("a:\n\t- 1", "2:1: this is no YAML: a tab stands where YAML wants spaces"),
        ("a: b: c", "1:5: this is no YAML: there is a second ':' in this line"),
        ("a: [1, 2", "2:1: this is no YAML: did not find expected ',' or ']'"),
        ("a: 'x", "1:6: this is no YAML"),
        ("a: @x", "1:4: this is no YAML: found character that cannot start any token"),
        (b"a: \xff", "1:4: this is not UTF-8 text: the byte 0xff stands where a character is due"),
        (b"a: 1\nb: \x00", "2:4: this is not text: it holds the control character U+0000"),
        (b"\x7fELF\x02", "1:1: this is not text: it holds the control character U+007F"),
        ("[" * 100, "1:65: this is nested more than 64 levels deep"),
        (b"#" * (LARGEST + 1), " the file is larger than 8 MiB"),
    ],
)
def test_refused(desk: Desk, text: str | bytes, said: str) -> None:
    assert complaint(desk, text)[: len(said)] == said


def test_aliases_may_not_expand_without_bounds(desk: Desk) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 12):
        aliases = ", ".join([f"*a{n - 1}"] * 10)
        levels.append(f"a{n}: &a{n} [{aliases}]")
    said = complaint(desk, "\n".join(levels))
    assert f"the aliases up to here stand for more than {MOST_ALIASED} values" in said


def test_merge_keys_may_not_expand_without_bounds(desk: Desk) -> None:
    base = ", ".join(f"k{n}: 1" for n in range(200))
    lines = [f"a: &a {{{base}}}"] + [f"b{n}: {{<<: *a}}" for n in range(2000)]
    assert f"more than {MOST_ALIASED} values" in complaint(desk, "\n".join(lines))


def test_a_file_that_is_not_there(desk: Desk) -> None:
    problems = Problems()
    assert read(desk.folder / "none.yml", problems) is None
    assert [str(each) for each in problems.sorted()] == ["none.yml: there is no such file"]


def test_a_folder_and_a_pipe_are_no_files(desk: Desk) -> None:
    os.mkfifo(desk.folder / "pipe")
    for path in (desk.folder, desk.folder / "pipe"):
        problems = Problems()
        assert read(path, problems) is None
        assert str(problems.sorted()[0]).endswith(": this is not a file")


def test_files_elsewhere_are_named_by_their_whole_path(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other: Path = tmp_path_factory.mktemp("elsewhere") / "y.yml"
    problems = Problems()
    read(other, problems)
    assert problems.sorted()[0].file == str(other)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: @x", "put text that begins with '@' in quotes"),
        ("a: `x`", "put text that begins with '`' in quotes"),
        ("a: {b: *, c: 1}", "put text that begins with '*' in quotes"),
        ("a: *web", "put text that begins with '*' in quotes"),
        ("a: !web", "put text that begins with '!' in quotes"),
        ("a: 'it's'", "a ' inside '…' is written twice, or put the whole text in \"…\""),
        ('a: "x\nb: 1', 'the quote " of line 1, column 4, is not closed'),
        ("a:\n  - {b: 1\n  - c", "the bracket { of line 2, column 5, is not closed"),
        ("a:\n  - b: 1\n   c: 2", "indent this line like those it belongs to"),
        ("a: {{ x }}", "put a value that begins with '{{' in quotes"),
        ("a: b: c", "put text that holds ': ' in quotes"),
        ("a:\n  - b == {'c': 'd', 'e': 1}", "put text that holds ': ' in quotes"),
    ],
)
def test_what_to_write_instead_of_what_is_no_yaml(desk: Desk, text: str, said: str) -> None:
    assert complaint(desk, text).endswith(f" … {said}")


def test_a_mapping_as_a_key_is_not_taken_for_a_template(desk: Desk) -> None:
    assert complaint(desk, "{a: 1}: x").endswith("a key has to be a word, not a list or mapping")
