"""IBM's client library, made to fit: what its errors mean as failure classes, and one request instead of six.

Here: the reading of the client's exception chains (it keeps HTTP statuses in the exceptions that it replaces), and its
HTTP behaviour. Not here: calls (``ibm``) or what a class leads to (``resources.failures``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from resources.failures import BackendError, FailureClass, causes, never_connected, redacted

_CLASS_OF_STATUS = {
    400: FailureClass.CIRCUIT,
    401: FailureClass.CAPABILITY,
    403: FailureClass.CAPABILITY,
    404: FailureClass.CAPABILITY,
    408: FailureClass.TRANSIENT,
    # the instance has used up what it may use
    409: FailureClass.SATURATION,
    413: FailureClass.CAPABILITY,
    422: FailureClass.CIRCUIT,
    429: FailureClass.SATURATION,
}
_CREDENTIALS = ": the credentials are refused, see HYBRID_IBM_TOKEN and HYBRID_IBM_INSTANCE"
#: Names of the client's exceptions without a status that leave no doubt.
_CLASS_OF_NAME = {
    "IBMNotAuthorizedError": FailureClass.CAPABILITY,
    "InvalidAccountError": FailureClass.CAPABILITY,
    "AccountNotFoundError": FailureClass.CAPABILITY,
    "IBMInputValueError": FailureClass.CAPABILITY,
    # raised while sending, when the device was there a moment ago and the list of devices cannot be read
    "QiskitBackendNotFoundError": FailureClass.TRANSIENT,
    "RuntimeJobNotFound": FailureClass.BACKEND,
}


def status_code(error: BaseException) -> int | None:
    """HTTP status of the answer that led to the error; ``None`` where there was no answer."""
    for one in causes(error):
        # a response of ``requests`` is false when it is an error
        for holder in (getattr(one, "response", None), getattr(one, "http_response", None), one):
            status = getattr(holder, "status_code", None)
            if isinstance(status, int) and status > 0:
                return status
    return None


def translated(error: BaseException, doing: str) -> BackendError:
    """The error as ours, without a secret; ``doing`` completes the sentence "… failed"."""
    names = [type(one).__name__ for one in causes(error)]
    status = status_code(error)
    if "RuntimeJobNotFound" in names:
        return BackendError(f"IBM, {doing}: there is no such job", FailureClass.BACKEND)
    if status in (400, 401, 403) and "ApiException" in names:
        # IBM Cloud itself, which exchanges API keys and lists instances
        return BackendError(f"IBM Cloud answered {status}, {doing}{_CREDENTIALS}", FailureClass.CAPABILITY)
    if status is not None:
        kind = _CLASS_OF_STATUS.get(status, FailureClass.TRANSIENT if status >= 500 else FailureClass.BACKEND)
        hint = {
            401: _CREDENTIALS,
            403: ": this account may not do that, see HYBRID_IBM_INSTANCE",
            409: ": the instance has no time left",
            429: ": too many requests",
        }.get(status, f" ({redacted(str(error), 300)})" if status < 500 else "")
        return BackendError(f"IBM answered {status}, {doing}{hint}", kind, retry_after=_retry_after(error))
    if _is_of_requests(error):
        return BackendError(
            f"IBM did not answer, {doing} ({names[-1]})", FailureClass.TRANSIENT, not_sent=never_connected(error)
        )
    known = next((_CLASS_OF_NAME[name] for name in names if name in _CLASS_OF_NAME), FailureClass.BACKEND)
    return BackendError(
        f"IBM's client failed, {doing}: {names[0]}: {redacted(str(error), 300)}",
        known,
        not_sent="QiskitBackendNotFoundError" in names,
    )


def _retry_after(error: BaseException) -> float | None:
    for one in causes(error):
        response = getattr(one, "response", None)
        text = getattr(response, "headers", {}).get("Retry-After", "")
        if text.isdigit():
            return float(text)
    return None


def _is_of_requests(error: BaseException) -> bool:
    return any(type(one).__module__.partition(".")[0] in ("requests", "urllib3") for one in causes(error))


@contextmanager
def speaking(doing: str) -> Iterator[None]:
    """Turn any error of the client into ours.

    Raises:
        BackendError: of the class that the error means.
    """
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        raise translated(error, doing) from error


def one_request(session: Any) -> None:
    """Let one request be one request, with an end.

    The client repeats a POST up to five times after 5xx answers, without looking whether the first one arrived, and
    waits for ever for an answer. Retries are the dispatcher's, which looks first.
    """
    from requests.adapters import HTTPAdapter

    class OneRequest(HTTPAdapter):
        def send(self, *request: Any, **options: Any) -> Any:
            return super().send(*request, **options | {"timeout": (10.0, 60.0)})

    for scheme in ("https://", "http://"):
        session.mount(scheme, OneRequest(max_retries=0))
