"""Documents that were stored, read again and refused where they are not what they were.

Here: envelopes and results. Not here: where they lie (``ledger``, ``artifacts``).
"""

from __future__ import annotations

from pydantic import ValidationError

from resources.envelope import SCHEMA_VERSION, JobEnvelope, JobResult
from resources.failures import InvariantError
from resources.ledger_tables import Job


def envelope_of(document: str, digest: str) -> JobEnvelope:
    """Parse a stored envelope and verify it against its digest.

    Raises:
        InvariantError: altered, or of another schema version.
    """
    try:
        envelope = JobEnvelope.model_validate_json(document)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)
        if version := next((problem for problem in wrong if problem["loc"] == ("schema_version",)), None):
            raise InvariantError(
                f"envelope {digest}: schema_version is {version['input']}, this software reads {SCHEMA_VERSION}"
            ) from None
        field = ".".join(str(part) for part in wrong[0]["loc"]) or "document"
        raise InvariantError(f"envelope {digest} was altered: {field}: {wrong[0]['msg']}") from None
    if envelope.digest != digest:
        raise InvariantError(f"envelope {digest} was altered: it now digests to {envelope.digest}")
    return envelope


def result_of(job: Job, document: bytes) -> JobResult:
    """Parse a stored result and refuse one that belongs to another job.

    Raises:
        InvariantError: it is no result, or names another envelope.
    """
    try:
        result = JobResult.model_validate_json(document)
    except ValidationError:
        raise InvariantError(f"the result stored for {job.job_id} cannot be read") from None
    if result.envelope_digest != job.envelope_digest:
        raise InvariantError(f"the result stored for {job.job_id} answers envelope {result.envelope_digest}")
    if result.evidence_class != job.evidence_class:
        raise InvariantError(f"the result stored for {job.job_id} is {result.evidence_class}, not {job.evidence_class}")
    return result
