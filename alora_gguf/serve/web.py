"""The web page at /: files that ask for nothing from elsewhere."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_HEADERS = {
    # scripts and styles are the page's own files; no text becomes HTML, not even by mistake
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # a newer server has a newer page
}


class Page(StaticFiles):
    """What is asked for that is no endpoint: a file of the page, or nothing (404)."""

    def __init__(self) -> None:
        super().__init__(directory=Path(__file__).with_name("page"), html=True)

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            _, found = self.lookup_path("index.html" if path == "." else path)
            raise HTTPException(404 if found is None else 405, headers=None if found is None else {"Allow": "GET, HEAD"})
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response
