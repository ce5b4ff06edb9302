"""Payloads: the model of a ``sample`` job, the program of an ``estimate`` or ``kernel`` job, and their stored form.

Not here: what a payload is for (``hybrid_assets.encodings``), or where it is kept (``artifacts``).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TypeAlias

from resources.circuits.pauli import PauliProgram, Reading
from resources.envelope import JobEnvelope
from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    import dimod

Payload: TypeAlias = "dimod.BinaryQuadraticModel | PauliProgram"


def to_bytes(payload: Payload) -> bytes:
    """The stored form, which ``payload_ref`` digests."""
    if isinstance(payload, PauliProgram):
        return payload.to_bytes()
    with payload.to_file() as stored:
        return stored.read()


def from_bytes(kind: str, content: bytes) -> Payload:
    """The payload of a job of this kind.

    Raises:
        BackendError: class ``circuit``: it is no program.
    """
    if kind != "sample":
        return PauliProgram.from_bytes(content)
    import dimod

    return dimod.BinaryQuadraticModel.from_file(io.BytesIO(content))


def size_of(payload: Payload) -> int:
    """Variables, or qubits."""
    return payload.qubits if isinstance(payload, PauliProgram) else payload.num_variables


def model_of(envelope: JobEnvelope, payload: Payload) -> dimod.BinaryQuadraticModel:
    """The model of a sample job.

    Raises:
        BackendError: class ``circuit``: it is not a BINARY model over 0 … q−1 of the announced size.
    """
    announced = envelope.payload_variables
    if isinstance(payload, PauliProgram):
        raise BackendError("a sample job needs a quadratic model, its payload is a program", FailureClass.CIRCUIT)
    if payload.vartype.name != "BINARY" or set(payload.variables) != set(range(announced)):
        raise BackendError(
            f"the payload must be a BINARY quadratic model over variables 0 … {announced - 1}, it is a "
            f"{payload.vartype.name} model of {payload.num_variables}",
            FailureClass.CIRCUIT,
        )
    return payload


def reading_of(envelope: JobEnvelope, payload: Payload) -> Reading:
    """What an estimate or kernel job reads out.

    Raises:
        BackendError: class ``circuit``: it is not a program of the announced kind, size, circuits and answer.
    """
    if envelope.kind == "sample" or not isinstance(payload, PauliProgram):
        raise BackendError(f"a {envelope.kind} job's payload must be a program", FailureClass.CIRCUIT)
    reading = Reading.of(payload, envelope.kind)
    for what, announced, found in (
        ("qubits", envelope.payload_variables, payload.qubits),
        ("size", envelope.program, reading.size),
        ("values", envelope.expected_shape, reading.shape),
    ):
        if announced != found:
            raise BackendError(f"payload: {what} {found}, its envelope says {announced}", FailureClass.CIRCUIT)
    return reading
