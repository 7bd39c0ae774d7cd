"""`python experiments/publish.py`: every figure and table of docs/experiments.md from the recorded results.

A page has a pair of comments for each table, `<!-- table NAME -->` and `<!-- end NAME -->`; what stands between them is
replaced. Figures go to docs/figures. `--check` writes nothing and fails where something would change.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from run import HERE, NAMES, experiment

from palate.artifacts import read_json, write_text
from palate.errors import ArtifactError, PalateError

DOCS = HERE.parent / "docs"


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the figures and write the tables of docs/experiments.md.")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the records")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of experiments.md and figures/")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where something would change")
    options = parser.parse_args()
    try:
        return publish(options)
    except PalateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def publish(options: argparse.Namespace) -> int:
    page = options.docs / "experiments.md"
    if not page.is_file():
        raise ArtifactError(f"{page}: no such file")
    text = page.read_text(encoding="utf-8")
    tables, figures = drawn(options.results)
    wanted = {page: filled(text, tables)}
    wanted |= {options.docs / "figures" / name: figure for name, figure in figures.items()}
    changed = [path for path, new in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != new]
    if options.check:
        for path in changed:
            print(f"{path.name} is not what the records give: run python experiments/publish.py", file=sys.stderr)
        return 1 if changed else 0
    for path in changed:
        write_text(path, wanted[path])
        print(path.name)
    return 0


def drawn(results: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Tables by name as Markdown and figures by file name as SVG, of every experiment that has a record.

    Raises:
        ArtifactError: there is no record at all, or one is damaged or is not what its experiment writes now.
    """
    tables: dict[str, str] = {}
    figures: dict[str, str] = {}
    for name in NAMES:
        path = results / f"{name}.json"
        if not path.exists():
            continue
        result = read_json(path)
        try:
            tables |= experiment(name).tables(result)
            figures |= experiment(name).figures(result)
        except (KeyError, IndexError, StopIteration, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{path}: is not what the experiment records now ({error!r}); make it again: "
                f"python experiments/run.py {name}"
            ) from error
    if not tables:
        raise ArtifactError(f"{results}: holds no record; make one: python experiments/run.py NAME")
    return tables, figures


def filled(page: str, tables: dict[str, str]) -> str:
    """The page with every table that it has a place for.

    Raises:
        ArtifactError: a table has no place, so that nobody would read it.
    """
    for name, text in tables.items():
        block = re.compile(rf"(<!-- table {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
        page, found = block.subn(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)  # type: ignore[misc]
        if not found:
            raise ArtifactError(
                f"experiments.md has no place for table {name}: add <!-- table {name} --> and <!-- end {name} -->"
            )
    return page


if __name__ == "__main__":
    sys.exit(main())
