"""Failure classes: every failure has one, and the class alone decides what happens next.

Here: the classes, what each leads to, and the exceptions that carry them. Not here: retry loops (tenacity, in the
dispatcher) or messages of a single reader.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any


class FailureClass(StrEnum):
    """Recoverability of a failure (design, contracts)."""

    INPUT = "input"
    CAPABILITY = "capability"
    TRANSIENT = "transient"
    SATURATION = "saturation"
    BACKEND = "backend"
    CIRCUIT = "circuit"
    INTERNAL = "internal"


#: What the dispatcher does next: ``stop`` (tell somebody), ``retry`` (same backend, backoff), ``reroute`` (next
#: backend of the fallback policy).
CONSEQUENCE: dict[FailureClass, str] = {
    FailureClass.INPUT: "stop",
    FailureClass.CAPABILITY: "reroute",
    FailureClass.TRANSIENT: "retry",
    FailureClass.SATURATION: "reroute",
    FailureClass.BACKEND: "reroute",
    FailureClass.CIRCUIT: "stop",
    FailureClass.INTERNAL: "stop",
}


class HybridError(Exception):
    """Base of all errors this project raises on purpose."""

    failure_class: FailureClass = FailureClass.INTERNAL


class InputError(HybridError):
    """Somebody's file or option is wrong; the message names the file, the field and the fix.

    Args:
        file: the file's name as the user gave it (or the option's name).
        field: the line, column, key or row that is wrong.
        problem: what is wrong with it, with the offending value.
        fix: what to change.
    """

    failure_class = FailureClass.INPUT
    #: What the message says between the file and the field.
    verdict = ""

    def __init__(self, file: str, field: str, problem: str, fix: str) -> None:
        self.file, self.field, self.problem, self.fix = file, field, problem, fix
        super().__init__(f"{file}: {self.verdict}{field}: {problem}; {fix}.")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str, str]]:
        return (type(self), (self.file, self.field, self.problem, self.fix))


class InfeasibleError(InputError):
    """The input is well formed and certainly has no solution (demand above capacity, constraints that contradict each
    other). Only for what is proven: a search that found nothing proves nothing."""

    verdict = "no solution exists: "


class BackendError(HybridError):
    """A backend could not do a job; ``failure_class`` says whether to retry, reroute or stop.

    Args:
        message: what happened, without secrets and without the payload.
        failure_class: what happens next.
        retry_after: seconds the provider asks to wait before the next call, where it says so.
        not_sent: the request certainly never reached the provider (no connection, a name that is not found).
    """

    def __init__(
        self,
        message: str,
        failure_class: FailureClass = FailureClass.BACKEND,
        *,
        retry_after: float | None = None,
        not_sent: bool = False,
    ) -> None:
        self.failure_class, self.retry_after, self.not_sent = failure_class, retry_after, not_sent
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuilt, (type(self), str(self), self.failure_class, self.retry_after, self.not_sent))


class TimedOut(BackendError):
    """A job was stopped at its time or memory limit: nothing will come of it on this backend.

    Class ``capability``: the next backend is asked, and no breaker counts it.
    """

    def __init__(self, message: str, failure_class: FailureClass = FailureClass.CAPABILITY, **more: Any) -> None:
        super().__init__(message, failure_class, **more)


def _rebuilt(
    kind: type[BackendError], message: str, failure_class: FailureClass, retry_after: float | None, not_sent: bool
) -> BackendError:
    return kind(message, failure_class, retry_after=retry_after, not_sent=not_sent)


#: Names of exceptions of requests, urllib3, httpx and Python that mean: there was no connection.
_UNCONNECTED = {
    "ConnectError", "ConnectTimeout", "ConnectTimeoutError", "NewConnectionError", "NameResolutionError",
    "ConnectionRefusedError", "gaierror",
}  # fmt: skip
#: … and: there was one, and it broke; it may have carried the request.
_BROKEN = {
    "ConnectionResetError", "ConnectionAbortedError", "BrokenPipeError", "RemoteDisconnected", "ProtocolError",
    "RemoteProtocolError", "ReadError", "ReadTimeout", "ReadTimeoutError", "WriteError", "WriteTimeout",
}  # fmt: skip


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those it replaced, the newest first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def never_connected(error: BaseException) -> bool:
    """Whether a client's error leaves no doubt that its request did not leave: no connection came about, also not at
    an attempt before it. For ``BackendError(..., not_sent=…)``."""
    names = {kind.__name__ for one in causes(error) for kind in type(one).__mro__}
    return bool(names & _UNCONNECTED) and not names & _BROKEN


#: A variable of the environment with one of these in its name holds a secret.
_SECRET = re.compile("TOKEN|SECRET|PASSWORD|PASSPHRASE|CREDENTIAL|API_KEY|APIKEY|ACCESS_KEY|PRIVATE_KEY", re.IGNORECASE)


def secrets() -> dict[str, str]:
    """Values of the environment that nobody may see, with their names, the longest first."""
    found = {v: n for n, v in os.environ.items() if len(v) >= 6 and _SECRET.search(n)}
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def redacted(text: str, limit: int = 500) -> str:
    """A foreign text made fit for a table: one line, cut, of characters that every database stores, and without the
    value of any secret of the environment."""
    text = text.encode(errors="replace").decode().replace("\0", "")
    for value, name in secrets().items():
        text = text.replace(value, f"<{name}>")
    return " ".join(text.split())[:limit]


def presentable(error: Exception) -> HybridError:
    """An exception fit to be raised and recorded: one of ours without secrets, a foreign one (which may quote what it
    was given) as a ``BackendError`` of class ``internal`` with its type and first line."""
    if isinstance(error, BackendError):
        return _rebuilt(type(error), redacted(str(error)), error.failure_class, error.retry_after, error.not_sent)
    if isinstance(error, HybridError):
        return error
    return BackendError(redacted(f"{type(error).__name__}: {error}".split("\n")[0]), FailureClass.INTERNAL)


class InvariantError(HybridError):
    """An invariant of ours does not hold (energy, round trip, feasibility, evidence class): a defect, nothing is
    stored."""

    failure_class = FailureClass.INTERNAL
