"""Who may ask: API keys, and no web page of somebody else that was not named."""

import hmac
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .problem import Problem, as_response


class Guard:
    """Passes on what may be asked.

    With `keys`, what is under /v1 and the paths in `keyed` need one of them as a bearer token or in `x-api-key`, and the request's
    state says which, as its `cache_salt`: requests of one share what they compute. A browser lets any
    page that is open in it send requests to this machine, and names the page in `Origin`: that has to be
    this server, or one of `origins`, of which "*" is any. With `loopback_only`, the `Host` has to be this machine, as
    a page could give its own name this machine's address; a server with a key needs no such care.
    """

    def __init__(self, app: ASGIApp, *, keys: Sequence[str], loopback_only: bool, keyed: frozenset[str] = frozenset(), origins: Sequence[str] = ()):
        self._app = app
        self._keyed = keyed
        self._origins = origins
        self._keys = [key.encode() for key in keys]
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            cache_salt = self._key_of(headers)
            if problem := self._problem(scope["path"], headers, cache_salt):
                await as_response(problem, scope["path"])(scope, receive, send)
                return
            scope.setdefault("state", {})["cache_salt"] = cache_salt
        await self._app(scope, receive, send)

    def _key_of(self, headers: Headers) -> int | None:
        """Which of the keys a request has."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        for key in (token if scheme.lower() == "bearer" else "", headers.get("x-api-key", "")):
            has = [hmac.compare_digest(key.strip().encode(), k) for k in self._keys]
            if any(has):
                return has.index(True)
        return None

    def _problem(self, path: str, headers: Headers, key: int | None) -> Problem | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _split(f"//{host}")
        if name is None:
            return Problem(400, f"Host: expected a name or an address, got {host!r:.80}; correct it")
        if origin is not None and not {"*", origin} & {*self._origins} and ((page := _split(origin)) is None or page[1] != host):
            return Problem(403, f"Origin: expected this server ({host:.80}), got {origin:.80}; a page of another server needs --cors")
        if not self._keys:
            if self._loopback_only and not is_loopback(name[0]):
                return Problem(403, f"Host: expected localhost, got {host:.80}; start the server with --api-key to give it another name")
        elif key is None and (path.startswith("/v1") or path in self._keyed):
            return Problem(
                401,
                "Authorization: expected a bearer token that this server knows, got none; give the API key, or give it in x-api-key",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return None


def _split(url: str) -> tuple[str, str] | None:
    """Its host, and that with the port; None: it has none that can be read."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.netloc
    except ValueError:
        return None


def is_origin(text: str) -> bool:
    """Whether a browser could name a page so: scheme://host[:port] in small letters, and nothing behind it."""
    try:
        parts = urlsplit(text)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return False
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return bool(parts.scheme and host) and text == f"{parts.scheme}://{host}{port}"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
