"""Canary secrets, planted in every module's arguments, results and failures, come out nowhere.

Each is looked for raw, in pieces, and as base64, hexadecimal, URLs, JSON, HTML, shells and Python
spell it: in every file of the run, in what the terminal and ``--output json`` got, in what the
commands that look tell afterwards, in tracebacks, and in the command lines of processes.
"""

from __future__ import annotations

import base64
import html
import json
import re
import resource
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, ClassVar
from urllib.parse import quote, quote_plus

import pytest

from engine.events import Warned
from engine.registry import Registry
from tests.cli.conftest import Desk

CANARY = "kanarie/vogel+17=geel&blauw"
PASSWORD = "zwaluw 9\"\\kw'Ü&x<w7>snavel"
FILE_SECRET = (
    "-----BEGIN NOTHING-----\nbGluZS1vbmUtb2YtdGhlLWtleQ\nQWxzbyBhIGxpbmU\n-----END NOTHING-----"
)
NUMBER = "4815162342"
UNASKED = "roodborst~nobody~asks~for~me"
CANARIES = (CANARY, PASSWORD, *FILE_SECRET.splitlines()[1:3], NUMBER, UNASKED)

INVENTORY = """
    name: canaries
    secrets:
      canary: {env: CANARY}
      password: {command: [cat, password.txt]}
      key: {file: key.pem}
      number: {env: NUMBER}
      unasked: {env: UNASKED}
      pin: {env: PIN}
    vars: {greeting: "hello {{ secret('canary') }}"}
    endpoints:
      api: "http://127.0.0.1:9/?token={{ secret('canary') | urlencode }}"
      echo: "http://me:{{ secret('password') | urlencode }}@127.0.0.1:ECHO"
    metrics:
      rate: {url: "http://127.0.0.1:9/?key={{ secret('canary') | urlencode }}", value: json.value}
      echoed:
        url: "http://127.0.0.1:ECHO/ok?key={{ secret('canary') | urlencode }}"
        value: json.echo
        headers: {authorization: "Bearer {{ secret('number') }}"}
    kubectl: {server: "http://127.0.0.1:ECHO", token: "{{ secret('canary') }}"}
    sql:
      primary:
        {host: 127.0.0.1, port: 9, dbname: x, user: me, password: "{{ secret('password') }}"}
    haproxy: {edge: {address: "127.0.0.1:PARROT"}}
    traffic:
      versions: {stable: "5.0", canary: "5.1"}
      selector: {app: "{{ secret('number') }}"}
      service: "{{ secret('number') }}"
    docker:
      host: tcp://127.0.0.1:ECHO
      registries: {registry.test: {username: me, password: "{{ secret('password') }}"}}
    notify:
      channels:
        hook: {webhook: {url: "http://127.0.0.1:9/{{ secret('canary') | urlencode }}"}}
        echo:
          webhook:
            url: "http://127.0.0.1:ECHO/{{ secret('canary') | urlencode }}"
            headers: {authorization: "{{ secret('number') }}"}
        team: {console: {}}
        mail:
          smtp:
            {host: 127.0.0.1, port: PARROT, from: a@b.c, to: ["{{ secret('number') }}@b.c"],
            user: me, password: "{{ secret('password') }}", tls: none}
    ssh: {known_hosts: known_hosts}
    hosts:
      all:
        hosts:
          far:
            {ansible_host: 127.0.0.1, ansible_port: 9, ansible_password: "{{ secret('number') }}"}
"""

