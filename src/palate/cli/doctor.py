"""`palate doctor`: whether this installation works, and how to fix what does not."""

from __future__ import annotations

from dataclasses import asdict

import typer

from palate.charts.text import amount
from palate.cli.arguments import AsJson, StoreUrl
from palate.cli.console import print_json, print_result


def command(store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Check packages, devices, memory, disk, folders and the store; name the command for what is missing.

    Example: palate doctor
    """
    from palate.installation import check_installation

    checks = check_installation(store)
    broken = sum(check.status == "broken" for check in checks)
    if as_json:
        print_json({"broken": broken, "checks": [asdict(check) for check in checks]})
    else:
        print_result("\n".join(check.line for check in checks))
        if broken:
            print_result(f"{amount(broken, 'check')} failed")
    if broken:
        raise typer.Exit(1)
