"""Static files: types, versions, and that no path leads elsewhere."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

import palate.web
from palate.charts import stylesheet
from palate.report.html import own_style
from palate.web.static_files import address, static_files
from sites import Site

FOLDER = Path(palate.web.__file__).parent / "static"


def test_every_file_of_the_folder_is_served(site: Site) -> None:
    client = site.client()
    names = {file.name for file in FOLDER.iterdir()}
    assert names | {"charts.css", "report.css"} == set(static_files())
    for name in names:
        found = client.get(f"/static/{name}")
        assert found.content == (FOLDER / name).read_bytes()
        assert found.headers["cache-control"] == "no-cache"
    assert client.get("/static/charts.css").text == stylesheet()
    assert client.get("/static/report.css").text == f".report {{\n{own_style()}}}\n"


def test_browsers_keep_a_file_under_the_address_of_its_version(site: Site) -> None:
    client = site.client()
    digest = hashlib.sha256((FOLDER / "style.css").read_bytes()).hexdigest()
    assert address("style.css") == f"/static/style.css?v={digest[:16]}"
    found = client.get(address("style.css"))
    assert found.headers["content-type"] == "text/css; charset=utf-8"
    assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.get("/static/style.css?v=old").headers["cache-control"] == "no-cache"
    again = client.get("/static/style.css", headers={"If-None-Match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["nothing.css", "__init__.py", "", "style.css/", "STYLE.CSS"])
def test_what_is_not_there_is_not_found(site: Site, name: str) -> None:
    assert site.client().get(f"/static/{name}").status_code == 404


def test_a_file_that_does_not_exist_is_a_mistake_in_a_template() -> None:
    with pytest.raises(KeyError):
        address("nothing.js")


def test_htmx_is_the_file_that_the_decision_names() -> None:
    text = (Path(__file__).parents[2] / "docs" / "decisions" / "0050-web.md").read_text(encoding="utf-8")
    content = (FOLDER / "htmx.min.js").read_bytes()
    assert f"`{hashlib.sha256(content).hexdigest()}`" in text
    version = re.findall(rb'version:"([\d.]+)"', content)
    assert version == [b"2.0.11"]
    assert "htmx.org 2.0.11" in text
    assert "Zero-Clause BSD" in (FOLDER / "htmx.LICENSE.txt").read_text(encoding="utf-8")