RUNBOOK = """
    name: Canaries
    inventory: inventory.yml
    steps:
      - id: said
        shell: >-
          echo said {{ secret('canary') | quote }}; echo {{ secret('canary') | b64encode }} >&2
      - id: by-environment
        shell:
          command: echo "$IT" | base64 -w0; printf "x$IT" | base64 -w0; echo "$IT" | od -An -tx1
          env: {IT: "{{ secret('password') }}"}
      - id: folded
        shell:
          command: "tee copy | fold -w 7; base64 -w 20 copy; printf xx | cat - copy | base64 -w 20"
          stdin: "{{ secret('canary') }}"
      - id: streamed
        shell: "head -c 262135 /dev/zero | tr '\\0' z; printf %s {{ secret('canary') | quote }}"
      - id: cut-off
        shell:
          command: "printf 0123456789%s {{ secret('canary') | quote }}; printf %070d 0"
          limit: 40
      - id: shortened
        shell: ": {{ 'x' * 60 }} {{ secret('canary') | quote }}; exit 1"
      - id: everything
        shell: env
      - id: by-input
        shell: {command: cat, stdin: "{{ secret('key') }}"}
      - id: failing
        shell: "echo {{ secret('canary') | quote }} >&2; exit 3"
      - id: listed
        shell: [echo, "{{ secret('canary') }}"]
      - id: looked-up
        shell: "cat /proc/$$/cmdline /proc/$PPID/cmdline >cmdline; : {{ secret('canary') | quote }}"
      - id: looped
        loop:
          - "{{ secret('canary') }}"
          - "{{ secret('password') }}"
          - {deep: ["{{ secret('key') }}"]}
        shell: echo {{ item | to_json | quote }}
      - id: again
        shell: echo {{ steps.said.result.stdout | quote }}
      - id: compared
        assert: {that: ["secret('canary') == 'x'", "greeting == 1"], fail_msg: "{{ greeting }}"}
      - id: wrong-type
        wait: {for: "{{ secret('canary') }}"}
      - id: waited
        wait: {for: 0s, reason: "{{ greeting }}"}
      - id: broken-template
        shell: echo {{ secret('canary') + 1 }}
      - id: condition
        when: secret('canary')
        shell: echo never
      - id: request
        http-check:
          url: "{{ endpoints.api }}"
          headers: {authorization: "Bearer {{ secret('password') | urlencode }}"}
      - id: reflected
        http-check:
          url: "{{ endpoints.echo }}/ok?token={{ secret('canary') | urlencode }}"
          expect:
            json: {echo: nothing}
            headers: {x-echo: nothing}
            text: "{{ secret('number') }}"
      - id: reflected-well
        http-check: {url: "{{ endpoints.echo }}/ok?token={{ secret('canary') | urlencode }}"}
        until: secret('password') in result.text
        retry: {attempts: 1}
      - id: changing
        http.request:
          url: "{{ endpoints.echo }}/x?token={{ secret('canary') | urlencode }}"
          body: {number: "{{ secret('number') | int }}", key: "{{ secret('key') }}"}
      - id: measured
        metrics.read: {name: rate}
      - id: measured-wrongly
        metrics.read: {name: echoed}
      - id: query
        sql.query: {sql: "SELECT '{{ secret('canary') }}'"}
      - id: told
        notify.send: {channel: hook, text: "{{ greeting }}"}
      - id: told-and-refused
        notify.send: {channel: echo, text: "{{ greeting }}"}
      - id: told-here
        notify.send: {channel: team, text: "{{ greeting }}"}
      - id: mailed
        notify.send: {channel: mail, text: "{{ greeting }}"}
      - id: remote
        hosts: far
        ssh.run: {command: "echo {{ secret('canary') | quote }}"}
      - id: copied
        hosts: far
        ssh.copy: {dest: "/{{ secret('number') }}", content: "{{ secret('canary') }}"}
      - id: applied
        kubectl.apply:
          objects:
            - apiVersion: v1
              kind: ConfigMap
              metadata: {name: it, annotations: {a: "{{ secret('canary') | b64encode }}"}}
              data: {it: "{{ secret('password') }}"}
      - id: got
        kubectl.get: {kind: Secret, name: "{{ secret('number') }}"}
      - id: inside
        kubectl.exec: {pod: "{{ secret('number') }}", command: [echo, "{{ secret('canary') }}"]}
      - id: shifted
        traffic.shift: {to: "5.1", percent: 5}
      - id: weighed
        haproxy.weight: {backend: "{{ secret('number') }}", weights: {"{{ secret('number') }}": 5}}
        timeout: 1s
      - id: image
        docker.inspect-digest: {image: "registry.test/{{ secret('number') }}:1"}
      - id: leaks
        leaky.tell: {secrets: ["{{ secret('canary') }}", "{{ secret('password') }}"]}
      - id: fails
        leaky.fail: {secrets: ["{{ secret('canary') }}", "{{ secret('password') }}"]}
      - id: crashes
        leaky.crash: {secrets: ["{{ secret('canary') }}", "{{ secret('password') }}"]}
      - id: untrue
        leaky.tell: {secrets: ["{{ secret('canary') }}"]}
        until: result.message == 1
        retry: {attempts: 2, delay: 0s}
      - id: guarded
        guards:
          - name: leaky
            every: 10ms
            leaky.measure: {secret: "{{ secret('canary') }}"}
            trip: result.value == 1
        steps:
          - wait: {for: 60ms}
      - id: hidden
        shell: echo not-a-secret-but-not-for-the-journal; echo not-for-the-journal >&2; exit 1
        no_log: true
      - id: hidden-loop
        loop: [not-for-the-journal]
        shell: echo {{ item }}
        no_log: true
      - id: hidden-group
        no_log: true
        steps:
          - id: inner
            shell: echo not-for-the-journal
          - id: reader
            shell: test {{ steps.inner.result.stdout }} = not-for-the-journal
      - id: asked
        confirm: {message: "Is {{ secret('canary') }} right?", checklist: ["{{ greeting }}"]}
"""

