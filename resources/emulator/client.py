"""HTTP calls to the emulator service, and the failure class of whatever goes wrong.

Here: one call, its limits and its errors. Not here: what is asked (``resources.backends.emulator``). No token gets into
a message.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    import httpx

#: Seconds one call may take in all; a body that dribbles in is given up then.
CALL_SECONDS = 15.0
#: Failure class of an answer; 5xx are transient, anything else is a defect of the backend.
_CLASS = {
    400: FailureClass.CIRCUIT,
    401: FailureClass.CAPABILITY,
    403: FailureClass.CAPABILITY,
    422: FailureClass.CIRCUIT,
    423: FailureClass.SATURATION,
    429: FailureClass.SATURATION,
}


def refused(status: int, said: str, retry_after: float | None = None) -> BackendError:
    """The error of an answer other than 200; with a 4xx the service has certainly not taken a job."""
    return BackendError(
        f"backend emulator answered {status}: {said}",
        FailureClass.TRANSIENT if status >= 500 else _CLASS.get(status, FailureClass.BACKEND),
        retry_after=retry_after,
        not_sent=400 <= status < 500,
    )


def strange(asked: str, kind: FailureClass = FailureClass.TRANSIENT) -> BackendError:
    """The error of an answer that is not shaped like one."""
    return BackendError(f"backend emulator gave an answer about {asked} that cannot be read", kind)


@dataclass
class Client:
    """Calls one service; may be shared by threads."""

    url: str
    token: str = field(repr=False)
    _seen: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict, init=False, repr=False)

    def fresh(self, path: str, seconds: float) -> dict[str, Any]:
        """GET ``path``, or what it answered at most ``seconds`` ago."""
        known = self._seen.get(path)
        if known is None or time.monotonic() - known[0] > seconds:
            known = self._seen[path] = (time.monotonic(), self.call("GET", path))
        return known[1]

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        unreadable: FailureClass = FailureClass.TRANSIENT,
    ) -> dict[str, Any]:
        """One call and its JSON object.

        Args:
            unreadable: failure class of an answer that is no JSON object.

        Raises:
            BackendError: by status; transient when the connection broke or the answer took too long.
        """
        import httpx

        until, content = time.monotonic() + CALL_SECONDS, bytearray()
        asked = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **(headers or {})}
        sent = None if body is None else to_json(body)
        try:
            with _connection(self.url, os.getpid()).stream(method, path, content=sent, headers=asked) as response:
                for chunk in response.iter_bytes():
                    content += chunk
                    if time.monotonic() > until:
                        raise BackendError(
                            f"backend emulator took more than {CALL_SECONDS:g} s to answer", FailureClass.TRANSIENT
                        )
        except httpx.HTTPError as error:
            raise BackendError(
                f"backend emulator cannot be asked ({type(error).__name__})",
                FailureClass.TRANSIENT,
                not_sent=isinstance(error, httpx.ConnectError | httpx.ConnectTimeout),
            ) from None
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if response.status_code != 200:
            raise refused(response.status_code, _reason(answer), _seconds(response.headers.get("retry-after")))
        if not isinstance(answer, dict):
            raise strange(path.partition("?")[0], unreadable)
        return answer


def _reason(answer: Any) -> str:
    try:
        return str(answer["error"]["message"])
    except (KeyError, TypeError):
        return "no reason given"


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


@lru_cache(maxsize=4)
def _connection(url: str, process: int) -> httpx.Client:
    """One per process, kept alive and shared by its threads; a forked process gets its own."""
    import httpx

    return httpx.Client(
        base_url=url,
        timeout=httpx.Timeout(CALL_SECONDS, connect=3.0),
        limits=httpx.Limits(max_keepalive_connections=16, keepalive_expiry=30.0),
        # the environment's proxies are for the internet, and its .netrc would add credentials
        trust_env=False,
    )
