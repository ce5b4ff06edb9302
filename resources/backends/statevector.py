"""This project's own statevector simulator, for costs that are diagonal.

Here: the backend. Not here: the kernel (``resources.circuits.statevector``), its template
(``resources.circuits.diagonal_template``), the choice of angles (``resources.circuits.qaoa``) or the job document
(``gate_simulator``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args

import numpy as np

from resources.backends.base import Capabilities, Estimate, package_version
from resources.backends.device_time import on_device
from resources.backends.gate_simulator import GateSimulator
from resources.circuits.diagonal_template import DiagonalTemplate
from resources.circuits.ising import Structure
from resources.circuits.statevector import Mixer, Precision
from resources.circuits.templates import Shape, Template
from resources.envelope import QAOA, JobEnvelope
from resources.failures import BackendError, FailureClass, InputError

#: Independent parts that one payload may hold.
PARTS = 64


@dataclass
class Statevector(GateSimulator):
    """Noise-free statevector simulation on one thread; the same seed gives the same samples.

    A payload of independent parts may be as large as ``PARTS`` of them.

    Attributes:
        max_qubits: largest part.
        precision: of the amplitudes, ``single`` or ``double``.

    Raises:
        InputError: ``max_qubits`` out of range, or an unknown ``precision``.
    """

    max_qubits: int = 20
    precision: Precision = "single"
    name = "statevector"
    modules = ("resources.circuits.statevector_loops",)
    packages: ClassVar[tuple[str, ...]] = ("numba",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision not in get_args(Precision):
            raise InputError(self.name, "precision", f"{self.precision!r} is unknown", "use single or double")

    def load(self) -> None:
        """The compiled loops: seconds where nothing is cached, and no job's time."""
        super().load()
        DiagonalTemplate(Structure(1, (0,), (), 1), self.precision).sample(np.ones((1, 2)), 1, seed=0)

    def version(self) -> str:
        """Version of this project, whose simulator it is."""
        return package_version("hybrid-assets")

    def settings(self) -> dict[str, Any]:
        """The precision."""
        return {"precision": self.precision}

    def capabilities(self) -> Capabilities:
        """QAOA alone, parts of at most ``max_qubits`` variables each; groups are kept."""
        can = super().capabilities()
        return replace(can, algorithms=QAOA, kinds=("sample",), parts=PARTS, mixers=("x", "xy"))

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Worst case: complete graphs of the largest size that is taken, as many as the payload fills.

        Groups add their start states and mixers: as they are, and on the lattice as one more swap network each, whose
        rounds (XX+YY and a swap in three CX) have depth 7.
        """
        n, depth, groups = envelope.payload_variables, envelope.algorithm.depth, envelope.algorithm.groups
        size = min(n, self.max_qubits)
        one = super().estimate(envelope.model_copy(update={"payload_variables": size}))
        pairs = n // size * math.comb(size, 2) + math.comb(n % size, 2)
        # couplings come in the order that suits one part of n; in any order an end waits for all others of both ends
        rounds = min(n - 1 + n % 2, 2 * size - 3) if size > 1 else 0
        starts = sum(2 * (len(group) - 1) for group in groups)
        largest = max(map(len, groups), default=0)
        networks = depth + 1 if groups else 0
        whole = replace(
            one,
            execution_seconds=-(-n // size) * one.execution_seconds,
            logical_two_qubit_gates=starts + depth * (pairs + len(Mixer(groups).pairs)),
            logical_depth=1 + depth * (rounds + 2) + (2 * (largest - 1).bit_length() + 3 * depth if groups else 0),
            two_qubit_gates=3 * (depth + networks) * pairs,
            depth=one.depth + 7 * networks * size,
        )
        return on_device(whole, envelope.algorithm.shots)

    def template(self, structure: Shape) -> Template:
        """Nothing is compiled for a structure.

        Raises:
            BackendError: class ``capability``, when a part is too large.
        """
        assert isinstance(structure, Structure), "programs are refused before"
        largest = max(map(len, structure.parts))
        if largest > self.max_qubits:
            raise BackendError(
                f"backend {self.name} takes parts of at most {self.max_qubits} coupled variables, the job has one of "
                f"{largest}",
                FailureClass.CAPABILITY,
            )
        return DiagonalTemplate(structure, self.precision)

    def _circuit_seconds(self, n: int, terms: int, depth: int) -> float:
        # measured on one core of a shared machine in single precision; the number of terms does not matter
        parts = -(-n // self.max_qubits)
        return parts * 2e-4 + parts * 1e-8 * 2.0 ** min(n, self.max_qubits) * (depth + 1) * (
            1 if self.precision == "single" else 2
        )