LEAKY = """
    from engine.module_api import Context, Failed, Result, action

    def tell_everywhere(ctx, text):
        ctx.log(text)
        ctx.progress(text)
        ctx.warn(f"careful: {text}")

    @action(effect="idempotent")
    def tell(ctx: Context, secrets: list[str]) -> Result:
        "Tell it in every way."
        text = " ".join(secrets)
        tell_everywhere(ctx, text)
        data = {"text": text, "deep": [{text: [text.encode().hex()]}], "bytes": text.encode()}
        return Result(changed=True, data=data, diff=f"+ {text}", message=f"it is {text}")

    @action(effect="read")
    def measure(ctx: Context, secret: str) -> Result:
        "Measure it."
        return Result(data={"value": secret}, message=secret)

    @action(effect="idempotent")
    def fail(ctx: Context, secrets: list[str]) -> Result:
        "Fail with it."
        text = " ".join(secrets)
        raise Failed(text, hint=text, evidence=[text, text[:20] + "..."], data={"said": text})

    @action(effect="idempotent")
    def crash(ctx: Context, secrets: list[str]) -> Result:
        "Break down with it."
        raise KeyError(*secrets)

    class Bad:
        def __init__(self, text):
            self.text = text

        def __str__(self):
            raise RuntimeError(self.text)

    @action(effect="idempotent")
    def break_the_engine(ctx: Context, secret: str) -> Result:
        "Give what cannot be written."
        return Result(data={"bad": Bad(secret)})
"""


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked, in many spellings; with 200 below ``/ok``, else 403."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        said = f"{self.command} {self.path} {dict(self.headers)} {body}"
        found: dict[str, Any] = {
            "echo": said,
            "message": f"forbidden: {said}",
            "html": html.escape(said),
            "url": quote(said),
            "b64": [base64.b64encode(f"{pad}{said}".encode()).decode() for pad in ("", "x", "xx")],
            "json": json.dumps(said),
        }
        data = json.dumps(found).encode()
        self.send_response(200 if self.path.startswith("/ok") else 403)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("x-echo", quote(said))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_HEAD = do_DELETE = do_PUT = answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Parrot(StreamRequestHandler):
    """Repeats every line it gets."""

    def handle(self) -> None:
        """Until the other side has had enough."""
        self.wfile.write(b"220 hello\r\n")
        for line in self.rfile:
            self.wfile.write(b"250 " + line)


