"""`mmssl doctor`: what works on this machine, what is missing, and what mends it."""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmssl.data.doctor import Finding, Report, examine

_COLOURS = {"ok": "green", "missing": "yellow", "broken": "red"}


# `json` is the name of the switch
def run(json: bool = False, timeout: float = 60.0) -> None:
    """Try every decoder in a process of its own; show versions, limits, and what mends what is missing.

    The exit code is 0 if the default path (PyAV, torch) works, else 1.

    Args:
        json: print the same as JSON.
        timeout: seconds that one library may take.
    """
    report = examine(timeout)
    if json:
        _print_json(report)
    elif sys.stdout.isatty():
        _print_table(report)
    else:
        print(plain(report))
    if not report.works:
        raise SystemExit(1)


def _print_json(report: Report) -> None:
    print(json.dumps(report.as_dict(), indent=1))


def plain(report: Report) -> str:
    """The report as text without colours or frames, one line a thing."""
    width = max(len(finding.name) for finding in report.findings)
    lines = []
    group = ""
    for finding in report.findings:
        if finding.group != group:
            group = finding.group
            lines.append(f"{group}:")
        lines.append(f"  {finding.state:7}  {finding.name:{width}}  {_sentence(finding)}")
    return "\n".join([*lines, "", _verdict(report)])


def _sentence(finding: Finding) -> str:
    ffmpeg = f"; its own FFmpeg {finding.facts['ffmpeg']}" if "ffmpeg" in finding.facts else ""
    return f"{finding.found}{ffmpeg}" + (f"  -> {finding.mend}" if finding.mend else "")


def _print_table(report: Report) -> None:
    table = Table("", "what", "state", "found", "what mends it")
    group = ""
    for finding in report.findings:
        if group and finding.group != group:
            table.add_section()
        name = finding.group if finding.group != group else ""
        group = finding.group
        ffmpeg = f"; its own FFmpeg {finding.facts['ffmpeg']}" if "ffmpeg" in finding.facts else ""
        colour = _COLOURS[finding.state]
        state = f"[{colour}]{finding.state}[/]"
        table.add_row(name, finding.name, state, escape(finding.found + ffmpeg), escape(finding.mend))
    console = Console()
    console.print(table)
    console.print(_verdict(report), markup=False)


def _verdict(report: Report) -> str:
    if report.works:
        return "The default path works: PyAV decodes, torch can be imported."
    names = ", ".join(f.name for f in report.findings if f.needed and f.state != "ok")
    return f"The default path does not work: {names}."
