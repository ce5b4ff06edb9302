"""A program of Pauli rotations measured: file → route → envelope, and what an answer says.

Here: the steps of ``hybrid measure``, pure but for the route's look at the backends. Not here: arguments and printing
(``measure_cli``), or the program itself (``resources.circuits.pauli``). Programs are jobs like all others: budgets,
approvals, fallbacks, ledger and audit log hold for them. They have no classical baseline and no partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from hybrid_assets.request import Resolved
from resources.circuits.pauli import SPLIT, Kind, PauliProgram, Reading
from resources.documents import input_error
from resources.envelope import PAULI, Algorithm, JobEnvelope, TimeoutBudget, digest_of
from resources.failures import BackendError, InputError

#: Largest program file in bytes.
MAX_PROGRAM_BYTES = 16 * 1024 * 1024


def read_program(path: Path) -> tuple[PauliProgram, Reading]:
    """A program from a JSON file, and what is read out for it: an estimate where it has observables, else a kernel.

    Raises:
        InputError: with the file, the field and the fix.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        problem = f"it cannot be read ({(error.strerror or 'unknown error').lower()})"
        raise InputError(path.name, "file", problem, "name a JSON file with a program") from None
    if len(content) > MAX_PROGRAM_BYTES:
        raise InputError(path.name, "size", f"it has more than {MAX_PROGRAM_BYTES >> 20} MB", "split the program")
    try:
        program = PauliProgram.model_validate_json(content)
    except ValidationError as error:
        raise input_error(path.name, error, PauliProgram) from None
    kind: Kind = "estimate" if program.observables else "kernel"
    try:
        return program, Reading.of(program, kind)
    except BackendError as error:
        problem = str(error).removeprefix("payload: ")
        if problem.endswith(SPLIT):
            raise InputError(path.name, "size", problem.removesuffix(SPLIT), "split the program") from None
        raise InputError(path.name, "rows", problem, "give observables, or at least two rows to compare") from None


def key_of(path: Path) -> str:
    """What its jobs are called: ``circuits.`` and the file's name, as far as it has letters and digits."""
    stem = "".join(letter if letter.isalnum() else "-" for letter in path.name.split(".")[0].lower()).strip("-")
    return f"circuits.{stem or 'program'}"


def envelope_for(
    key: str, program: PauliProgram, reading: Reading, resolved: Resolved, payload_ref: str, environment: str
) -> JobEnvelope:
    """The envelope of a program.

    Args:
        key: ``key_of`` its file.
        resolved: the request with its route.
        payload_ref: artefact that holds the program.
    """
    digest = digest_of(program.model_dump(mode="json"))
    algorithm = Algorithm(name=PAULI, shots=resolved.shots, seed=resolved.seed)
    return JobEnvelope(
        correlation_id=key,
        purpose="measure a program",
        owner=resolved.owner,
        problem_type="circuits",
        instance=key,
        input_digest=digest,
        encoding="none",
        encoding_digest=digest,
        payload_ref=payload_ref,
        payload_variables=program.qubits,
        program=reading.size,
        kind=reading.kind,
        algorithm=algorithm.model_copy(
            update={
                **({"compilation": resolved.compilation} if resolved.compilation else {}),
                **({"mitigation": resolved.mitigation} if resolved.mitigation else {}),
            }
        ),
        backend=resolved.backend,
        device=resolved.device,
        expected_shape=reading.shape,
        timeout=TimeoutBudget(queue=resolved.queue, execution=resolved.budget, total=resolved.queue + resolved.budget),
        fallback=resolved.fallback,
        priority=resolved.priority,
        sensitivity=resolved.sensitivity,
        cost_ceiling=resolved.cost_ceiling,
        impact=resolved.impact,
        policy_version=resolved.policy_version,
        tags={"environment": environment},
    )


def with_errors(values: Sequence[float], errors: Sequence[float]) -> list[str]:
    """``value ± standard error``, with as many digits as the error leaves."""
    found = []
    for value, error in zip(values, errors, strict=True):
        digits = 4 if error <= 0 else max(0, min(8, 1 - int(f"{error:e}".split("e")[1])))
        found.append(f"{value:.{digits}f} ± {error:.{digits}f}" if error > 0 else f"{value:.{digits}f}")
    return found
