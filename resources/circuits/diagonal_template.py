"""The template that runs QAOA without gates: the kernel on each independent part of a problem.

Here: ``DiagonalTemplate``. Not here: the kernel (``statevector``), templates of SDKs (``templates``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resources.circuits.ising import Structure
from resources.circuits.statevector import Diagonal, Mixer, Precision, bits_of, evolve
from resources.failures import BackendError, FailureClass

#: Layers' angles that differ from multiples of each other by more than this share are no schedule of one cost.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class DiagonalTemplate:
    """QAOA of one cost under a schedule; ``depth`` and ``two_qubit_gates`` are those of the circuit in H, RZ, RZZ, RX.

    In groups, W states are prepared by halving (two two-qubit gates for every member but one, two layers for every
    doubling), and rotations by XX+YY take the place of RX.

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
        alone = np.ones(self.structure.variables, dtype=bool)
        for group in self.structure.groups:
            ready[list(group)] = max(1, 2 * (len(group) - 1).bit_length())
            alone[list(group)] = False
        for _ in range(self.structure.depth):
            ready[list(self.structure.fields)] += 1
            for pairs in (self.structure.edges, self._mixer.pairs):
                for i, j in pairs:
                    ready[i] = ready[j] = max(ready[i], ready[j]) + 1
            ready[alone] += 1
        return int(ready.max())

    @property
    def _mixer(self) -> Mixer:
        return Mixer(self.structure.groups)

    @property
    def two_qubit_gates(self) -> int:
        """One a coupling and layer; in groups also those of the start state and of the mixer."""
        start = sum(2 * (len(group) - 1) for group in self.structure.groups)
        return start + self.structure.depth * (len(self.structure.edges) + len(self._mixer.pairs))

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
        for part in self.structure.parts:
            place = {int(variable): k for k, variable in enumerate(part)}
            mixer = Mixer(tuple(tuple(place[v] for v in g) for g in self.structure.groups if g[0] in place))
            diagonal = Diagonal.of(linear[part], couplings[np.ix_(part, part)])
            for row in range(len(angles)):
                state = evolve(diagonal, gammas[row] * diagonal.scale, betas[row], mixer, precision=self.precision)
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
