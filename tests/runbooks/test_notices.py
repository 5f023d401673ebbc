"""What people are told: every kind of text, in both languages, with every placeholder."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.runbooks.books import RUNBOOKS, loaded, walk
from tests.surroundings import ROOT, surroundings

NOTICES = ROOT / "runbooks" / "files" / "notices"
LANGUAGES = ("en", "zh")

KINDS = {
    *("deployment-started", "phase-done", "deployment-status", "urgent-problem"),
    *("incident-notice", "status-page", "customer-email", "recovery-announced"),
    *("press-statement", "deployment-complete", "deployment-report"),
    *("rollback-done", "rollback-report", "incident-review"),
    *("data-restored", "data-restore-failed"),
}

PLACEHOLDERS = {
    *("deployment_start_time", "estimated_completion_time", "grafana_dashboard_url"),
    *("deployment_status_url", "deployment_lead", "emergency_contact", "phase_number"),
    *("phase_name", "traffic_percentage", "error_rate", "response_time_p95", "active_agents"),
    *("total_agents", "next_phase_number", "next_phase_start_time", "issue_description"),
    *("impact_scope", "current_status", "mitigation_actions", "incident_commander"),
    "next_update",
}

LISTS = {
    "targets": [{"name": "p95", "goal": "< 500 ms", "actual": 120}],
    "phases": [{"name": "canary", "planned": "30m", "actual": "31m"}],
    "components": [{"name": "API", "state": "degraded"}],
    "timeline": [{"at": "14:32", "who": "alert", "what": "error rate is high"}],
    "actions": [{"what": "test memory", "owner": "QA", "due": "Friday", "acceptance": "a report"}],
    **{key: ["one line"] for key in ("highlights", "lessons", "follow_ups", "root_causes")},
    **{key: ["one line"] for key in ("contributing_factors", "went_well", "went_badly")},
}

BOOK = """
name: Every notice
inventory: inventory.yml
vars: {examples: EXAMPLES}
steps:
  - loop: KINDS
    notify.send: {channel: log, template: "{{ item }}", vars: "{{ examples }}"}
"""


def names_in(kind: str, language: str) -> set[str]:
    """The placeholders of a template, without the names that it sets itself."""
    text = (NOTICES / language / f"{kind}.txt").read_text(encoding="utf-8")
    own = set(re.findall(r"\{% for (\w+) in", text))
    lists = set(re.findall(r"\{% for \w+ in (\w+)", text))
    return (set(re.findall(r"\{\{ (\w+)", text)) | lists) - own


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_text_is_there(language: str) -> None:
    assert {path.stem for path in (NOTICES / language).glob("*.txt")} == KINDS


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_both_languages_say_the_same_things(kind: str) -> None:
    assert names_in(kind, "en") == names_in(kind, "zh")
    chinese = (NOTICES / "zh" / f"{kind}.txt").read_text(encoding="utf-8")
    assert re.search(r"[\u4e00-\u9fff]{4}", chinese)


def _english(value: object) -> Iterator[str]:
    """Sentences that a Chinese notice would say in English: literal text of three words or more."""
    if isinstance(value, dict):
        yield from _english(value.get("zh", list(value.values())))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _english(one)
    elif isinstance(value, str):
        literal = re.sub(r"\{[{%].*?[%}]\}", "", value, flags=re.DOTALL)
        yield from re.findall(r"[A-Za-z]+,? [a-z]+ [a-z]+.*", literal)


@pytest.mark.parametrize("runbook", RUNBOOKS)
def test_chinese_notices_hold_no_english_sentences(runbook: str) -> None:
    spoken = set().union(*(names_in(kind, "zh") for kind in KINDS))
    for path, each in walk(loaded(runbook)[0].block):
        names = dict(each.vars or {})
        if each.call is not None and each.call.action == "notify.send":
            names |= each.call.arguments.get("vars") or {}
        found = [text for name in names if name in spoken for text in _english(names[name])]
        assert not found, (path, found)
    own = loaded(runbook)[0].vars
    assert not [text for name in own if name in spoken for text in _english(own[name])]


def test_the_guide_names_every_kind() -> None:
    guide = (ROOT / "docs" / "writing-runbooks.md").read_text(encoding="utf-8")
    section = guide.split("## Telling people")[-1].split("\n## ")[0]
    assert set(re.findall(r"`([a-z-]+)`", section)) >= KINDS


def test_every_placeholder_that_was_asked_for_is_used() -> None:
    used = set().union(*(names_in(kind, "en") for kind in KINDS))
    assert used >= PLACEHOLDERS


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What a run tells with example values: kind → language → subject and text."""
    folder = tmp_path_factory.mktemp("notices")
    shutil.copytree(NOTICES, folder / "files" / "notices")
    inventory = {
        "name": "words",
        "notify": {
            "languages": list(LANGUAGES),
            "templates": "files/notices",
            "channels": {"log": {"console": {}}},
        },
    }
    (folder / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    names = set().union(*(names_in(kind, "en") for kind in KINDS))
    examples = {name: LISTS.get(name, f"<{name}>") for name in names}
    book = BOOK.replace("EXAMPLES", json.dumps(examples)).replace("KINDS", str(sorted(KINDS)))
    (folder / "book.yml").write_text(book, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli", "book.yml", "--output", "json"],
        cwd=folder,
        env=surroundings(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(_notices(done.stdout))


def _notices(journal: str) -> Iterator[tuple[str, dict[str, str]]]:
    for number, data in enumerate(
        event["data"]
        for event in (json.loads(each)["event"] for each in journal.splitlines())
        if event["type"] == "task_finished"
    ):
        texts = data["notices"]
        yield (
            sorted(KINDS)[number],
            {one: f"{texts[one]['subject']}\n{texts[one]['text']}" for one in texts},
        )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_notice_can_be_told_with_every_placeholder_filled(
    told: dict[str, dict[str, str]], kind: str
) -> None:
    for language in LANGUAGES:
        said = told[kind][language]
        for name in names_in(kind, language) - set(LISTS):
            assert f"<{name}>" in said, name
        assert "{{" not in said
        assert "{%" not in said


def test_after_the_last_phase_no_next_one_is_announced() -> None:
    for language in LANGUAGES:
        text = (NOTICES / language / "phase-done.txt").read_text(encoding="utf-8")
        assert "{% if next_phase_number == '–' %}" in text
    part = yaml.safe_load((ROOT / "runbooks/parts/phase-done.yml").read_text(encoding="utf-8"))
    assert part["inputs"]["next_number"]["default"] == "–"


def test_no_text_promises_what_nobody_has_looked_at() -> None:
    for path in NOTICES.glob("*/*.txt"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"is safe|no data was lost|数据是安全的|未发生数据丢失", text, re.IGNORECASE
        )


def test_numbers_of_the_plan_are_in_no_notice() -> None:
    for path in Path(NOTICES).glob("*/*.txt"):
        assert not re.search(r"\d+ ?%", path.read_text(encoding="utf-8")), path
