"""Names in paths lead to no file, and to no error of ours."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.web.app import route_roles
from palate.web.static_files import static_files
from sites import Site, raw_get

CANARY = b"CANARY-of-a-file-beside-the-database"
PARTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "%2e%2e", "%2E%2e", "..%2f", "%2f", "%5c", "\\", "..\\", "%00", "\x00", "%0a", "C:",
         "c:\\windows", "nul", "con.txt", "/etc/passwd", "%2fetc%2fpasswd", "file:", "~", "~root", "..;",
         "%c0%ae%c0%ae", "%u002e", "....//", "secret.txt", "palate.db", "style.css", "%252e%252e", "%ff", "$HOME",
         "*", "?", "#", " ", "ä", "\u202e"]
    ),
    st.text(max_size=12),
)  # fmt: skip
TARGETS = st.lists(PARTS, min_size=1, max_size=8).map("/".join)
CASES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def encoded(text: str) -> str:
    """As far as it must be to stand in a request line; dots, slashes and percent signs stay as they are."""
    return quote(text, safe="/\\%:;.~$*")


@CASES
@given(target=TARGETS)
def test_static_files(site: Site, tmp_path: Path, target: str) -> None:
    (tmp_path / "secret.txt").write_bytes(CANARY)
    status, body = raw_get(site.app, f"/static/{encoded(target)}")
    assert CANARY not in body
    assert b"root:" not in body
    if status == 200:
        assert body in {file.content for file in static_files().values()}
    else:
        assert status == 404


@pytest.fixture
def cookie(site: Site) -> str:
    name = site.settings.session_cookie
    return f"{name}={site.client('admin').cookies[name]}"


@CASES
@given(target=TARGETS)
def test_every_route_with_a_parameter(site: Site, tmp_path: Path, cookie: str, target: str) -> None:
    (tmp_path / "secret.txt").write_bytes(CANARY)
    with_parameter = [path for method, path in route_roles(site.app) if method == "GET" and "{" in path]
    assert with_parameter
    for path in with_parameter:
        parts = [part if "{" not in part else encoded(target) for part in path.split("/")]
        status, body = raw_get(site.app, "/".join(parts), cookie)
        assert status < 500, path
        assert CANARY not in body
        assert b"Traceback" not in body


@CASES
@given(target=TARGETS)
def test_any_path(site: Site, cookie: str, target: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "TRACE"):
        status, body = raw_get(site.app, f"/{encoded(target)}?next={encoded(target)}", cookie, method)
        assert status < 500
        assert b"Traceback" not in body
