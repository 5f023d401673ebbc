"""``ce-run init``: what it writes works at once, and it writes over nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine.cli.init import PLACES, STARTER
from tests.surroundings import surroundings


def ce_run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine.cli", *words],
        cwd=folder, env=surroundings(), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_new_project_can_be_checked_run_and_undone(tmp_path: Path) -> None:
    done = ce_run(tmp_path, "init", "shop")
    assert done.returncode == 0, done.stderr
    shop = tmp_path / "shop"
    for line in done.stdout.split("Next:\n")[1].splitlines()[1:3]:
        words = line.split()
        assert words[0] == "ce-run"
        assert ce_run(shop, *words[1:]).returncode == 0
    version = shop / "runbooks/site/version"
    assert version.read_text() == "1.0\n"
    assert ce_run(shop, "runbooks/release.yml", "--yes").returncode == 0
    assert version.read_text() == "1.1\n"
    broken = ce_run(shop, "runbooks/release.yml", "--yes", "-e", "version=broken")
    assert broken.returncode == 1
    assert version.read_text() == "1.1\n"


def test_nothing_that_is_there_is_changed(tmp_path: Path) -> None:
    (tmp_path / "inventories").mkdir()
    mine = tmp_path / "inventories" / "local.yml"
    mine.write_text("name: mine\n")
    refused = ce_run(tmp_path, "init")
    assert refused.returncode == 1
    assert "inventories/local.yml; nothing was written" in refused.stderr
    assert mine.read_text() == "name: mine\n"
    assert list(tmp_path.iterdir()) == [mine.parent]


def test_a_gitignore_is_left_to_its_owner(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    done = ce_run(tmp_path, "init")
    assert done.returncode == 0
    assert "add .ce-run/ to it" in done.stdout
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n"


def test_every_file_of_the_starter_has_its_place() -> None:
    files = {str(path.relative_to(STARTER)) for path in STARTER.rglob("*") if path.is_file()}
    assert files == set(PLACES)
