"""One trip of an estimate or kernel job to a device: what is sent, and the result made from its bits.

Here: the ``ProgramPlan`` (compiled circuits, a JSON-able record) and ``answer_program``, which needs only that record
and the bits, so that another process can ask for the result. Not here: sending (each backend's own), compiling
(``resources.circuits.device``), sample jobs (``trip``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.backends.measuring import noted, reading_again, tables
from resources.circuits.device import Prepared, prepare
from resources.circuits.mitigation import confusion_of
from resources.circuits.pauli import Reading
from resources.envelope import EvidenceClass, JobEnvelope, JobResult, Timings
from resources.failures import BackendError, FailureClass
from resources.payloads import Payload, reading_of

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2


@dataclass(frozen=True, eq=False)
class ProgramPlan:
    """What is sent, and what is remembered.

    Attributes:
        reading: of the program.
        prepared: the compiled circuit of each measurement; its angles are free.
        record: JSON-able, all that ``answer_program`` needs; no secret is in it.
    """

    reading: Reading
    prepared: tuple[Prepared, ...]
    record: dict[str, Any]

    @property
    def circuits(self) -> list[QuantumCircuit]:
        """All compiled circuits with their angles, measurement by measurement; ``answer_program`` wants this order."""
        return [
            prepared.bind(angles)
            for prepared, measurement in zip(self.prepared, self.reading.measurements, strict=True)
            for angles in measurement.angles
        ]


def plan_program(envelope: JobEnvelope, payload: Payload, device: BackendV2) -> ProgramPlan:
    """Compile (or take the templates from the cache) and write down what the answer needs.

    Raises:
        BackendError: class ``capability`` or ``circuit``, for a job that the device cannot run.
    """
    algorithm = envelope.algorithm
    if algorithm.mitigation.postselect:
        raise BackendError("post-selection is for samples: values need all read-outs", FailureClass.CAPABILITY)
    reading, started = reading_of(envelope, payload), time.perf_counter()
    prepared = tuple(prepare(one.structure, algorithm.compilation, device) for one in reading.measurements)
    largest = max(prepared, key=lambda one: one.two_qubit_gates)
    confusion = [confusion_of(device.target, one.measured).tolist() for one in prepared]
    record = {
        "envelope_digest": envelope.digest,
        "reading": noted(reading),
        "confusion": confusion if algorithm.mitigation.readout else None,
        "compile_seconds": time.perf_counter() - started,
        "result": {
            "depth": max(one.depth for one in prepared),
            "two_qubit_gates": largest.two_qubit_gates,
            "logical_depth": max(one.logical_depth for one in prepared),
            "logical_two_qubit_gates": max(one.logical_two_qubit_gates for one in prepared),
            "layout": largest.layout,
            "success_probability": min(one.success_probability for one in prepared),
            "calibration": largest.calibration,
            "parameters": {"bases": list(reading.bases), "routing": largest.routing},
        },
    }
    return ProgramPlan(reading, prepared, record)


def answer_program(
    record: dict[str, Any],
    bits: Sequence[np.ndarray],
    *,
    backend: str,
    version: str,
    sdk_versions: dict[str, str],
    evidence: EvidenceClass,
    queue_seconds: float = 0.0,
    execute_seconds: float = 0.0,
    cost: float = 0.0,
) -> JobResult:
    """The result of a planned job.

    Args:
        record: of its ``ProgramPlan``, perhaps through JSON.
        bits: read-outs of each circuit, in the order of ``ProgramPlan.circuits``: int8, shape ``(shots, qubits)``,
            qubit 0 first.
        backend, version, sdk_versions, evidence: who sampled.
        queue_seconds, execute_seconds, cost: as the machine tells them.

    Raises:
        BackendError: class ``backend``: read-outs are missing.
    """
    started, reading = time.perf_counter(), reading_again(record["reading"])
    if len(bits) != reading.circuits or any(one.shape != (len(bits[0]), reading.program.qubits) for one in bits):
        raise BackendError(
            f"{backend} answered {len(bits)} read-outs of shapes {sorted({one.shape for one in bits})} for "
            f"{reading.circuits} circuits of {reading.program.qubits} qubits",
            FailureClass.BACKEND,
        )
    ends = np.cumsum([len(measurement.angles) for measurement in reading.measurements])[:-1]
    parts = np.split(np.stack(bits), ends)
    confusion = None if record["confusion"] is None else [np.array(one) for one in record["confusion"]]
    told = tables(reading, parts, confusion)
    return JobResult(
        envelope_digest=record["envelope_digest"],
        evidence_class=evidence,
        backend=backend,
        backend_version=version,
        sdk_versions=sdk_versions,
        timings=Timings(
            queue=queue_seconds,
            compile=record["compile_seconds"],
            execute=execute_seconds,
            post_process=time.perf_counter() - started,
        ),
        actual_cost=cost,
        **record["result"],
        **told,
    )