@pytest.fixture
def serving() -> Iterator[dict[str, int]]:
    """Both, on free ports."""
    servers: dict[str, ThreadingTCPServer | ThreadingHTTPServer] = {
        "ECHO": ThreadingHTTPServer(("127.0.0.1", 0), Echo),
        "PARROT": ThreadingTCPServer(("127.0.0.1", 0), Parrot),
    }
    for server in servers.values():
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield {name: int(server.server_address[1]) for name, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


class Canaries:
    """A desk with the runbook, its inventory and where the secrets live."""

    environment: ClassVar = {"CANARY": CANARY, "NUMBER": NUMBER, "UNASKED": UNASKED, "PIN": "007"}

    def __init__(self, desk: Desk, ports: dict[str, int]) -> None:
        self.desk = desk
        inventory = INVENTORY
        for name, port in ports.items():
            inventory = inventory.replace(name, str(port))
        desk.write(inventory, "inventory.yml")
        desk.write(LEAKY, "modules/leaky.py")
        self.write(RUNBOOK)
        (desk.folder / "password.txt").write_text(PASSWORD + "\n")
        (desk.folder / "key.pem").write_text(FILE_SECRET + "\n")
        (desk.folder / "known_hosts").write_text("")

    def write(self, runbook: str) -> None:
        """Another runbook; every step of it may fail."""
        steps = re.sub(r"(?m)^(      )- id: (.*)$", r"\1- id: \2\n\1  ignore_errors: true", runbook)
        self.desk.write(steps)

    def ce_run(self, *words: str) -> str:
        """What a command tells."""
        done = self.desk.ce_run(*words, env=self.environment)
        return f"{done.stdout}\n{done.stderr}"

    @property
    def path(self) -> Path:
        """The last run's folder."""
        return self.desk.run().path


@pytest.fixture
def canaries(desk: Desk, serving: dict[str, int]) -> Canaries:
    """Such a desk."""
    return Canaries(desk, serving)


# -- looking for them -----------------------------------------------------------------------------
def spelled(secret: str) -> Iterator[str]:
    """A secret as systems spell it."""
    data = secret.encode()
    yield from (secret, quote(secret, safe=""), quote(secret), quote_plus(secret))
    yield re.sub("%..", lambda found: found[0].lower(), quote(secret, safe=""))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield json.dumps(json.dumps(secret))[3:-3]
    yield from (repr(secret)[1:-1], repr(data)[2:-1], shlex.quote(secret)[1:-1])
    yield from (html.escape(secret), html.escape(secret, quote=False))
    yield from (data.hex(), data.hex().upper(), data.hex(" "))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            padded = encode(b"x" * shift + data + b"y").decode()
            start = -(-shift * 8 // 6)
            yield padded[start : start + (len(data) * 8 - 6) // 6]


def leaks(text: str) -> list[str]:
    """Every spelling of a secret that is in the text, also if it is broken over lines, and every
    seven characters of one: nobody may learn the half of it either."""
    found = []
    joined = re.sub(r"\r?\n\s*|\\n", "", text)
    for secret in CANARIES:
        forms = {form for form in spelled(secret) if len(form) > 5}
        forms |= {secret[place : place + 7] for place in range(len(secret) - 6)}
        found += [form for form in forms if form in text or form in joined]
    return found


def everything_of_the_run(folder: Path) -> Iterator[tuple[str, str]]:
    """Each file of a run, and its text."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_text(errors="replace")


def all_leaks(told: dict[str, str], folder: Path) -> dict[str, list[str]]:
    """Where something leaked, and what."""
    texts = {**told, **dict(everything_of_the_run(folder))}
    return {name: found for name, text in texts.items() if (found := leaks(text))}


@pytest.mark.parametrize("spell", range(len(list(spelled(CANARY)))))
def test_canaries_are_found_if_they_are_there(spell: int) -> None:
    for secret in (CANARY, PASSWORD, UNASKED):
        assert leaks(f"before {list(spelled(secret))[spell]} after")
    assert not leaks("nothing")


def test_every_module_carries_a_canary() -> None:
    for module in Registry().names():
        name = re.escape(module).replace("_", "[-_]")
        assert re.search(rf"(?m)^\s+{name}[.:]", RUNBOOK), module


# -- the runs -------------------------------------------------------------------------------------
def test_no_canary_comes_out(canaries: Canaries) -> None:
    told = {"terminal": canaries.ce_run("book.yml", "--yes", "-v", "--diff")}
    assert "said ***" in (canaries.desk.run().logs / "said.0.1.log").read_text()
    assert "every list of processes shows" in told["terminal"]
    for words in (
        ("show", "last"),
        ("show", "last", "--diff"),
        ("show", "last", "--events"),
        ("show", "last", "--output", "json"),
        ("runs",),
        ("runs", "--output", "json"),
        ("graph", "book.yml", "--run", "last"),
        ("validate", "book.yml"),
    ):
        told[" ".join(words)] = canaries.ce_run(*words)
    for step in re.findall("- id: (.*)", RUNBOOK):
        told[f"logs {step}"] = canaries.ce_run("logs", "last", step)
    assert all_leaks(told, canaries.path) == {}
    assert leaks((canaries.desk.folder / "cmdline").read_text()) == []


def test_no_canary_comes_out_as_json_or_in_a_check(canaries: Canaries) -> None:
    told = {"json": canaries.ce_run("book.yml", "--yes", "--output", "json", "--check")}
    assert '"mode":"check"' in told["json"]
    assert all_leaks(told, canaries.path) == {}


def test_a_defect_of_ours_shows_no_canary_either(canaries: Canaries) -> None:
    canaries.write("""
    inventory: inventory.yml
    steps:
      - id: bad
        leaky.break_the_engine: {secret: "{{ secret('canary') }}"}
    """)
    told = {"terminal": canaries.ce_run("book.yml", "--traceback")}
    assert "ce-run failed unexpectedly: RuntimeError: ***" in told["terminal"]
    assert "Traceback" in told["terminal"]
    assert "RuntimeError: ***" in (canaries.path / "traceback.txt").read_text()
    assert all_leaks(told, canaries.path) == {}


def test_a_process_that_crashes_leaves_no_core_file(canaries: Canaries) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    canaries.write("""
    inventory: inventory.yml
    steps:
      - id: limit
        shell: ulimit -c
    """)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        assert canaries.ce_run("book.yml")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert (canaries.desk.run().logs / "limit.0.1.log").read_text() == "0\n"


def test_a_secret_too_short_to_be_hidden_is_warned_of(canaries: Canaries) -> None:
    canaries.write("{inventory: inventory.yml, steps: [{wait: {for: 0s}}]}")
    terminal = canaries.ce_run("book.yml")
    said = "the secret 'pin' is too short to be hidden: it may appear in logs and results"
    assert terminal.count(said) == 2  # when it was noticed, and in the summary
    assert said in canaries.ce_run("show", "last")
    assert canaries.desk.events(Warned) == [Warned(said)]


# -- no_log ---------------------------------------------------------------------------------------
def test_results_of_a_no_log_step_are_not_stored(canaries: Canaries) -> None:
    terminal = canaries.ce_run("book.yml", "--yes", "-v")
    assert re.search("changed +hidden-group/reader", terminal), terminal
    for name, text in everything_of_the_run(canaries.path):
        if not name.startswith("source/") and name != "runbook.json":
            assert "not-for-the-journal" not in text, name
    assert "not-for-the-journal" not in terminal


FORGETFUL = """
    inventory: inventory.yml
    steps:
      - id: hidden
        shell: echo not-for-the-journal
        no_log: true
        register: it
      - id: look
        confirm: go on?
      - id: reader
        shell: test {{ READS }} = not-for-the-journal
"""


@pytest.mark.parametrize("reads", ["it.stdout", "steps.hidden.result.stdout"])
def test_after_a_resume_a_no_log_result_is_gone_and_that_is_said(
    canaries: Canaries, reads: str
) -> None:
    canaries.desk.write(FORGETFUL.replace("READS", reads))
    canaries.ce_run("book.yml")
    told = canaries.ce_run("resume", "last", "--yes")
    assert "'stdout' of step 'hidden' is not known any more: with `no_log` its result" in told
    assert "start the runbook anew, or have this step fetch the value by itself" in told


def test_secrets_stay_hidden_after_a_resume(canaries: Canaries) -> None:
    canaries.desk.write("""
    inventory: inventory.yml
    steps:
      - id: kept
        shell: {command: "cat >kept", stdin: "{{ secret('password') }}"}
      - id: look
        confirm: go on?
      - id: shown
        shell: cat kept
    """)
    canaries.ce_run("book.yml")
    told = {"terminal": canaries.ce_run("resume", "last", "--yes")}
    assert (canaries.desk.run().logs / "shown.0.1.log").read_text() == "***\n"
    assert all_leaks(told, canaries.path) == {}


# -- files ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_of_a_run_are_for_their_owner_only(canaries: Canaries, umask: int) -> None:
    desk = canaries.desk
    desk.write("{locks: [production], steps: [{id: said, shell: echo said}]}")
    done = desk.ce_run("book.yml", umask=umask)
    assert done.returncode == 0, done.stderr
    paths = [desk.state, *desk.state.rglob("*")]
    names = {path.name for path in paths}
    assert names >= {"run.lock", "journal.jsonl", "said.0.1.log", "book.yml", "production.fence"}
    for path in paths:
        wanted = 0o700 if path.is_dir() else 0o600
        assert path.stat().st_mode & 0o777 == wanted, (oct(path.stat().st_mode), path)


def test_a_secret_that_stands_in_the_inventory_is_hidden_all_the_same(desk: Desk) -> None:
    desk.write(
        "vars: {db_password: correct-horse}\nhttp: {proxy: 'http://u:tigerlily@p'}\n", "i.yml"
    )
    desk.write(
        "name: x\ninventory: i.yml\nsteps:\n  - id: a\n"
        "    shell: 'echo correct-horse tigerlily; echo {{ db_password }}'\n"
    )
    desk.ce_run("book.yml", "-v")
    for words in (("show", "last", "--events"), ("logs", "last", "a"), ("show", "last")):
        told = desk.ce_run(*words).stdout
        assert "correct-horse" not in told
        assert "tigerlily" not in told


def test_a_problem_shows_no_secret_of_its_line(desk: Desk) -> None:
    desk.write("vars:\n  - {api_token: x9Kq2LmZ8vTn4RsW}\n", "i.yml")
    desk.write("name: x\ninventory: i.yml\nsteps:\n  - shell: 'true'\n")
    for words in (
        ("validate", "book.yml"),
        ("book.yml",),
        ("validate", "book.yml", "--output", "json"),
    ):
        told = desk.ce_run(*words)
        assert told.returncode == 2
        assert "x9Kq2LmZ8vTn4RsW" not in told.stdout + told.stderr
