"""Programs for the conformance suite, with the values that an ideal machine gives them.

Here: an estimate and a kernel job without any symmetry, their envelopes, and a reference by plain matrices. Not here:
the suite (``conformance``).
"""

from __future__ import annotations

import hashlib
from functools import reduce
from typing import Final

import numpy as np

from resources.backends.base import QuantumBackend
from resources.circuits.pauli import Kind, PauliProgram, Reading, Rotation, Term
from resources.envelope import Algorithm, JobEnvelope

PROGRAM_KINDS: Final[tuple[Kind, ...]] = ("estimate", "kernel")


def program_envelope(backend: QuantumBackend, program: PauliProgram, kind: Kind, algorithm: Algorithm) -> JobEnvelope:
    """A complete envelope for ``program``."""
    reading, reference = Reading.of(program, kind), hashlib.sha256(program.to_bytes()).hexdigest()
    return JobEnvelope(
        correlation_id="conformance",
        purpose="conformance suite",
        owner="conformance",
        problem_type="program",
        instance="program.conformance",
        input_digest=reference,
        encoding="none",
        encoding_digest=reference,
        payload_ref=reference,
        payload_variables=program.qubits,
        program=reading.size,
        kind=kind,
        algorithm=algorithm,
        backend=backend.name,
        expected_shape=reading.shape,
    )


def asymmetric_program(kind: Kind) -> PauliProgram:
    """Three qubits, no two alike: rotations by strings of one to three letters, three rows of two parameters, and for
    ``estimate`` observables with a constant and every letter."""
    rotations = (
        ("XII", 0, 1.0), ("IYI", 1, 0.7), ("IIX", None, 0.4), ("ZXI", 1, 0.9), ("IYY", 0, -1.1), ("XZY", None, 0.5),
        ("IIZ", 1, 1.3), ("YII", None, -0.3), ("IXI", 0, 0.8),
    )  # fmt: skip
    observables = (
        (("III", 0.5), ("ZII", 1.0), ("IZI", -0.6), ("IIZ", 0.3)),
        (("XXI", 0.8), ("IYZ", -0.7), ("ZIX", 0.4), ("YYY", 0.9)),
    )
    return PauliProgram(
        initial=(1, 0, 0),
        rotations=tuple(Rotation(pauli=pauli, parameter=at, factor=factor) for pauli, at, factor in rotations),
        rows=((0.3, -0.8), (1.1, 0.4), (-0.6, 0.9)),
        observables=tuple(tuple(Term(pauli=p, coefficient=c) for p, c in terms) for terms in observables)
        if kind == "estimate"
        else (),
    )


def exact_values(program: PauliProgram, kind: Kind) -> np.ndarray:
    """What an ideal machine with endless shots answers, by matrices and without any SDK; shaped as ``values``."""
    letters = {
        "I": np.eye(2),
        "X": np.array([[0, 1], [1, 0]]),
        "Y": np.array([[0, -1j], [1j, 0]]),
        "Z": np.diag([1, -1]),
    }

    def matrix(string: str) -> np.ndarray:
        return reduce(np.kron, [letters[letter] for letter in string])

    states = []
    for row in program.angles():
        state = reduce(np.kron, [np.eye(2)[bit] for bit in program.initial]).astype(complex)
        for angle, rotation in zip(row, program.rotations, strict=True):
            state = np.cos(angle / 2) * state - 1j * np.sin(angle / 2) * matrix(rotation.pauli) @ state
        states.append(state)
    if kind == "kernel":
        return np.abs(np.conj(states) @ np.transpose(states)) ** 2
    observed = [sum(term.coefficient * matrix(term.pauli) for term in terms) for terms in program.observables]
    return np.array([[np.vdot(state, operator @ state).real for operator in observed] for state in states])
