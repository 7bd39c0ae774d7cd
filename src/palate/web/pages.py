"""From a template to a response: autoescaped, invisible characters shown, with the CSRF token of the browser."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from palate.charts.text import number, percent, visible
from palate.report.html import value
from palate.web.markdown import to_html
from palate.web.security.headers import HEADERS
from palate.web.security.tokens import give_cookie, page_token
from palate.web.state import state
from palate.web.static_files import address


def render(
    request: Request, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """The page of a template in `web/templates`.

    Templates have `values`, and: `person` (None if nobody is logged in), `csrf_token`, `links` (those of the navigation
    that the person may open), `local` (whether the server has no accounts), `static(name)` (the address of a file of
    `web/static`), the filters `markdown`, `number`, `percent`
    and `value` (of JSON).
    """
    site = state(request)
    person = site.local or getattr(request.state, "person", None)
    page = environment().get_template(template)
    text = page.render(
        person=person,
        csrf_token=page_token(request, site.settings),
        links=[link for link in site.links if person is not None and person.may(link.role)],
        local=site.local is not None,
        path=request.url.path,
        **values,
    )
    response = HTMLResponse(text, status_code=status, headers={**HEADERS, **(headers or {})})
    give_cookie(request, response, site.settings)
    return response


@cache
def environment() -> jinja2.Environment:
    """Jinja2 with the settings of the pages; an undefined name is an error."""
    found = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("palate.web", "templates"),
                jinja2.PrefixLoader({"report": jinja2.PackageLoader("palate.report", "templates")}),
            ]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda item: item if isinstance(item, Markup) else visible(item),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["static"] = address
    found.filters |= {"markdown": to_html, "number": number, "percent": percent, "value": value}
    return found
