"""Payloads as names, reasons, errors and values of runs: no page of `palate web` gets foreign elements."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from pages_site import ANSWER, pages_site
from payloads import PAYLOADS
from run_files import write_run
from sites import Structure, make_site

PAGE = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
ALL = "\n".join(PAYLOADS).replace("\x00", "\ufffd")
PATHS = (
    "/runs",
    "/runs/dpo",
    "/runs/live",
    "/runs/rounds",
    "/runs/sweep",
    "/compare",
    "/compare?run=dpo&run=kto",
    "/models",
    "/models/v1.0",
    "/models/v1.1",
    "/models/v1.1/votes",
    f"/models/find?id={ANSWER}",
    "/models/find?id=vote-003",
    "/loop",
    "/loop/support",
)


def structures(folder: Path, text: str) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    folder.mkdir()
    site = pages_site(folder, text=text, votes=6)
    client = site.client("admin")
    found = {}
    for path in PATHS:
        page = client.get(path, headers=PAGE)
        assert page.status_code == 200, path
        found[path] = Structure(page.text).tags
    site.store.close()
    return found


def test_payloads_change_no_element_of_any_page(tmp_path: Path) -> None:
    harmless = "".join("\n" if character == "\n" else "x" for character in ALL)
    expected = structures(tmp_path / "harmless", harmless)
    found = structures(tmp_path / "payloads", ALL)
    assert [path for path in PATHS if found[path] != expected[path]] == []


def test_payloads_as_names_of_runs(tmp_path: Path) -> None:
    names = [one.replace("/", "|")[:120] for one in PAYLOADS[:36:3]]
    for name in {*names, *("x" * len(name) for name in names)}:
        write_run(tmp_path / "runs" / name, steps=2)
    site = make_site(tmp_path, local=True, runs=(tmp_path / "runs",))
    client = site.client()
    failed = []
    for name in names:
        mine, other = (client.get(f"/runs/{quote(one, safe='')}", headers=PAGE) for one in (name, "x" * len(name)))
        assert (mine.status_code, other.status_code) == (200, 200), name
        failed += [name] if Structure(mine.text).tags != Structure(other.text).tags else []
    assert failed == []
    for path in ("/runs", "/compare"):
        tags = {tag for tag, _ in Structure(client.get(path, headers=PAGE).text).tags}
        assert tags.isdisjoint({"img", "iframe", "svg", "math", "style", "object", "base", "details", "textarea"})
    site.store.close()
