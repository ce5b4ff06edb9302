"""Ising form of a payload, in the eigenvalues of Pauli Z, with the offset kept.

Here: the form, its circuit structure and the rotation angles of a QAOA layer. Not here: gates of a particular SDK
(``templates``) or how angles are chosen (``qaoa``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import dimod


@dataclass(frozen=True)
class Structure:
    """What decides a circuit's shape: equal structures share one compiled template.

    Attributes:
        variables: number of qubits.
        fields: qubits with a non-zero field, ascending.
        edges: coupled pairs (i < j), in the order in which their gates are applied.
        depth: number of QAOA layers.
        groups: disjoint groups of qubits of which the mixer keeps exactly one at 1.
    """

    variables: int
    fields: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    depth: int
    groups: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def complete(cls, variables: int, depth: int) -> Structure:
        """The complete graph with all fields: the most gates that a problem of this size can have."""
        pairs = sorted(combinations(range(variables), 2), key=lambda pair: (_round(pair[0], pair[1], variables), pair))
        return cls(variables, tuple(range(variables)), tuple(pairs), depth)

    @property
    def parameters(self) -> int:
        """Free angles: per layer one per field, one per edge and one for the mixer, in this order."""
        return self.depth * (len(self.fields) + len(self.edges) + 1)

    @property
    def parts(self) -> tuple[np.ndarray, ...]:
        """Qubits that evolve independently of the others, as ``components``; a group stays together."""
        return components(self.variables, (*self.edges, *(pair for g in self.groups for pair in pairwise(g))))


@dataclass(frozen=True)
class Ising:
    """C = offset + Σ hᵢ zᵢ + Σ Jᵢⱼ zᵢ zⱼ with zᵢ = 1 − 2xᵢ, the eigenvalue of Pauli Z on qubit i.

    dimod's spins are 2x − 1, so fields change sign on the way here and couplings don't.

    Attributes:
        variables: number of variables.
        fields, h: indices with non-zero field, and the fields (float, same length).
        edges, couplings: pairs with non-zero coupling, and the couplings (float, same length).
        offset: the mean of C over uniformly random bits.
    """

    variables: int
    fields: tuple[int, ...]
    h: np.ndarray
    edges: tuple[tuple[int, int], ...]
    couplings: np.ndarray
    offset: float

    @classmethod
    def from_bqm(cls, bqm: dimod.BinaryQuadraticModel) -> Ising:
        """From a BINARY model over 0 … n−1."""
        n = bqm.num_variables
        vectors = bqm.spin.to_numpy_vectors(variable_order=range(n))
        linear = np.asarray(vectors.linear_biases, dtype=float)
        rows, columns, biases = (np.asarray(part) for part in vectors.quadratic)
        fields = np.flatnonzero(linear)
        kept = sorted(
            (_round(min(i, j), max(i, j), n), min(i, j), max(i, j), float(bias))
            for i, j, bias in zip(rows.tolist(), columns.tolist(), biases, strict=True)
            if bias != 0
        )
        return cls(
            variables=n,
            fields=tuple(fields.tolist()),
            h=-linear[fields],
            edges=tuple((i, j) for _, i, j, _ in kept),
            couplings=np.array([bias for *_, bias in kept]),
            offset=float(vectors.offset),
        )

    @cached_property
    def parts(self) -> int:
        """Independent parts that have a term; 1 for a constant C."""
        terms = np.zeros(self.variables, dtype=bool)
        terms[list(self.fields)] = True
        terms[[end for edge in self.edges for end in edge]] = True
        return max(1, sum(bool(terms[part].any()) for part in components(self.variables, self.edges)))

    @cached_property
    def scale(self) -> float:
        """√((Σh²+ΣJ²)/parts), the standard deviation of an average part of C over uniformly random bits; 1 for a
        constant C. Parts evolve on their own, so that angles that suit one suit a program of many like it."""
        return float(np.sqrt((np.sum(self.h**2) + np.sum(self.couplings**2)) / self.parts)) or 1.0

    def structure(self, depth: int, groups: tuple[tuple[int, ...], ...] = ()) -> Structure:
        """The shape of this problem's circuit with ``depth`` layers whose mixer keeps ``groups``."""
        return Structure(self.variables, self.fields, self.edges, depth, groups)

    def angles(self, gammas: np.ndarray, betas: np.ndarray) -> np.ndarray:
        """Rotation angles of the circuit's free parameters.

        Phase exp(−iγC) is RZ(2γh) and RZZ(2γJ); mixer exp(+iβΣX) is RX(−2β).

        Args:
            gammas: shape ``(k, depth)``, in units of 1/``scale``.
            betas: shape ``(k, depth)``, radians.

        Returns:
            Array of shape ``(k, structure.parameters)``, radians, in the order of ``Structure.parameters``.
        """
        cost = 2.0 * np.concatenate([self.h, self.couplings]) / self.scale
        layers = np.concatenate([gammas[:, :, None] * cost, -2.0 * betas[:, :, None]], axis=2)
        return layers.reshape(len(gammas), -1)


@lru_cache(maxsize=32)
def components(variables: int, edges: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, ...]:
    """Connected components, each ascending, by their first variable; read-only, because equal graphs share them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(variables, variables))
    count, label = connected_components(graph, directed=False)
    parts = tuple(np.flatnonzero(label == part) for part in range(count))
    for part in parts:
        part.flags.writeable = False
    return parts


def _round(i: int, j: int, n: int) -> int:
    """Round of the pair (i < j) in the circle method: pairs of a round share no qubit, so at most n rounds run one
    after the other, whatever the graph (a proper edge colouring of the complete graph)."""
    rounds = n - 1 + n % 2
    return (2 * i if n % 2 == 0 and j == n - 1 else i + j) % rounds
