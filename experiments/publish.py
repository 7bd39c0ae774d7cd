"""`python experiments/publish.py`: every figure and table of docs/experiments.md from the recorded results.

A page has a pair of comments for each table, `<!-- table NAME -->` and `<!-- end NAME -->`; what stands between them is
replaced. Figures go to docs/figures. `--check` writes nothing and fails where something would change.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from run import HERE, NAMES, experiment

DOCS = HERE.parent / "docs"


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the figures and write the tables of docs/experiments.md.")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the records")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of experiments.md and figures/")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where something would change")
    options = parser.parse_args()
    page = options.docs / "experiments.md"
    tables, figures = drawn(options.results)
    wanted = {page: filled(page.read_text(encoding="utf-8"), tables)}
    wanted |= {options.docs / "figures" / name: text for name, text in figures.items()}
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if options.check:
        for path in changed:
            print(f"{path.name} is not what the records give: run python experiments/publish.py", file=sys.stderr)
        return 1 if changed else 0
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")
        print(path.name)
    return 0


def drawn(results: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Tables by name as Markdown and figures by file name as SVG, of every experiment that has a record."""
    tables: dict[str, str] = {}
    figures: dict[str, str] = {}
    for name in NAMES:
        path = results / f"{name}.json"
        if path.exists():
            result = json.loads(path.read_text(encoding="utf-8"))
            tables |= experiment(name).tables(result)
            figures |= experiment(name).figures(result)
    return tables, figures


def filled(page: str, tables: dict[str, str]) -> str:
    """The page with every table that it has a place for.

    Raises:
        SystemExit: a table has no place, so that nobody would read it.
    """
    for name, text in tables.items():
        block = re.compile(rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
        page, found = block.subn(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)  # type: ignore[misc]
        if not found:
            sys.exit(f"experiments.md has no place for table {name}: add <!-- table {name} --> and <!-- end {name} -->")
    return page


if __name__ == "__main__":
    sys.exit(main())
