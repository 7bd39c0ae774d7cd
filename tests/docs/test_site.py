"""The docs site builds without the network, the same each time, and needs nothing from elsewhere."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from browser import CHROMIUM, browser, serious_findings
from doc_pages import DOCS, PAGES, REPOSITORY

ZENSICAL = shutil.which("zensical") or shutil.which("zensical", path=str(Path(sys.executable).parent))
LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=["']?(https?:[^"'\s>]+)""")


def build(folder: Path) -> dict[str, str]:
    """Builds the site in a folder with copies of its sources; the hash of each file of the result."""
    shutil.copytree(DOCS, folder / "docs")
    shutil.copy(REPOSITORY / "mkdocs.yml", folder)
    # No address is reachable through this proxy.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [str(ZENSICAL), "build", "--clean", "--strict"],
        cwd=folder,
        env={**os.environ, **nowhere, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = folder / "site"
    return {
        path.relative_to(site).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in site.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.skipif(ZENSICAL is None, reason="zensical is not installed: pip install 'palate[docs]'")
def test_the_site_builds_twice_with_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first = build(tmp_path / "first")
    assert build(tmp_path / "second") == first
    for page in PAGES:
        name = page.relative_to(DOCS).with_suffix(".html").as_posix().replace("README.html", "index.html")
        assert name in first
    assert {"search.json", "index.html"} <= set(first)
    site = tmp_path / "first" / "site"
    loaded = {url for path in site.rglob("*.html") for url in LOADED.findall(path.read_text(encoding="utf-8"))}
    assert loaded == set(), "the pages load something from elsewhere"
    text = (site / "quickstart.html").read_text(encoding="utf-8")
    assert "palate init" in text
    assert '<a href="formats.html">' in text


@pytest.mark.slow
@pytest.mark.skipif(ZENSICAL is None, reason="zensical is not installed: pip install 'palate[docs]'")
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_pages_opened_from_the_disk_can_be_searched_and_used_without_a_mouse(tmp_path: Path) -> None:
    build(tmp_path)
    with browser() as chromium:
        for width, scheme in itertools.product((1280, 390), ("light", "dark")):
            page = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
            for name in ("index", "objectives", "plan", "tutorials/gpus"):
                page.goto((tmp_path / "site" / f"{name}.html").as_uri())
                page.locator(".md-typeset__scrollwrap[tabindex]").first.wait_for()
                assert serious_findings(page) == [], (name, width, scheme)
        page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "site" / "index.html").as_uri())
        page.keyboard.press("Control+k")
        page.get_by_placeholder("Search").fill("reference_cache")
        found = page.get_by_text(re.compile(r"^\d+ results?$"))
        found.wait_for(timeout=20_000)
        assert int(found.inner_text().split()[0]) >= 2
    assert requests
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
