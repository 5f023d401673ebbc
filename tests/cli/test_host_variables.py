"""Variables of hosts are rendered where they are read, among themselves."""

from __future__ import annotations

from tests.cli.conftest import Desk

INVENTORY = """\
all:
  vars: {deploy_user: deploy, domain: example.com}
  children:
    web:
      hosts:
        web1: {address: 127.0.0.1, ansible_host: "{{ address }}", port: 80}
        web2: {address: 127.0.0.2, ansible_host: "{{ address }}", port: 81}
      vars:
        ansible_user: "{{ deploy_user }}"
        url: "http://{{ inventory_hostname }}.{{ domain }}:{{ port }}"
"""


def test_they_are_rendered_for_each_host(desk: Desk) -> None:
    desk.write(INVENTORY, "hosts.yml")
    desk.write("""\
        name: Hosts
        steps:
          - id: say
            hosts: web
            on: controller
            shell: >-
              echo {{ host.name }} {{ host.ansible_host }} {{ ansible_user }}
              {{ host.url }} {{ url }}
        """)
    done = desk.ce_run("book.yml", "-i", "hosts.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = desk.ce_run("logs", "last", "say").stdout
    for number in (1, 2):
        url = f"http://web{number}.example.com:8{number - 1}"
        assert f"web{number} 127.0.0.{number} deploy {url} {url}" in shown


def test_a_module_gets_them_rendered(desk: Desk) -> None:
    desk.write(INVENTORY, "hosts.yml")
    desk.write(
        '''\
        """Tells the host."""
        from engine.module_api import Context, Result, action

        @action(effect="read")
        def tell(ctx: Context) -> Result:
            """Tell."""
            assert ctx.host is not None
            return Result(message="{ansible_user}@{ansible_host}".format_map(ctx.host.vars))
        ''',
        "modules/tell.py",
    )
    desk.write("name: Hosts\nsteps: [{hosts: web, tell: {}}]\n")
    done = desk.ce_run("book.yml", "-i", "hosts.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deploy@127.0.0.1" in done.stdout
    assert "deploy@127.0.0.2" in done.stdout


def test_several_inventories_are_added_up_and_a_resume_reads_them_again(desk: Desk) -> None:
    desk.write(INVENTORY, "hosts.yml")
    desk.write("[web]\nweb3 address=127.0.0.3 ansible_host=h port=82\n", "more")
    desk.write("""\
        name: Hosts
        steps:
          - {id: say, hosts: web, on: controller, shell: "echo on {{ host.name }}"}
          - shell: test -e go
        """)
    assert desk.ce_run("book.yml", "-i", "hosts.yml", "-i", "more").returncode == 1
    (desk.folder / "go").touch()
    shown = desk.ce_run("logs", "last", "say").stdout
    assert "on web3" in shown


def test_a_playbook_is_recognised(desk: Desk) -> None:
    desk.write("- hosts: web\n  tasks:\n    - command: uptime\n", "site.yml")
    done = desk.ce_run("site.yml")
    assert done.returncode == 2
    assert "this is a playbook of Ansible" in done.stderr
    assert "docs/writing-runbooks.md" in done.stderr
