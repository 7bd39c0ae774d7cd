"""Every route × every role, from the app's own routes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from starlette.staticfiles import StaticFiles

from palate.web.app import route_roles
from palate.web.security.people import ACCESS, Access, Admin, Annotator, Anyone
from sites import Site, csrf, make_site

ALL = ["Label", "Runs", "Compare", "Models", "Loop"]

# A route that is not here fails the test: whoever adds one says here who may call it.
ROUTES: dict[tuple[str, str], Access] = {
    ("GET", "/"): "annotator",
    ("GET", "/account"): "annotator",
    ("GET", "/ask"): "annotator",
    ("GET", "/label"): "annotator",
    ("GET", "/label/{campaign}"): "annotator",
    ("GET", "/label/{campaign}/admin"): "admin",
    ("GET", "/label/{campaign}/agreement"): "admin",
    ("GET", "/label/{campaign}/conflicts"): "reviewer",
    ("GET", "/label/{campaign}/conflicts/{task}"): "reviewer",
    ("GET", "/label/{campaign}/differences"): "annotator",
    ("GET", "/compare"): "reviewer",
    ("GET", "/login"): "anonymous",
    ("GET", "/loop"): "reviewer",
    ("GET", "/loop/{name}"): "reviewer",
    ("GET", "/models"): "reviewer",
    ("GET", "/models/find"): "reviewer",
    ("GET", "/models/{name}"): "reviewer",
    ("GET", "/models/{name}/votes"): "reviewer",
    ("GET", "/reports/{file:path}"): "reviewer",
    ("GET", "/runs"): "reviewer",
    ("GET", "/runs/{name:path}"): "reviewer",
    ("GET", "/static/{name}"): "anonymous",
    ("POST", "/account/password"): "annotator",
    ("POST", "/ask/answers"): "annotator",
    ("POST", "/ask/undo"): "annotator",
    ("POST", "/ask/vote"): "annotator",
    ("POST", "/label/{campaign}/conflicts/{task}"): "reviewer",
    ("POST", "/label/{campaign}/undo"): "annotator",
    ("POST", "/label/{campaign}/vote"): "annotator",
    ("POST", "/login"): "anonymous",
    ("POST", "/logout"): "anonymous",
    ("POST", "/models/{name}/canary/end"): "admin",
    ("POST", "/models/{name}/verdicts/{verdict}"): "admin",
}


def test_every_route_is_listed_with_its_role(site: Site) -> None:
    assert dict(route_roles(site.app)) == ROUTES


@pytest.mark.parametrize("who", ACCESS)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_the_matrix(site: Site, who: Access, method: str, path: str) -> None:
    client = site.client(None if who == "anonymous" else who)
    if who == "anonymous":
        client.get("/login", headers={"Accept": "text/html"})  # for a token
    filled = path.replace("{", "").replace("}", "")
    found = client.request(method, filled, headers=csrf(site, client))
    error = found.json().get("error", "") if "json" in found.headers.get("content-type", "") else ""
    if ACCESS.index(who) >= ACCESS.index(ROUTES[method, path]):
        assert found.status_code < 500
        assert error != "Log in to go on."
        assert not error.startswith("This page is for")
    elif who == "anonymous":
        assert (found.status_code, error) == (401, "Log in to go on.")
    else:
        assert found.status_code == 403
        assert error.startswith("This page is for")


def test_a_server_for_labelling_has_its_own_pages_only(tmp_path: Path) -> None:
    made = make_site(tmp_path)
    others = ("/compare", "/loop", "/models", "/reports", "/runs")
    assert dict(route_roles(made.app)) == {key: role for key, role in ROUTES.items() if not key[1].startswith(others)}
    made.store.close()


@pytest.mark.parametrize(("who", "links"), [("annotator", ["Label"]), ("reviewer", ALL), ("admin", ALL)])
def test_the_navigation_has_what_the_person_may_open(site: Site, who: str, links: list[str]) -> None:
    page = site.client(who).get("/", headers={"Accept": "text/html"}).text
    assert re.findall(r'<li><a href="/\w+">(\w+)</a></li>', page) == links


def test_a_local_site_asks_nobody(local_site: Site) -> None:
    client = local_site.client()
    page = client.get("/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "Log out" not in page.text
    assert client.get("/account").status_code == 404


def test_a_route_without_a_role_is_refused() -> None:
    app = FastAPI(openapi_url=None)
    router = APIRouter()
    app.include_router(router)

    @router.get("/open")
    def open_to_all() -> None: ...

    with pytest.raises(TypeError, match="the route /open declares no role"):
        route_roles(app)


def test_a_mounted_app_is_refused(tmp_path: Path) -> None:
    app = FastAPI(openapi_url=None)
    app.mount("/files", StaticFiles(directory=str(tmp_path)))
    with pytest.raises(TypeError, match="/files"):
        route_roles(app)


def test_the_strictest_of_several_roles_counts() -> None:
    app = FastAPI(openapi_url=None)
    router = APIRouter(dependencies=[Anyone])

    @router.get("/a")
    def for_annotators(who: Annotator) -> None: ...

    @router.get("/b")
    def for_admins(who: Admin, other: Annotator) -> None: ...

    app.include_router(router, prefix="/x")
    assert route_roles(app) == {("GET", "/x/a"): "annotator", ("GET", "/x/b"): "admin"}
