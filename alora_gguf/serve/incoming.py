"""Requests as they come in: whole bodies of a limited size, and clients that hang up or do not read."""

import anyio
import anyio.lowlevel
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .encoding import decoded
from .problem import Problem, as_response


class Incoming:
    """Reads a request's body before the app sees it, decompressed, and cancels the app when the client has gone, or reads nothing.

    n_bytes   most of a body; seconds: most until it has come, and until the client takes a part of the answer
    """

    def __init__(self, app: ASGIApp, *, n_bytes: int, seconds: float):
        self._app = app
        self._n_bytes = n_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            with anyio.fail_after(self._seconds):
                body = await self._body(receive)
            encoding = Headers(scope=scope).get("content-encoding", "")
            body = body and decoded(body, encoding, self._n_bytes)
        except TimeoutError:
            late = Problem(408, f"body: expected it within {self._seconds:g} s, got a part of it")
            await as_response(late, scope["path"])(scope, receive, send)
            return
        except Problem as problem:
            await as_response(problem, scope["path"])(scope, receive, send)
            return
        if body is None:
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Message:
            for message in messages:
                return message
            await anyio.sleep_forever()
            return {"type": "http.disconnect"}  # never

        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            async def patient_send(message: Message) -> None:
                with anyio.move_on_after(self._seconds) as waiting:
                    await send(message)
                if waiting.cancelled_caught:
                    tasks.cancel_scope.cancel()
                    await anyio.lowlevel.checkpoint()  # here it ends

            tasks.start_soon(watch)
            await self._app(scope, replay, patient_send)
            tasks.cancel_scope.cancel()

    async def _body(self, receive: Receive) -> bytes | None:
        """None: the client has gone. Raises Problem."""
        parts, n, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            n += len(parts[-1])
            if n > self._n_bytes:
                raise Problem(413, f"body: expected at most {self._n_bytes} bytes, got more; send less")
            more = message.get("more_body", False)
        return b"".join(parts)
