"""This project's own statevector simulator, for costs that are diagonal.

Here: the template that runs QAOA without gates, and the backend. Not here: the kernel
(``resources.circuits.statevector``), the choice of angles (``resources.circuits.qaoa``) or the job document
(``gate_simulator``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import numpy as np

from resources.backends.base import package_version
from resources.backends.gate_simulator import GateSimulator
from resources.circuits.ising import Structure
from resources.circuits.statevector import Diagonal, Precision, bits_of, evolve
from resources.circuits.templates import Template
from resources.failures import BackendError, FailureClass, InputError

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
        diagonal = self._diagonal(0.5 * largest)
        bits = np.empty((len(angles), shots, n), dtype=np.int8)
        for row in range(len(angles)):
            state = evolve(diagonal, gammas[row] * diagonal.scale, betas[row], precision=self.precision)
            bits[row] = bits_of(state.sample(shots, rng), n)
        return bits

    def _diagonal(self, fields_and_couplings: np.ndarray) -> Diagonal:
        """Of Σ h z + Σ J z z with z = 1 − 2x; a constant does not matter."""
        n, fields = self.structure.variables, list(self.structure.fields)
        linear, couplings = np.zeros(n), np.zeros((n, n))
        linear[fields] = -2.0 * fields_and_couplings[: len(fields)]
        for (i, j), coupling in zip(self.structure.edges, fields_and_couplings[len(fields) :], strict=True):
            couplings[i, j] = 4.0 * coupling
            linear[[i, j]] -= 2.0 * coupling
        return Diagonal.of(linear, couplings)


@dataclass
class Statevector(GateSimulator):
    """Noise-free statevector simulation on one thread; the same seed gives the same samples.

    Attributes:
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

    def template(self, structure: Structure) -> Template:
        """Nothing is compiled for a structure."""
        return DiagonalTemplate(structure, self.precision)

    def _circuit_seconds(self, n: int, terms: int, depth: int) -> float:
        # measured on one core of a shared machine in single precision; the number of terms does not matter
        return 2e-4 + 1e-8 * 2.0**n * (depth + 1) * (1 if self.precision == "single" else 2)
