"""What the errors of boto3's clients mean as failure classes.

Here: reading the exceptions of a call. Not here: calls (``braket_aws``) or what a class leads to
(``resources.failures``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from resources.failures import BackendError, FailureClass, redacted

#: Error codes by what they lead to; anything else goes by the HTTP status.
_CODES = {
    FailureClass.CAPABILITY: {
        "AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId",
        "InvalidClientTokenId", "InvalidSignatureException", "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch", "UnrecognizedClientException", "DeviceOfflineException", "DeviceRetiredException",
        "ValidationException", "NoSuchBucket",
    },
    FailureClass.SATURATION: {
        "ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown",
        "ServiceQuotaExceededException",
    },
    FailureClass.BACKEND: {"ResourceNotFoundException", "NoSuchKey"},
}  # fmt: skip


def failure(error: Exception) -> BackendError:
    """What a failed call means; nothing of the request reaches the message."""
    from botocore import exceptions as aws

    if isinstance(error, aws.ClientError):
        said, about = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        code, status = str(said.get("Code", "")), int(about.get("HTTPStatusCode", 0))
        kind = next((kind for kind, codes in _CODES.items() if code in codes), None)
        if kind is None:
            by_status = {401: FailureClass.CAPABILITY, 403: FailureClass.CAPABILITY, 404: FailureClass.BACKEND}
            otherwise = FailureClass.TRANSIENT if status >= 500 or status == 0 else FailureClass.CAPABILITY
            kind = FailureClass.SATURATION if status == 429 else by_status.get(status, otherwise)
        after = str(about.get("HTTPHeaders", {}).get("retry-after", ""))
        wait = float(after) if after.isdecimal() and kind is FailureClass.SATURATION else None
        message = f"Braket answers {code or status}: {redacted(str(said.get('Message', '')), 200)}"
        return BackendError(message, kind, retry_after=wait)
    lacking = (aws.NoCredentialsError, aws.PartialCredentialsError, aws.ProfileNotFound, aws.NoRegionError)
    if isinstance(error, lacking):
        sentence = f"backend braket has no usable AWS credentials or region ({type(error).__name__})"
        return BackendError(sentence, FailureClass.CAPABILITY, not_sent=True)
    if isinstance(error, aws.ParamValidationError):
        return BackendError("Braket's client refuses the request's form", FailureClass.CAPABILITY, not_sent=True)
    unsent = isinstance(error, aws.EndpointConnectionError | aws.ConnectTimeoutError)
    return BackendError(f"Braket cannot be reached ({type(error).__name__})", FailureClass.TRANSIENT, not_sent=unsent)


@contextmanager
def calling() -> Iterator[None]:
    """Turn an error of a call into ours.

    Raises:
        BackendError: of the class that the error means.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise failure(error) from None
