"""Makes the screenshots of docs/web.md with Debian's chromium, from the made-up runs, votes and cycles of the tests.

PYTHONPATH=src:tests python tools/web_screenshots.py [FOLDER, by default docs/figures]
"""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta
from io import BytesIO
from pathlib import Path

from PIL import Image
from sqlalchemy import select

from browser import browser
from pages_site import pages_site
from palate.artifacts import read_json, write_json
from palate.store.loop_tables import Cycle, CycleStep
from run_files import run_facts, write_run
from sites import Site, running

# Name, page, width, height, colours; of the loop the whole page.
SHOTS = (
    ("runs", "/runs", 1280, 760, "light"),
    ("run-dark", "/runs/dpo-beta-0.3", 1280, 760, "dark"),
    ("sweep", "/runs/beta", 1280, 760, "light"),
    ("lineage", "/models/v1.1", 1280, 880, "light"),
    ("loop", "/loop/support", 1280, 900, "light"),
    ("phone", "/models", 390, 844, "light"),
)
STEPS = ("collect", "sample", "candidates", "annotate", "pairs", "train", "evaluate", "gate", "canary")
MINUTES = (5, 1, 46, 1410, 2, 188, 45, 1, 1394)


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        site = _site(Path(temporary))
        with running(site.app) as address, browser() as found:
            for name, path, width, height, colours in SHOTS:
                page = found.new_page(viewport={"width": width, "height": height}, color_scheme=colours)
                page.goto(address + path)
                file = folder / f"web-{name}.png"
                image = Image.open(BytesIO(page.screenshot(full_page=name == "loop"))).convert("RGB").quantize(128)
                image.save(file, "PNG", optimize=True)
                print(f"{file}: {file.stat().st_size / 1000:.0f} kB")
                page.close()


def _site(folder: Path) -> Site:
    """The site of the tests, with names that a reader understands, and a cycle that waits for a signature."""
    site, runs = pages_site(folder, text="anna", local=True), folder / "runs"
    for gone in ("broken", "rounds"):
        (runs / gone).rename(folder / gone)
    sweep = (runs / "sweep").rename(runs / "beta")
    facts = read_json(sweep / "sweep.json")
    points = [{**point, "values": {"pref_beta": point["values"]["pref_beta"]}} for point in facts["points"]]
    write_json(sweep / "sweep.json", {**facts, "keys": ["pref_beta"], "points": points})
    second = read_json(sweep / "pref_beta-0.1" / "run.json")
    (runs / "live").rename(folder / "live")
    live = {"status": "running", "finished": None, "timings": None, "health": [], "progress": second["progress"]}
    (write_run(runs / "dpo-beta-0.3", steps=30, seed=5, run={**run_facts(), **live}) / "accuracy.json").unlink()

    def steps(session) -> None:  # type: ignore[no-untyped-def]
        cycle = session.scalars(select(Cycle).where(Cycle.number == 2)).one()
        for step in session.scalars(select(CycleStep).where(CycleStep.cycle_id == cycle.id)):
            session.delete(step)
        session.flush()
        row, at = {"cycle_id": cycle.id, "input_hash": "i", "attempts": 1}, cycle.started
        for name, minutes in zip(STEPS, MINUTES, strict=True):
            start, at = at, at + timedelta(minutes=minutes)
            session.add(CycleStep(name=name, state="done", started=start, finished=at, output={}, **row))
        waits = "a person to sign the verdict on v1.1"
        session.add(CycleStep(name="deploy", state="waiting", started=at, waits_for=waits, output={}, **row))

    site.store.write(steps)
    return site


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "docs" / "figures")
