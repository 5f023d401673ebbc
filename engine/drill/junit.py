"""Drills as JUnit XML: a drill is a suite, each of its expectations a case."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from engine.drill.stage import Played
from engine.report.encoding import visible


def junit_xml(played: Sequence[Played]) -> str:
    """A report that CI systems read."""
    root = ElementTree.Element("testsuites", name="drills")
    for each in played:
        failures = sum(not one.met for one in each.judgements)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=visible(each.name),
            tests=str(len(each.judgements)),
            failures=str(failures),
            errors="0",
            time=f"{each.seconds:.3f}",
        )
        for one in each.judgements:
            case = ElementTree.SubElement(
                suite, "testcase", classname=visible(each.name), name=visible(one.expectation)
            )
            if not one.met:
                failure = ElementTree.SubElement(case, "failure", message=visible(one.figure))
                failure.text = "\n".join(
                    visible(f"+{event.at:.0f}s {event.what}: {event.text}")
                    for event in each.happenings
                )
        outcomes = ElementTree.SubElement(suite, "system-out")
        outcomes.text = "\n".join(f"{run}: {how}" for run, how in each.outcomes.items())
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
