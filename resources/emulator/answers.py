"""Answers of the service: refusals, and what the fault plan does to an answer on the wire.

Not here: routes (``service``), or when a fault shows (``faults``).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from resources.emulator.faults import FaultRule


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after
        super().__init__(message)

    def response(self) -> Response:
        """The answer."""
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        return JSONResponse({"error": {"code": self.code, "message": self.message}}, self.status, headers)


async def before(fault: FaultRule, request: Request) -> None:
    """Faults that show before anything is done."""
    if fault.fault == "reset":
        await _hang_up(request, hard=True)
        raise Refused(500, "reset", "nobody hears this")
    if fault.fault.startswith("http_"):
        status = int(fault.fault.removeprefix("http_"))
        raise Refused(status, fault.fault, "as the fault plan says", fault.lasting if status == 429 else None)


async def after(fault: FaultRule, request: Request, response: Response) -> Response:
    """Faults of the answer's way back."""
    if fault.fault == "lost_answer":
        await _hang_up(request, hard=False)
    elif fault.fault == "slow_body":
        return _dribbled(response, fault.lasting)
    return response


def _dribbled(response: Response, seconds: float) -> Response:
    body, pieces = bytes(response.body), 20
    size = max(1, -(-len(body) // pieces))

    async def pieces_of_body() -> Any:
        for start in range(0, len(body), size):
            await asyncio.sleep(seconds / pieces)
            yield body[start : start + size]

    return StreamingResponse(pieces_of_body(), response.status_code, media_type="application/json")


async def _hang_up(request: Request, hard: bool) -> None:
    """Close the connection without a word; ``hard``: with a TCP reset."""
    transport = request.scope["transport"]
    if hard:
        with suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    # until the server has seen that nobody listens, it would try to answer
    await asyncio.sleep(0.01)


class Wire:
    """Hands the connection on to the routes, so that faults can cut it: the server's ``send`` belongs to an object
    that has it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        scope["transport"] = getattr(getattr(send, "__self__", None), "transport", None)
        await self._app(scope, receive, send)


async def body_of(request: Request) -> Any:
    """The JSON body: an object or a list."""
    try:
        document = from_json(await request.body())
    except ValueError:
        raise Refused(400, "no_json", "the body is not JSON") from None
    if not isinstance(document, dict | list):
        raise Refused(400, "no_json", "the body is neither an object nor a list")
    return document
