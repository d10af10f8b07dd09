"""`pyrun check`: what this host can do for pyrun and what not."""

from __future__ import annotations

import click

from pyrun.cli.application import Application
from pyrun.cli.output import print_json


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_obj
def check(application: Application, output: str) -> int:
    """Say what this host can do for pyrun and what not, and what to do about it; leaves nothing behind.

    Exit code 0 when Pods can be made, 1 otherwise. Without root it says what it could not try.
    """
    from pyrun.runtime.check import Verdict, check_host

    report = check_host(application.layout, application.network)
    if output == "json":
        print_json(report)
        return 0 if report.pods else 1
    width = max(len(finding.subject) for finding in report.findings)
    for finding in report.findings:
        click.echo(f"{finding.verdict.value:<8}  {finding.subject:<{width}}  {finding.detail}")
        if finding.remedy and finding.verdict is not Verdict.UNTRIED:
            click.echo(f"{'':<8}  {'':<{width}}  -> {finding.remedy}")
    missing = [f.subject for f in report.findings if f.verdict is Verdict.MISSING]
    untried = sum(f.verdict is Verdict.UNTRIED for f in report.findings)
    if report.pods:
        click.echo("Pods can be made.")
    else:
        more = f" ({untried} things could not be tried without root)" if untried else ""
        click.echo(f"Pods cannot be made. Missing: {', '.join(missing) or 'nothing'}{more}.")
    return 0 if report.pods else 1
