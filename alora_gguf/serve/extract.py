"""POST /extract: the text of a document, for a page that attaches it."""

import threading

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..documents.reader import text_of
from .problem import Problem
from .service import Service


async def extract(service: Service, request: Request) -> Response:
    """The body is the file as it is, ?name= its name, ?pages= which pages of a PDF, as 3-7."""
    asked = request.query_params
    if unknown := [name for name in asked if name not in ("name", "pages")]:
        raise Problem(400, f"{unknown[0]}: expected name and pages, got another parameter; leave it out", param=unknown[0])
    name = asked.get("name", "").replace("\\", "/").rpartition("/")[2].strip()[-255:]
    if not name:
        raise Problem(400, "name: expected the file's name as /extract?name=report.pdf, got none; give it", param="name")
    data = await request.body()
    stop = threading.Event()
    await service.reading.enter()
    try:
        document = await to_thread.run_sync(lambda: text_of(data, name, pages=asked.get("pages"), stop=stop), abandon_on_cancel=True)
    finally:
        stop.set()  # where the client has gone
        service.reading.leave()
    said = {"title": document.title, "text": document.text, "kind": document.kind, "pages": document.pages, "note": document.note}
    return JSONResponse({name: value for name, value in said.items() if value is not None})
