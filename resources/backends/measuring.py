"""Estimate and kernel jobs on any machine that samples circuits: all read-outs of a program, and the answer's tables.

Here: what backends of every vendor share. Not here: the program and its values (``circuits.pauli``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from resources.circuits.pauli import PauliProgram, Reading
from resources.circuits.templates import Template
from resources.envelope import Algorithm, PostProcessing
from resources.failures import TimedOut

#: Circuits of one call; between two calls the clock is read.
AT_ONCE = 64


def sampled(reading: Reading, templates: Sequence[Template], algorithm: Algorithm, deadline: float) -> list[np.ndarray]:
    """Bits of each measurement, shape ``(circuits, shots, qubits)``; the algorithm's seed decides them.

    Args:
        templates: compiled, one per measurement.
        deadline: reading of ``time.perf_counter``.

    Raises:
        TimedOut: not all circuits could be run until then.
    """
    rng = np.random.default_rng([algorithm.seed, 1])
    found: list[np.ndarray] = []
    for template, measurement in zip(templates, reading.measurements, strict=True):
        parts: list[np.ndarray] = []
        for start in range(0, len(measurement.angles), AT_ONCE):
            if time.perf_counter() > deadline:
                done = sum(len(part) for part in parts + found)
                raise TimedOut(f"{done} of {reading.circuits} circuits were run within the execution budget")
            seed = int(rng.integers(2**31 - 1))
            parts.append(template.sample(measurement.angles[start : start + AT_ONCE], algorithm.shots, seed))
        found.append(np.concatenate(parts))
    return found


def tables(
    reading: Reading, bits: Sequence[np.ndarray], confusion: Sequence[np.ndarray] | None = None
) -> dict[str, Any]:
    """The fields of a ``JobResult`` that follow from the read-outs. Arguments as of ``Reading.values``."""
    raw, errors = reading.values(bits)
    told: dict[str, Any] = {"values": raw.tolist(), "standard_errors": errors.tolist()}
    if confusion is not None:
        values, errors = reading.values(bits, confusion)
        told = {
            "values": values.tolist(),
            "standard_errors": errors.tolist(),
            "raw_values": raw.tolist(),
            "post_processing": PostProcessing.MITIGATED,
        }
    shots = sum(part.shape[0] * part.shape[1] for part in bits)
    return told | {"width": reading.program.qubits, "shots": shots, "circuits": reading.circuits}


def noted(reading: Reading) -> dict[str, Any]:
    """JSON-able, for whoever reads the answer, perhaps in another process (``reading_again``)."""
    return {"program": reading.program.model_dump(mode="json"), "kind": reading.kind, "bases": list(reading.bases)}


def reading_again(note: dict[str, Any]) -> Reading:
    """The reading of ``noted``."""
    return Reading(PauliProgram.model_validate(note["program"]), note["kind"], tuple(note["bases"]))
