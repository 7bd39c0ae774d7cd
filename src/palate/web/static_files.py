"""The files of `web/static`, read once: no path of a request reaches the file system."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from palate.charts import stylesheet
from palate.report.html import own_style
from palate.web.security.people import Anyone

router = APIRouter()

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_YEAR = 31_536_000


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file as it is sent.

    Attributes:
        content: its bytes.
        media_type: by the ending of its name.
        version: start of the content's SHA-256; part of its address, so browsers may keep it.
    """

    content: bytes
    media_type: str
    version: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """The files by name: those of the folder, and the style sheets of palate's charts and colours, and of its reports.

    That of the reports counts within elements of the class `report` only.
    """
    found = {"charts.css": stylesheet().encode(), "report.css": f".report {{\n{own_style()}}}\n".encode()}
    for file in resources.files("palate.web").joinpath("static").iterdir():
        if file.is_file():
            found[file.name] = file.read_bytes()
    return {
        name: StaticFile(content, _TYPES[name.rpartition(".")[2]], hashlib.sha256(content).hexdigest()[:16])
        for name, content in sorted(found.items())
    }


def address(name: str) -> str:
    """The address of a static file, with its version."""
    return f"/static/{name}?v={static_files()[name].version}"


@router.get("/static/{name}", dependencies=[Anyone])
def static_file(request: Request, name: str, v: str = "") -> Response:
    """A file; browsers keep it for a year if its version was asked for."""
    file = static_files().get(name)
    if file is None:
        raise HTTPException(404)
    etag = f'"{file.version}"'
    kept = f"public, max-age={_YEAR}, immutable" if v == file.version else "no-cache"
    headers = {"ETag": etag, "Cache-Control": kept}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
