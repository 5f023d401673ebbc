"""Finds every runbook that takes part before any of them is read for good.

That way cycles are known with their path, the folder that all files lie below is known before
the first of them is looked for, and each file is read once however often it is included.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.loader.problems import Problems
from engine.loader.reader import read
from engine.loader.source import Map, Seq, Source, Spot
from engine.templating import is_template
from engine.text import display_name, nearest

DEEPEST = 16
"""Levels of runbooks that include runbooks."""

_LISTS = ("steps", "rescue", "always", "undo")


def gather(path: Path, problems: Problems) -> dict[Path, Source]:
    """The runbook at `path` and all that it includes, by absolute path, the first one first.

    Files that cannot be read and cycles are noted and left out.
    """
    found: dict[Path, Source] = {}
    _gather(path, [], found, {}, problems)
    return found


def common_root(sources: dict[Path, Source], path: Path) -> Path:
    """The folder of the runbook, or the nearest above it that holds all included ones too."""
    folders = [str(each.parent) for each in (path, *sources)]
    return Path(os.path.commonpath(folders))


def _gather(
    path: Path,
    way: list[Path],
    found: dict[Path, Source],
    failed: dict[Path, bool],
    problems: Problems,
) -> None:
    if path in found or path in failed:
        return
    source = read(path, problems)
    if source is None:
        failed[path] = True
        return
    found[path] = source
    way.append(path)
    for name, at in _included(source.root):
        _follow(name, at, source, way, found, failed, problems)
    way.pop()


def _follow(
    name: str,
    at: Spot,
    source: Source,
    way: list[Path],
    found: dict[Path, Source],
    failed: dict[Path, bool],
    problems: Problems,
) -> None:
    target = included_path(source.path.parent, name)
    if target is None:
        problems.add(source.name, at, f"'{name}' is no path of a runbook")
    elif target in way:
        names = [display_name(each) for each in (*way[way.index(target) :], target)]
        said = f"these runbooks include each other: {' → '.join(names)}"
        problems.add(source.name, at, said)
    elif len(Path(os.path.commonpath([way[0].parent, target])).parts) < 2 < len(way[0].parts):
        said = f"'{name}' and this runbook have no folder in common: all files would be theirs"
        problems.add(source.name, at, said, "keep the runbooks that include each other together")
    elif not target.is_file():
        problems.add(source.name, at, f"there is no runbook '{name}'", near_file(target, name))
    elif len(way) >= DEEPEST:
        said = f"runbooks include each other more than {DEEPEST} levels deep"
        problems.add(source.name, at, said)
    else:
        _gather(target, way, found, failed, problems)


def included_path(folder: Path, name: str) -> Path | None:
    """The absolute path of a runbook named in a file of `folder`; None for what can be none."""
    try:
        found = (folder / name).resolve()
        found.is_file()
    except (OSError, ValueError, RuntimeError):
        return None
    return found


def near_file(target: Path, name: str) -> str:
    """The file of YAML beside a missing one that was meant, as a suggestion; "" if none is near."""
    folder = target.parent
    files = folder.glob("*.y*ml") if folder.is_dir() else ()
    near = nearest(target.name, sorted(each.name for each in files if each.is_file()))
    return f"did you mean '{Path(name).parent / near}'?" if near else ""


def _included(root: Any) -> Iterator[tuple[str, Spot]]:
    """Files named by ``runbook:`` keys, in the order of the file."""
    waiting: list[Any] = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Seq):
            waiting.extend(reversed(value))
        elif isinstance(value, Map):
            name = value.get("runbook")
            if isinstance(name, str) and value is not root and not is_template(name):
                yield name, value.value_at("runbook")
            waiting.extend(value[key] for key in reversed(_LISTS) if key in value)
