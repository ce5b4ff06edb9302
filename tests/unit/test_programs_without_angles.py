"""Programs whose compiled circuits have no free angle: every row is still a circuit of its own, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from resources.backends.aer import Aer, AerMps
from resources.backends.aer_noisy import GENERIC_DEVICE, AerNoisy
from resources.backends.base import LocalBackend
from resources.backends.conformance_programs import exact_values, program_envelope
from resources.backends.ibm_local import IbmLocal
from resources.backends.lightning import Lightning
from resources.backends.pennylane_device import PennyLaneDevice
from resources.circuits.pauli import Kind, PauliProgram, Rotation, Term
from resources.envelope import PAULI, Algorithm, Compilation

BACKENDS = (
    Aer(), AerMps(), Lightning(), PennyLaneDevice(device="default.qubit"), AerNoisy(device=GENERIC_DEVICE), IbmLocal(),
)  # fmt: skip
#: Z before a read-out in Z changes nothing: optimization may leave it out.
ROTATIONS = {"none": (), "diagonal": (Rotation(pauli="ZI", parameter=0), Rotation(pauli="ZZ", factor=0.4))}


@pytest.mark.parametrize("rotations", ROTATIONS)
@pytest.mark.parametrize("kind", ["estimate", "kernel"])
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_all_rows_are_read_out(backend: LocalBackend, kind: Kind, rotations: str) -> None:
    if (problem := backend.available()) is not None:
        pytest.skip(problem)
    terms = (Term(pauli="II", coefficient=0.5), Term(pauli="ZI", coefficient=1.0), Term(pauli="ZZ", coefficient=-0.3))
    program = PauliProgram(
        initial=(1, 1),
        rotations=ROTATIONS[rotations],
        rows=((0.1,), (0.2,), (0.3,)),
        observables=(terms, (Term(pauli="II", coefficient=2.0),)) if kind == "estimate" else (),
    )
    algorithm = Algorithm(name=PAULI, shots=400, seed=5, compilation=Compilation(optimization_level=3))
    result = backend.run(program_envelope(backend, program, kind, algorithm), program)
    # what noise there is turns a few read-outs of a hundred
    np.testing.assert_allclose(result.values, exact_values(program, kind), atol=0.15)
    assert result.shots == 400 * result.circuits == 1200
