"""`palate doctor`: whether this installation works, and how to fix what does not."""

from __future__ import annotations

import typer

from palate.charts.text import amount
from palate.cli.arguments import StoreUrl
from palate.cli.console import print_done


def command(store: StoreUrl = None) -> None:
    """Check packages, devices, memory, disk, folders and the store; name the command for what is missing.

    Example: palate doctor
    """
    from palate.installation import check_installation

    checks = check_installation(store)
    broken = sum(check.status == "broken" for check in checks)
    lines = [*(check.line for check in checks), *([f"{amount(broken, 'check')} failed"] if broken else [])]
    print_done("\n".join(lines), {"broken": broken, "checks": checks})
    if broken:
        raise typer.Exit(1)
