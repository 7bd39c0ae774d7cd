"""A request that changes something is refused unless one of our own pages has sent it."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from palate.web.app import route_roles
from palate.web.security.tokens import token_of
from sites import HOST, Site, csrf, make_site

OURS = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}


def logged_in(site: Site, client: TestClient) -> bool:
    return client.get("/account").status_code == 200


def test_our_own_form_passes(site: Site) -> None:
    client = site.client("annotator")
    token = csrf(site, client)["X-CSRF-Token"]
    assert client.post("/logout", data={"csrf_token": token}, headers=OURS).status_code == 303
    assert not logged_in(site, client)


def test_a_script_with_the_header_passes(site: Site) -> None:
    client = site.client("annotator")
    assert client.post("/logout", headers=OURS | csrf(site, client)).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another port of this machine
        {"Sec-Fetch-Site": "cross-site", "Origin": f"http://{HOST}"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://{HOST}"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": f"http://{HOST}.evil.example"},
        {"Origin": ""},
    ],
)
def test_other_sites_are_refused_even_with_the_token(site: Site, headers: dict[str, str]) -> None:
    client = site.client("annotator")
    found = client.post("/logout", headers=csrf(site, client) | headers)
    assert found.status_code == 403
    assert "another site" in found.json()["error"]
    assert logged_in(site, client)


@pytest.mark.parametrize("sent", [None, "", "0" * 64, "é", token_of("another browser")])
def test_without_the_right_token_nothing_changes(site: Site, sent: str | None) -> None:
    client = site.client("annotator")
    by_header = client.post("/logout", headers=OURS | ({} if sent is None else {"X-CSRF-Token": sent.encode()}))
    by_field = client.post("/logout", data={} if sent is None else {"csrf_token": sent}, headers=OURS)
    assert (by_header.status_code, by_field.status_code) == (403, 403)
    assert logged_in(site, client)


def test_the_token_of_another_login_is_refused(site: Site) -> None:
    client, other = site.client("annotator"), site.client("admin")
    assert client.post("/logout", headers=OURS | csrf(site, other)).status_code == 403
    assert logged_in(site, client)


def test_a_browser_without_any_cookie_has_no_token(site: Site) -> None:
    client = site.client()
    assert client.post("/login", data={"csrf_token": token_of("")}, headers=OURS).status_code == 403


def test_every_route_that_changes_something_is_guarded(site: Site) -> None:
    paths = [(method, path) for method, path in route_roles(site.app) if method not in ("GET", "HEAD", "OPTIONS")]
    assert ("POST", "/login") in paths
    client = site.client("admin")
    for method, path in paths:
        filled = path.replace("{", "").replace("}", "")
        assert client.request(method, filled, headers=OURS).status_code == 403, path
        foreign = csrf(site, client) | {"Origin": "https://evil.example"}
        assert client.request(method, filled, headers=foreign).status_code == 403, path


def test_no_route_that_only_reads_takes_a_form(site: Site) -> None:
    for method, path in route_roles(site.app):
        if method == "GET":
            assert not any(word in path for word in ("delete", "undo", "logout")), path


def test_a_local_site_is_guarded_as_well(local_site: Site) -> None:
    client = local_site.client()
    assert client.post("/logout", headers=OURS).status_code == 403
    client.get("/", headers={"Accept": "text/html"})
    assert client.post("/logout", headers=OURS).status_code == 403
    assert client.post("/logout", headers=OURS | csrf(local_site, client)).status_code == 303
    foreign = {"Origin": "https://evil.example"}
    assert client.post("/logout", headers=foreign | csrf(local_site, client)).status_code == 403


def test_too_many_fields_are_refused(site: Site) -> None:
    client = site.client("annotator")
    token = csrf(site, client)["X-CSRF-Token"]
    body = "&".join(["a=1"] * 2000 + [f"csrf_token={token}"])
    headers = OURS | {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/logout", content=body, headers=headers).status_code == 403


def test_behind_a_proxy_the_origin_is_https(tmp_path: Path) -> None:
    behind = make_site(tmp_path, https=True, names=("label.example.org",))
    client = behind.client("annotator")
    headers = csrf(behind, client) | {"Host": "label.example.org", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/logout", headers=headers | {"Origin": "http://label.example.org"}).status_code == 403
    assert client.post("/logout", headers=headers | {"Origin": "https://label.example.org"}).status_code == 303
    behind.store.close()
