"""Estimate and kernel jobs as the emulator's service takes them: one circuit a measurement, its states as a sweep.

Here: the circuits with their rows of angles, the bits of the service's counts, and the result. Not here: the life cycle
and sample jobs (``emulator``), or what is read out and what it says (``program_trip``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from resources.backends.base import package_version
from resources.backends.emulator_submissions import device_of
from resources.backends.program_trip import ProgramPlan, answer_program, plan_program
from resources.circuits.device import Prepared, Routed, estimate_program
from resources.circuits.pauli import Reading
from resources.circuits.templates import kept
from resources.emulator.devices import DEVICES, as_qpy
from resources.envelope import EvidenceClass, JobEnvelope, JobResult
from resources.failures import BackendError, FailureClass
from resources.payloads import Payload, reading_of

#: What one job of the service takes: circuits, and rows of bindings of each.
MOST_CIRCUITS, MOST_ROWS = 100, 1000


def program_parts(
    envelope: JobEnvelope, payload: Payload, calibration: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Circuits and metadata of a job; the metadata is all that ``program_result`` needs.

    Args:
        calibration: the document of the device's, to compile for.

    Raises:
        BackendError: class ``capability`` or ``circuit``, for a job that the device cannot run.
    """
    # before anything is compiled, which takes a while
    _check(reading_of(envelope, payload))
    planned = plan_program(envelope, payload, device_of(calibration))
    return _sweeps(planned), {
        "record": planned.record,
        "qubits": planned.reading.program.qubits,
        "shots": envelope.algorithm.shots,
        "measured": [list(prepared.measured) for prepared in planned.prepared],
        "compiled_for": json.loads(calibration)["calibration_id"],
        "qiskit": package_version("qiskit"),
    }


def _sweeps(planned: ProgramPlan) -> list[dict[str, Any]]:
    """Each circuit with a row of bindings per state, in as many pieces as the service wants."""
    pieces = []
    for prepared, measurement in zip(planned.prepared, planned.reading.measurements, strict=True):
        program, angles = _program(prepared), measurement.angles[:, kept(prepared.circuit)]
        for start in range(0, len(angles), MOST_ROWS):
            rows = angles[start : start + MOST_ROWS].tolist()
            pieces.append({"format": "qpy", "program": program, "bindings": rows})
    return pieces


def _check(reading: Reading) -> None:
    pieces = len(reading.bases) * math.ceil(reading.circuits / len(reading.bases) / MOST_ROWS)
    if pieces > MOST_CIRCUITS:
        raise BackendError(
            f"the job needs {pieces} sweeps of {MOST_ROWS} states, the emulator takes {MOST_CIRCUITS}: split it",
            FailureClass.CAPABILITY,
            not_sent=True,
        )


@lru_cache(maxsize=64)
def _program(prepared: Prepared) -> str:
    """Once per compiled circuit: iterative algorithms send it again and again."""
    return as_qpy(prepared.circuit)


def program_result(answer: Mapping[str, Any], backend: str, version: str, cost_of: Callable[[int], float]) -> JobResult:
    """The result of a finished job from the service's document.

    Args:
        cost_of: the price of so many shots.

    Raises:
        BackendError: class ``backend``: read-outs are missing.
        ValueError, KeyError, TypeError: the document is incomplete.
    """
    note, calibration = answer["metadata"], answer["calibration"]
    record = dict(note["record"])
    if record["confusion"] is not None:
        # of the calibration that the shots were taken with, which may have drifted since the compilation
        record["confusion"] = [confusion_at(calibration, qubits) for qubits in note["measured"]]
    each = chain.from_iterable(answer["results"])
    bits = [read_outs(counts, note["shots"], note["qubits"]) for counts in each]
    record["result"] = record["result"] | {
        "calibration": calibration,
        "parameters": record["result"]["parameters"] | {"compiled_for_calibration": note["compiled_for"]},
        "estimated_cost": cost_of(sum(map(len, bits))),
    }
    return answer_program(
        record,
        bits,
        backend=backend,
        version=version,
        sdk_versions={"qiskit": note["qiskit"]},
        evidence=EvidenceClass.EMULATOR,
        queue_seconds=answer["timings"]["queue"],
        execute_seconds=answer["timings"]["execute"],
        cost=answer["cost"],
    )


def read_outs(counts: Mapping[str, int], shots: int, qubits: int) -> np.ndarray:
    """The bits of one circuit's counts, int8, shape ``(shots, qubits)``, qubit 0 first; in no particular order.

    Raises:
        ValueError: shots or bits are missing.
    """
    if sum(counts.values()) != shots:
        raise ValueError("shots are missing")
    if any(len(text) != qubits for text in counts):
        raise ValueError("bits are missing")
    # Qiskit's bit strings have clbit 0, the variable 0, last
    distinct = np.array([[int(bit) for bit in reversed(text)] for text in counts], dtype=np.int8)
    return np.repeat(distinct, list(counts.values()), axis=0)


def confusion_at(calibration: Mapping[str, Any], qubits: Sequence[int]) -> np.ndarray:
    """Confusion matrices of these physical qubits by the service's calibration document, shape ``(n, 2, 2)``."""
    errors = [calibration["qubits"][qubit]["readout_error"] for qubit in qubits]
    return np.array([[[1.0 - error, error], [error, 1.0 - error]] for error in errors])


def worst_program(device: str, envelope: JobEnvelope) -> Routed:
    """Gates and depth that a program does not exceed on this device, without compiling anything."""
    model, apart = DEVICES[device], envelope.payload_variables
    if model.edges is None:
        # none is further apart than the two qubits of a line of two
        apart = min(apart, 2)
    elif envelope.algorithm.compilation.layout is not None:
        apart = model.qubits
    return estimate_program("line", apart, envelope.program)
