"""Canary secrets, planted in every module's arguments, results and failures, come out nowhere.

Each is looked for as it is, base64-encoded (at all three alignments) and URL-encoded, in every
file of the run, in what the terminal and ``--output json`` got, and in what ``show`` and ``logs``
tell afterwards.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli.conftest import Desk

CANARY = "kanarie/vogel+17=geel&blauw"
PASSWORD = "hunter-of-the-lost-password"
FILE_SECRET = "-----BEGIN NOTHING-----\nbGluZS1vbmUtb2YtdGhlLWtleQ\n-----END NOTHING-----"
CANARIES = (CANARY, PASSWORD, FILE_SECRET.splitlines()[1])

INVENTORY = """
    name: canaries
    secrets:
      canary: {env: CANARY}
      password: {command: [cat, password.txt]}
      key: {file: key.pem}
    vars: {greeting: "hello {{ secret('canary') }}"}
    endpoints: {api: "http://127.0.0.1:9/?token={{ secret('canary') | urlencode }}"}
    metrics:
      rate: {url: "http://127.0.0.1:9/?key={{ secret('canary') | urlencode }}", value: json.value}
    sql:
      primary:
        {host: 127.0.0.1, port: 9, dbname: x, user: me, password: "{{ secret('password') }}"}
    haproxy: {edge: {address: "127.0.0.1:9"}}
    notify:
      channels:
        hook: {webhook: {url: "http://127.0.0.1:9/{{ secret('canary') | urlencode }}"}}
        team: {console: {}}
    ssh: {known_hosts: known_hosts}
    hosts: {all: {hosts: {far: {ansible_host: 127.0.0.1, ansible_port: 9}}}}
"""

RUNBOOK = """
    name: Canaries
    inventory: inventory.yml
    steps:
      - id: said
        shell: >-
          echo said {{ secret('canary') | quote }}; echo {{ secret('canary') | b64encode }} >&2
        ignore_errors: true
      - id: by-environment
        shell:
          command: echo "$IT" | base64 -w0; printf "x$IT" | base64 -w0
          env: {IT: "{{ secret('password') }}"}
        ignore_errors: true
      - id: by-input
        shell: {command: cat, stdin: "{{ secret('key') }}"}
        ignore_errors: true
      - id: failing
        shell: "echo {{ secret('canary') | quote }} >&2; exit 3"
        ignore_errors: true
      - id: looped
        loop: ["{{ secret('canary') }}", "{{ secret('password') }}"]
        shell: echo {{ item | quote }}
        ignore_errors: true
      - id: again
        shell: echo {{ steps.said.result.stdout | quote }}
        ignore_errors: true
      - id: compared
        assert: {that: ["secret('canary') == 'x'"], fail_msg: "{{ greeting }}"}
        ignore_errors: true
      - id: wrong-type
        wait: {for: "{{ secret('canary') }}"}
        ignore_errors: true
      - id: broken-template
        shell: echo {{ secret('canary') + 1 }}
        ignore_errors: true
      - id: condition
        when: secret('canary')
        shell: echo never
        ignore_errors: true
      - id: request
        http-check:
          url: "{{ endpoints.api }}"
          headers: {authorization: "Bearer {{ secret('password') }}"}
        ignore_errors: true
      - id: measured
        metrics.read: {name: rate}
        ignore_errors: true
      - id: query
        sql.query: {sql: "SELECT '{{ secret('canary') }}'"}
        ignore_errors: true
      - id: told
        notify.send: {channel: hook, text: "{{ greeting }}"}
        ignore_errors: true
      - id: told-here
        notify.send: {channel: team, text: "{{ greeting }}"}
        ignore_errors: true
      - id: remote
        hosts: far
        ssh.run: {command: "echo {{ secret('canary') | quote }}"}
        ignore_errors: true
      - id: hidden
        shell: echo not-a-secret-but-not-for-the-journal
        no_log: true
      - id: asked
        confirm: "Is {{ secret('canary') }} right?"
"""


@pytest.fixture
def canaries(desk: Desk) -> Desk:
    """A desk with the runbook, its inventory and where the secrets live."""
    desk.write(RUNBOOK)
    desk.write(INVENTORY, "inventory.yml")
    (desk.folder / "password.txt").write_text(PASSWORD + "\n")
    (desk.folder / "key.pem").write_text(FILE_SECRET + "\n")
    (desk.folder / "known_hosts").write_text("")
    return desk


def forms(secret: str) -> Iterator[str]:
    """A secret as it is, URL-encoded, and what base64 makes of it at each alignment."""
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    yield json.dumps(secret)[1:-1]
    for shift in range(3):
        padded = base64.b64encode(b"x" * shift + secret.encode() + b"y").decode()
        start = -(-shift * 8 // 6)
        yield padded[start : start + (len(secret) * 8 - 6) // 6]


def leaks(text: str) -> list[str]:
    """Every form of a secret that is in the text."""
    return [form for secret in CANARIES for form in forms(secret) if form in text]


def everything_of_the_run(folder: Path) -> Iterator[tuple[str, str]]:
    """Each file of a run, and its text. `source/` is what the user wrote."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_text(errors="replace")


def test_canaries_are_found_if_they_are_there() -> None:
    encoded = base64.b64encode(f"see {CANARY} there".encode()).decode()
    assert leaks(encoded)
    assert leaks(f"?q={quote(PASSWORD)}")
    assert not leaks("nothing")


def test_no_canary_comes_out(canaries: Desk) -> None:
    environment = {"CANARY": CANARY}
    run = canaries.ce_run("book.yml", "--yes", "-v", "--diff", env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "said ***" in (canaries.run().logs / "said.0.1.log").read_text()
    folder = canaries.run()
    found = {name: leaks(text) for name, text in everything_of_the_run(folder.path)}
    assert {name: forms for name, forms in found.items() if forms} == {}
    told = {"terminal": run.stdout + run.stderr}
    for words in (
        ("show", "last"),
        ("show", "last", "--events"),
        ("show", "last", "--output", "json"),
    ):
        told[" ".join(words)] = canaries.ce_run(*words).stdout
    for step in ("said", "by-environment", "failing", "request", "told"):
        told[f"logs {step}"] = canaries.ce_run("logs", "last", step).stdout
    told["json"] = canaries.ce_run("book.yml", "--yes", "--output", "json", env=environment).stdout
    assert {name: leaks(text) for name, text in told.items() if leaks(text)} == {}


def test_results_of_a_no_log_step_are_not_stored(canaries: Desk) -> None:
    canaries.ce_run("book.yml", "--yes", env={"CANARY": CANARY})
    for name, text in everything_of_the_run(canaries.run().path):
        if not name.startswith("source/") and name != "runbook.json":
            assert "not-for-the-journal" not in text, name


def test_files_of_a_run_are_for_their_owner_only(canaries: Desk) -> None:
    canaries.ce_run("book.yml", "--yes", env={"CANARY": CANARY})
    for path in (canaries.run().path, *canaries.run().path.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
