"""The list of runs, one run, its reports, and the comparison."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages_site import pages_site, runs_site
from palate.web.trainings import routes
from run_files import write_run
from sites import Site, raw_get

PAGE = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = pages_site(tmp_path_factory.mktemp("pages"), local=True)
    yield made
    made.store.close()


def get(site: Site, path: str, status: int = 200) -> str:
    found = site.client().get(path, headers=PAGE)
    assert found.status_code == status, found.text
    return found.text


def row_of(page: str, name: str) -> str:
    (row,) = (row for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if f'">{name}</a>' in row)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)).strip()


def test_the_list_has_state_figures_health_and_problems(site: Site) -> None:
    page = get(site, "/runs")
    assert row_of(page, "dpo") == (
        "dpo completed DPO sigmoid of SmolLM2-135M-Instruct Held-out accuracy 85.8 % Reward accuracy 88.0 % "
        "Reward margin 1.45 chosen falls"
    )
    assert row_of(page, "live").startswith("live running DPO sigmoid")
    assert row_of(page, "broken").startswith("broken unreadable run.json: not valid JSON at line 1")
    assert "pipeline of 1 run" in page
    assert str(site.settings.runs) not in page
    assert page.count('name="run"') == 6  # what cannot be read cannot be compared


def test_the_list_follows_every_change_of_a_run(tmp_path: Path) -> None:
    site, run = runs_site(tmp_path), tmp_path / "runs" / "dpo"
    assert "Held-out accuracy 85.8 %" in row_of(get(site, "/runs"), "dpo")
    (run / "accuracy.json").unlink()
    assert "Held-out accuracy" not in row_of(get(site, "/runs"), "dpo")
    before = (run / "run.json").stat()
    (run / "run.json").write_text('{"status": "stopped"}')
    os.utime(run / "run.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert row_of(get(site, "/runs"), "dpo").startswith("dpo stopped")
    site.store.close()


def test_long_lists_have_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "PAGE", 6)
    first, second = get(site, "/runs"), get(site, "/runs?page=2")
    assert (first.count('scope="row"'), second.count('scope="row"')) == (6, 3)
    assert 'href="/runs?page=2"' in first
    assert get(site, "/runs?page=99").count('scope="row"') == 0
    get(site, "/runs?page=0", 422)


def test_a_finished_run_shows_its_report_and_the_version_made_of_it(site: Site) -> None:
    page = get(site, "/runs/dpo")
    for expected in ("Preference accuracy", "pref_beta", "Gradient norm", "Answer 0 is plain", "<svg", "85.8 %"):
        assert expected in page
    assert "hx-get" not in page
    assert "<style" not in page
    assert 'href="/models/v1.1"' in get(site, "/runs/cycle/train")


def test_a_running_run_renews_itself_when_something_was_written(site: Site, tmp_path: Path) -> None:
    page = get(site, "/runs/live")
    (address,) = re.findall(r'hx-get="(/runs/live\?seen=[^"]+)"', page)
    client = site.client()
    assert client.get(address).status_code == 204
    assert site.settings.runs is not None
    metrics = site.settings.runs[0] / "live" / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write('{"step": 31, "split": "train", "loss": 0.123456}\n')
    os.utime(metrics, (time.time() + 1, time.time() + 1))
    again = client.get(address)
    assert again.status_code == 200
    assert "0.123" in again.text


def test_a_run_that_writes_nothing_any_more_says_so(tmp_path: Path) -> None:
    site = runs_site(tmp_path)
    long_ago = time.time() - 3 * 3600
    for file in (tmp_path / "runs" / "live").iterdir():
        os.utime(file, (long_ago, long_ago))
    assert "nothing written for 3 hours" in get(site, "/runs")
    page = get(site, "/runs/live")
    assert "written nothing for 3 hours" in page
    (address,) = re.findall(r'hx-get="(/runs/live\?seen=[^"]+)"', page)
    assert site.client().get(address).status_code == 204
    site.store.close()


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/runs/nothing", "There is no run nothing."),
        ("/runs/winrate", "There is no run winrate."),
        ("/runs/dpo/", "There is no run dpo/."),
        ("/reports/dpo/run.json", "There is no report dpo/run.json."),
        ("/reports/dpo/../kto/report.html", "There is no report kto/report.html."),
        ("/reports/report.html", "There is no report report.html."),
        ("/compare?run=dpo&run=nothing", "There is no run nothing."),
    ],
)
def test_what_is_not_there_is_one_line(site: Site, path: str, line: str) -> None:
    assert f"<p>{line}</p>" in get(site, path, 404)


def test_a_damaged_run_has_a_page_with_its_problem(site: Site) -> None:
    assert "This run cannot be read: run.json: not valid JSON" in get(site, "/runs/broken")


def test_json_of_another_form_is_a_problem_and_no_error(tmp_path: Path) -> None:
    site = runs_site(tmp_path)
    odd = write_run(tmp_path / "runs" / "odd", steps=2, run={"timings": [1], "health": {"a": 1}, "model": "text"})
    (odd / "accuracy.json").write_text('{"policy": {"estimate": "x", "low": [], "high": {}}, "n": "many"}')
    (odd / "metrics.jsonl").write_text('{"step": 1, "loss": {"a": 1}}\n[1]\n')
    for name, facts in (
        ("health", {"points": [{"name": "a", "health": 5}]}),
        ("keys", {"points": [{"name": "a"}], "keys": None}),
        ("steps", {"status": "running", "progress": {"steps": float("inf"), "step": 0}}),
    ):
        folder = write_run(tmp_path / "runs" / name, steps=2)
        if "points" in facts:
            (folder / "run.json").unlink()
        (folder / ("sweep.json" if "points" in facts else "run.json")).write_text(json.dumps(facts))
    page = get(site, "/runs")
    assert "odd" in page
    assert row_of(page, "health").startswith("health unreadable its files are not those of a sweep")
    assert row_of(page, "steps").startswith("steps unreadable its files are not those of a run")
    assert "This sweep cannot be read: its files are not those of a sweep" in get(site, "/runs/keys")
    assert get(site, "/runs/odd")
    assert get(site, "/compare?run=odd&run=dpo")
    site.store.close()


def test_reports_are_sent_without_any_rights(site: Site) -> None:
    for path, text in (("dpo/report.html", "Report of dpo"), ("cycle/debug/debug.html", "What went wrong")):
        found = site.client().get(f"/reports/{path}")
        assert text in found.text
        policy = found.headers["content-security-policy"].split("; ")
        assert {"sandbox", "default-src 'none'", "frame-ancestors 'none'", "form-action 'none'"} <= set(policy)
        assert not any("script" in part or "allow" in part for part in policy)
        assert found.headers["x-content-type-options"] == "nosniff"


TARGETS = (
    *("../secret.html", "dpo/../../secret.html", "%2e%2e/secret.html", "dpo/%2e%2e/%2e%2e/secret.html", "/etc/passwd"),
    *("..%2f..%2fsecret.html", "dpo/report.html%00", "dpo%2freport.html/../../../secret.html", "out/report.html"),
    *("in/report.html", "in", "out"),
)


def test_no_path_leads_out_of_the_folders(tmp_path: Path) -> None:
    site = runs_site(tmp_path)
    runs = tmp_path / "runs"
    (tmp_path / "secret.html").write_text("SECRET")
    outside = write_run(tmp_path / "outside", steps=2, run={"notices": ["SECRET"]})
    (outside / "report.html").write_text("SECRET")
    (runs / "out").symlink_to(outside)
    (runs / "in").mkdir()
    (runs / "in" / "run.json").symlink_to(outside / "run.json")
    (runs / "in" / "report.html").symlink_to(outside / "report.html")
    for page in ("reports", "runs", "compare"):
        for target in TARGETS:
            path = f"/compare?run=dpo&run={target}" if page == "compare" else f"/{page}/{target}"
            status, body = raw_get(site.app, path)
            assert status in ((404,) if target != "in" else (200, 400, 404)), path
            assert b"SECRET" not in body
            assert b"root:" not in body
    assert "This run cannot be read: run.json is a link out of the folder" in get(site, "/runs/in")
    site.store.close()


def test_comparison_of_two_runs_with_what_was_measured_about_them(site: Site) -> None:
    page = get(site, "/compare?run=dpo&run=kto")
    for expected in ("learning_rate", "Pairs ranked as labelled", "dpo against kto", "77.8 %", "XSTest", "Answers"):
        assert expected in page
    assert page.index('<th scope="col">dpo</th>') < page.index('<th scope="col">kto</th>')
    other = get(site, "/compare?run=live&run=kto")
    assert "XSTest" not in other


def test_a_damaged_result_is_named_beside_the_comparison(tmp_path: Path) -> None:
    site = runs_site(tmp_path)
    (tmp_path / "runs" / "winrate" / "winrate.json").write_text("{")
    page = get(site, "/compare?run=dpo&run=kto")
    assert "winrate: winrate.json: is no JSON" in page
    assert "XSTest" in page
    site.store.close()


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 200, "Choose two to six runs"),
        ("run=dpo", 200, "Choose 2 to 6 runs; 1 run chosen."),
        ("run=dpo&run=dpo", 200, "Choose 2 to 6 runs; 1 run chosen."),
        ("run=dpo&run=broken", 400, "broken: run.json: not valid JSON"),
        ("run=dpo&run=kto&choose=1", 200, 'value="kto" checked'),
    ],
)
def test_too_few_runs_lead_to_the_choice(site: Site, query: str, status: int, text: str) -> None:
    assert text in get(site, f"/compare?{query}", status)


def test_too_many_runs_are_refused(tmp_path: Path) -> None:
    site = runs_site(tmp_path)
    names = [f"run{number}" for number in range(7)]
    for name in names:
        write_run(tmp_path / "runs" / name, steps=2)
    page = get(site, "/compare?" + "&".join(f"run={name}" for name in names), 400)
    assert "Choose 2 to 6 runs; 7 runs chosen." in page
    assert page.count(" checked>") == 7
    site.store.close()


def test_folders_that_do_not_exist_yet_are_an_empty_list(local_site: Site) -> None:
    page = get(local_site, "/runs")
    assert "There is no run in these folders yet." in page
    assert "runs: there is no such folder" in page
    assert "There is no run in these folders yet." in get(local_site, "/compare")
