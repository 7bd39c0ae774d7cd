"""`palate loop debug` writes the same facts as a page, Markdown and JSON."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from browser import browser, needs_browser, serious_findings
from cycle_results import WIN_RATE, check, gate, write_cycle
from labelling import labelling
from model_folders import fake_model
from palate.artifacts import read_json, write_json
from palate.cli.main import main
from palate.registry import add, promote, set_canary
from palate.store import open_store


def test_page_markdown_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cycle = write_cycle(tmp_path / "0002")
    text = "<b>it</b> is\n| a row"
    regression = {**WIN_RATE["regressions"][0], "a": text, "reason": "left it out"}
    write_json(cycle / "winrate" / "winrate.json", {**WIN_RATE, "regressions": [regression]})
    assert main(["loop", "debug", str(cycle), "-o", str(tmp_path / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [Path(path).name for path in printed["files"]] == ["debug.html", "debug.md", "debug.json"]
    facts = read_json(tmp_path / "out" / "debug.json")
    assert (facts["kind"], facts["acts"]) == ("debug", printed["acts"])
    page, markdown = ((tmp_path / "out" / f"debug.{kind}").read_text() for kind in ("html", "md"))
    for part in ("INCONCLUSIVE (attempt 2): share judged", "Next acts", "Worst regressions", "Label conflicts", "code"):
        assert part in page
        assert part in markdown
    assert "&lt;b&gt;it&lt;/b&gt; is" in page
    assert "<script" not in page
    assert "\\<b\\>it\\</b\\> is \\| a row" in markdown
    assert "Judge: left it out" in markdown
    assert main(["loop", "debug", str(cycle), "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("1. run the same `palate eval winrate` again")


def test_votes_of_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    store = open_store(url, create=True)
    campaign = labelling(store, 2, people=2, votes_per_item=2)
    campaign.label(0, "first")
    campaign.label(1, "second")
    store.close()
    write_json(tmp_path / "gate.json", gate(check("judge card")))
    command = [
        "loop",
        "debug",
        str(tmp_path / "gate.json"),
        "-o",
        str(tmp_path / "out"),
        "--campaign",
        "c",
        "--store",
        url,
    ]
    assert main(command) == 0
    found = read_json(tmp_path / "out" / "debug.json")["conflicts"]
    assert found["votes_of_people"] == 2
    assert main(["loop", "debug", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err


@needs_browser
def test_the_page_fits_a_phone_and_reads_without_a_mouse(tmp_path: Path) -> None:
    cycle = write_cycle(tmp_path / "0002")
    long = {**WIN_RATE["regressions"][0], "a": "a long answer " * 200, "id": "i" * 90}
    write_json(cycle / "winrate" / "winrate.json", {**WIN_RATE, "regressions": [long]})
    assert main(["loop", "debug", str(cycle), "-o", str(tmp_path / "out")]) == 0
    with browser() as found:
        for width, scheme in ((390, "dark"), (1280, "light")):
            page = found.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(f"file://{tmp_path / 'out' / 'debug.html'}")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert serious_findings(page) == []


def test_an_ended_canary_is_said_first(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    with closing(open_store(url, create=True)) as store:
        for number, name in enumerate(("old", "new")):
            add(store, fake_model(tmp_path / name, number), models_dir=tmp_path / "models", who="ann", name=name)
        promote(store, "old", reason="first", who="ann")
        set_canary(store, "new", 0.1, who="ann", reason="try")
        set_canary(store, "new", 0.0, who="palate", reason="thumbs down 12 of 80, before 3 of 90")
    write_json(tmp_path / "gate.json", gate(outcome="PASS"))
    assert main(["loop", "debug", str(tmp_path / "gate.json"), "-o", str(tmp_path / "out"), "--store", url]) == 0
    facts = read_json(tmp_path / "out" / "debug.json")
    assert [one["rule"] for one in facts["acts"]] == ["canary"]
    page = (tmp_path / "out" / "debug.md").read_text()
    assert "The canary was ended: thumbs down 12 of 80, before 3 of 90" in page
