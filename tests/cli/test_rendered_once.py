"""A command's output that looks like a template is sent, compared and shown as it is."""

from __future__ import annotations

from tests.cli.conftest import Desk

INVENTORY = """\
secrets: {api_key: {env: API_KEY}}
notify: {channels: {log: {console: {}}}}
"""
OUTPUT = """\
  - shell: "printf %s \\"{{ '{{' }} secret('api_key') {{ '}}' }}\\""
    register: output
"""


def test_a_notice_shows_a_template_in_an_output_as_it_is(desk: Desk) -> None:
    desk.write(INVENTORY, "inventory.yml")
    desk.write(
        "inventory: inventory.yml\nsteps:\n"
        + OUTPUT
        + """\
  - notify.send:
      channel: log
      subject: "Dear {{ who }}"
      text: "it said {{ output.stdout }}, {{ why }}"
      vars: {who: you, why: "{{ output.stdout }}"}
"""
    )
    done = desk.ce_run("book.yml", "--output", "json", env={"API_KEY": "swordfish-9"})
    assert done.returncode == 0, done.stdout + done.stderr
    shown = desk.ce_run("logs", "last").stdout + done.stdout
    assert "it said {{ secret('api_key') }}, {{ secret('api_key') }}" in shown
    assert "Dear you" in shown
    assert "swordfish" not in shown
    assert "***" not in shown


def test_an_output_never_becomes_an_expression(desk: Desk) -> None:
    desk.write(
        """\
        steps:
          - shell: echo 'true or secret("x")'
            register: output
          - assert: {that: "{{ [output.stdout] }}"}
        """
    )
    done = desk.ce_run("book.yml")
    assert done.returncode == 2
    assert "an expression is written without braces" in done.stderr
