"""This project's own statevector simulator, for costs that are diagonal.

Here: the template that runs QAOA without gates, and the backend. Not here: the kernel
(``resources.circuits.statevector``), the choice of angles (``resources.circuits.qaoa``) or the job document
(``gate_simulator``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args

import numpy as np

from resources.backends.base import Capabilities, Estimate, package_version
from resources.backends.gate_simulator import GateSimulator
from resources.circuits.ising import Structure, components
from resources.circuits.statevector import Diagonal, Precision, bits_of, evolve
from resources.circuits.templates import Template
from resources.envelope import JobEnvelope
from resources.failures import BackendError, FailureClass, InputError

#: Independent parts that one payload may hold.
PARTS = 64
#: Layers' angles that differ from multiples of each other by more than this share are no schedule of one cost.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class DiagonalTemplate:
    """QAOA of one cost under a schedule; ``depth`` and ``two_qubit_gates`` are those of the circuit in H, RZ, RZZ, RX.

    Attributes:
        structure: shape of the problem.
        precision: of the amplitudes.
    """

    structure: Structure
    precision: Precision = "single"

    @property
    def depth(self) -> int:
        """Layers of gates, each gate as early as its qubits are free."""
        ready = np.ones(self.structure.variables, dtype=int)
        for _ in range(self.structure.depth):
            ready[list(self.structure.fields)] += 1
            for i, j in self.structure.edges:
                ready[i] = ready[j] = max(ready[i], ready[j]) + 1
            ready += 1
        return int(ready.max())

    @property
    def two_qubit_gates(self) -> int:
        """One a coupling and layer."""
        return self.structure.depth * len(self.structure.edges)

    def sample(self, angles: np.ndarray, shots: int, seed: int) -> np.ndarray:
        """As ``Template.sample``.

        Raises:
            BackendError: class ``circuit``, when the angles of all layers are not those of one cost.
        """
        n, rng = self.structure.variables, np.random.default_rng(seed)
        layers = np.asarray(angles, dtype=float).reshape(len(angles), self.structure.depth, -1)
        turns, betas = layers[:, :, :-1], -0.5 * layers[:, :, -1]
        sizes = np.linalg.norm(turns, axis=2)
        largest = turns[np.unravel_index(sizes.argmax(), sizes.shape)]
        gammas = turns @ largest / (largest @ largest or 1.0)
        if np.abs(turns - gammas[:, :, None] * largest).max(initial=0.0) > _TOLERANCE * sizes.max():
            raise BackendError("the layers' angles belong to different costs", FailureClass.CIRCUIT)
        bits = np.empty((len(angles), shots, n), dtype=np.int8)
        linear, couplings = self._terms(0.5 * largest)
        # what is not coupled stays a product: its parts are evolved and read out apart
        for part in components(n, self.structure.edges):
            diagonal = Diagonal.of(linear[part], couplings[np.ix_(part, part)])
            for row in range(len(angles)):
                state = evolve(diagonal, gammas[row] * diagonal.scale, betas[row], precision=self.precision)
                bits[row][:, part] = bits_of(state.sample(shots, rng), len(part))
        return bits

    def _terms(self, fields_and_couplings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Σ h z + Σ J z z with z = 1 − 2x as linear terms and upper triangular couplings of x; a constant does not
        matter."""
        n, fields = self.structure.variables, list(self.structure.fields)
        linear, couplings = np.zeros(n), np.zeros((n, n))
        linear[fields] = -2.0 * fields_and_couplings[: len(fields)]
        for (i, j), coupling in zip(self.structure.edges, fields_and_couplings[len(fields) :], strict=True):
            couplings[i, j] = 4.0 * coupling
            linear[[i, j]] -= 2.0 * coupling
        return linear, couplings


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
        """Parts of at most ``max_qubits`` variables each."""
        return replace(super().capabilities(), parts=PARTS)

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """As of one part that is as large as the payload, or as the largest that is taken."""
        n = min(envelope.payload_variables, self.max_qubits)
        return super().estimate(envelope.model_copy(update={"payload_variables": n}))

    def template(self, structure: Structure) -> Template:
        """Nothing is compiled for a structure.

        Raises:
            BackendError: class ``capability``, when a part is too large.
        """
        largest = max(map(len, components(structure.variables, structure.edges)))
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
