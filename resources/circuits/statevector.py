"""QAOA on a statevector with a diagonal cost: phases, mixers, expectations, gradients and samples in compiled loops.

Here: the kernel's types and functions, in plain numpy. Not here: the compiled loops (``statevector_loops``), the choice
of angles (``qaoa``) or a backend (``resources.backends.statevector``). Conventions: phase exp(−iγC), mixer exp(+iβΣX),
γ in units of 1/``Diagonal.scale``; bit k of a state's index is variable k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import dimod

Precision = Literal["single", "double"]
#: Terms of more than two variables: coefficient by indices.
Higher = Mapping[tuple[int, ...], float]
#: Seeds of small blocks are taken modulo this.
_SEEDS = 2**63
_NO_TERMS = (np.empty(0, np.int64), np.empty(0))


@cache
def _loops() -> ModuleType:
    from resources.circuits import statevector_loops

    return statevector_loops


@cache
def _costs() -> ModuleType:
    from resources.circuits import statevector_costs

    return statevector_costs


@dataclass(frozen=True, eq=False)
class Diagonal:
    """The cost of every state.

    Attributes:
        values: float64, shape ``(2ⁿ,)``; bit k of the index is variable k.
        variables: n.
    """

    values: np.ndarray
    variables: int

    def __post_init__(self) -> None:
        if self.values.shape != (2**self.variables,) or self.values.dtype != np.float64:
            raise ValueError(f"values must be float64 of shape (2^{self.variables},), not {self.values.shape}")

    @classmethod
    def of(
        cls, linear: np.ndarray, couplings: np.ndarray, offset: float = 0.0, higher: Higher | None = None
    ) -> Diagonal:
        """Costs of offset + Σ hᵢ xᵢ + Σ Jᵢⱼ xᵢ xⱼ + higher terms, x in {0, 1}.

        Args:
            linear: shape ``(n,)``.
            couplings: shape ``(n, n)``; what lies above the diagonal is read.
            offset: constant.
            higher: coefficients of products of variables, by their (distinct) indices.
        """
        linear, couplings = _as_arrays(linear, couplings)
        values = np.empty(2 ** len(linear))
        _costs().fill_diagonal(linear, couplings, float(offset), *_terms(higher), values)
        return cls(values, len(linear))

    @classmethod
    def of_bqm(cls, bqm: dimod.BinaryQuadraticModel) -> Diagonal:
        """Costs of a BINARY model over 0 … n−1."""
        n = bqm.num_variables
        vectors = bqm.to_numpy_vectors(variable_order=range(n))
        rows, columns, biases = (np.asarray(part) for part in vectors.quadratic)
        couplings = np.zeros((n, n))
        couplings[np.minimum(rows, columns), np.maximum(rows, columns)] = biases
        return cls.of(np.asarray(vectors.linear_biases, dtype=float), couplings, float(vectors.offset))

    @cached_property
    def scale(self) -> float:
        """Standard deviation of the cost over uniformly random states: √(Σh²+ΣJ²) and so on; 1 for a constant."""
        return float(_costs().deviation(self.values))


@dataclass(frozen=True)
class Mixer:
    """Which states a layer mixes.

    Variables outside ``groups`` turn by exp(+iβX). Each group keeps exactly one variable at 1: it starts in its W state
    and turns by exp(+iβ(XX+YY)/2) on neighbours of a ring, one after the other: pairs (0,1), (2,3) …, then (1,2),
    (3,4) …, then (last, first). Groups of two have one pair, a group of one stays at 1.

    Attributes:
        groups: disjoint groups of variables.

    Source: S. Hadfield et al., "From the quantum approximate optimization algorithm to a quantum alternating operator
    ansatz", Algorithms 12, 34 (2019); Z. Wang et al., "XY mixers", Phys. Rev. A 101, 012320 (2020).
    """

    groups: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        members = [variable for group in self.groups for variable in group]
        if len(set(members)) < len(members) or not all(self.groups):
            raise ValueError("groups must be disjoint and not empty")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs in the order in which they turn."""
        found: list[tuple[int, int]] = []
        for group in self.groups:
            k = len(group)
            found += [(group[i], group[i + 1]) for first in (0, 1) for i in range(first, k - 1, 2)]
            found += [(group[-1], group[0])] if k > 2 else []
        return found


@lru_cache(maxsize=256)
def _ring(groups: tuple[tuple[int, ...], ...], variables: int) -> tuple[np.ndarray, np.ndarray]:
    """Each variable's group (−1 outside), shape ``(variables,)``, and the pairs in the order in which they turn, shape
    ``(m, 2)``; both int64."""
    mixer = Mixer(groups)
    group_of = np.full(variables, -1, dtype=np.int64)
    for index, group in enumerate(groups):
        if min(group) < 0 or max(group) >= variables:
            raise ValueError(f"group {group} names a variable that is not in 0 … {variables - 1}")
        group_of[list(group)] = index
    return group_of, np.array(mixer.pairs, dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class State:
    """A statevector.

    Attributes:
        re, im: real and imaginary parts, float32 or float64, shape ``(2ⁿ,)`` each.
    """

    re: np.ndarray
    im: np.ndarray

    @property
    def norm(self) -> float:
        """Sum of all probabilities, in double; 1 but for rounding."""
        return float(_loops().block_weights(self.re, self.im).sum())

    def probabilities(self) -> np.ndarray:
        """Probability of every state, float64, shape ``(2ⁿ,)``; sums to 1."""
        weights = self.re.astype(float) ** 2 + self.im.astype(float) ** 2
        return weights / weights.sum()

    def expectation(self, diagonal: Diagonal) -> float:
        """⟨C⟩."""
        return float(_loops().mean_cost(self.re, self.im, diagonal.values))

    def cvar(self, diagonal: Diagonal, alpha: float) -> float:
        """Mean of the lowest share ``alpha`` (0 < α ≤ 1) of the cost's distribution."""
        return float(_loops().lowest_share(self.re, self.im, diagonal.values, alpha))

    def sample(self, shots: int, rng: np.random.Generator) -> np.ndarray:
        """Indices of ``shots`` read-outs, int64."""
        found: np.ndarray = _loops().draw(self.re, self.im, rng.random(shots))
        return found


def _axes(variables: int, mixer: Mixer, initial: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """Start amplitudes of 0 and 1, groups, shares of Z and X in each axis of rotation, and pairs."""
    if initial is not None and mixer.groups:
        raise ValueError("a product of rotations is not in the subspace of one-hot groups: give one of the two")
    theta = np.full(variables, np.pi / 2) if initial is None else np.asarray(initial, dtype=float)
    if theta.shape != (variables,):
        raise ValueError(f"initial must have shape ({variables},), not {theta.shape}")
    # exactly X where nothing is warm-started
    along = np.zeros(variables) if initial is None else np.cos(theta)
    group, pairs = _ring(mixer.groups, variables)
    return np.cos(theta / 2), np.sin(theta / 2), group, along, np.sin(theta), pairs


def evolve(
    diagonal: Diagonal,
    gammas: Sequence[float] | np.ndarray,
    betas: Sequence[float] | np.ndarray,
    mixer: Mixer = Mixer(),
    initial: np.ndarray | None = None,
    precision: Precision = "single",
) -> State:
    """The state after a QAOA circuit.

    Args:
        diagonal: the cost C.
        gammas: shape ``(p,)``, in units of 1/``diagonal.scale``.
        betas: shape ``(p,)``, radians.
        mixer: what mixes.
        initial: ``None`` for |+…+⟩ (W states in one-hot groups), or angles θ of shape ``(n,)``: the product of
            Ry(θₖ)|0⟩, whose mixer is exp(+iβ Σ (sin θₖ X + cos θₖ Z)).
        precision: of the amplitudes; costs, γC and sums are double in any case.

    Source: E. Farhi et al., arXiv:1411.4028; warm start: D. J. Egger, J. Mareček, S. Woerner, "Warm-starting quantum
    optimization", Quantum 5, 479 (2021).
    """
    gammas, betas = _schedule(gammas, betas)
    axes, loops = _axes(diagonal.variables, mixer, initial), _loops()
    like = np.empty(0, np.float32 if precision == "single" else np.float64)
    re, im = (loops.aligned(len(diagonal.values), like) for _ in range(2))
    loops.evolve(re, im, diagonal.values, gammas / diagonal.scale, betas, *axes)
    return State(re, im)


def gradient(
    diagonal: Diagonal,
    gammas: Sequence[float] | np.ndarray,
    betas: Sequence[float] | np.ndarray,
    mixer: Mixer = Mixer(),
    initial: np.ndarray | None = None,
    precision: Precision = "single",
) -> tuple[float, np.ndarray, np.ndarray]:
    """⟨C⟩ and its exact derivatives by γ and by β, shape ``(p,)`` each; arguments as of ``evolve``.

    One sweep back through the circuit with the state and C times the state: four vectors in all, twice the time of the
    circuit and some.

    Source: T. Jones, J. Gacon, "Efficient calculation of gradients in classical simulations of variational quantum
    algorithms", arXiv:2009.02823.
    """
    gammas, betas = _schedule(gammas, betas)
    from resources.circuits import statevector_slopes as slopes

    state, loops = evolve(diagonal, gammas, betas, mixer, initial, precision), _loops()
    _, _, group, along, across, pairs = _axes(diagonal.variables, mixer, initial)
    free = np.flatnonzero(group < 0).tolist()
    re, im = state.re, state.im
    value, scale = state.expectation(diagonal), diagonal.scale
    co_re, co_im = (loops.aligned(len(re), re) for _ in range(2))
    np.multiply(re, diagonal.values, out=co_re, casting="same_kind")
    np.multiply(im, diagonal.values, out=co_im, casting="same_kind")
    by_gamma, by_beta = np.zeros(len(gammas)), np.zeros(len(gammas))
    for layer in reversed(range(len(gammas))):
        c, s = np.cos(betas[layer]), np.sin(betas[layer])
        for first, second in pairs[::-1].tolist():
            by_beta[layer] -= 2 * slopes.slope_of_exchange(re, im, co_re, co_im, first, second)
            loops.exchange(re, im, first, second, c, -s)
            loops.exchange(co_re, co_im, first, second, c, -s)
        for k in free:
            by_beta[layer] -= 2 * slopes.slope_of_rotation(re, im, co_re, co_im, k, along[k], across[k])
            loops.rotate(re, im, k, c, -s * along[k], -s * across[k])
            loops.rotate(co_re, co_im, k, c, -s * along[k], -s * across[k])
        by_gamma[layer] = 2 * slopes.slope_of_phase(re, im, co_re, co_im, diagonal.values) / scale
        turns = gammas[layer] / (2 * np.pi * scale)
        loops.phase(re, im, diagonal.values, turns, 1.0)
        loops.phase(co_re, co_im, diagonal.values, turns, 1.0)
    return value, by_gamma, by_beta


def bits_of(indices: np.ndarray, n: int) -> np.ndarray:
    """Bits of states, int8, shape ``(m, n)``, variable 0 first."""
    bits = np.empty((len(indices), n), np.int8)
    _loops().unpack(np.asarray(indices, dtype=np.int64), bits)
    return bits


def sample_block(
    linear: np.ndarray,
    couplings: np.ndarray,
    offset: float,
    gammas: Sequence[float] | np.ndarray,
    betas: Sequence[float] | np.ndarray,
    shots: int,
    seed: int,
    higher: Higher | None = None,
    groups: tuple[tuple[int, ...], ...] = (),
) -> np.ndarray:
    """Read-outs of a small problem (up to about 14 variables), int8, shape ``(shots, n)``: diagonal, circuit and
    samples in one compiled call, in single precision. Arguments as of ``Diagonal.of`` and ``evolve``; the seed alone
    decides the bits."""
    gammas, betas = _schedule(gammas, betas)
    linear, couplings = _as_arrays(linear, couplings)
    return _loops().sampled_block(
        linear, couplings, float(offset), *_terms(higher), gammas, betas, *_ring(groups, len(linear)), shots,
        seed % _SEEDS,
    )  # fmt: skip


def _terms(higher: Higher | None) -> tuple[np.ndarray, np.ndarray]:
    """Masks and coefficients of the terms of higher order."""
    if not higher:
        return _NO_TERMS
    masks = np.array([sum(1 << k for k in set(indices)) for indices in higher], dtype=np.int64)
    return masks, np.array(list(higher.values()), dtype=float)


def _as_arrays(linear: np.ndarray, couplings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    linear = np.ascontiguousarray(linear, dtype=float)
    couplings = np.ascontiguousarray(couplings, dtype=float)
    if len(linear) == 0 or couplings.shape != (len(linear), len(linear)):
        raise ValueError(
            f"there must be a variable, and couplings of shape {(len(linear),) * 2}, not {couplings.shape}"
        )
    return linear, couplings


def _schedule(
    gammas: Sequence[float] | np.ndarray, betas: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    gammas, betas = np.ascontiguousarray(gammas, dtype=float), np.ascontiguousarray(betas, dtype=float)
    if gammas.ndim != 1 or gammas.shape != betas.shape:
        raise ValueError(f"gammas and betas must have the same shape (p,), not {gammas.shape} and {betas.shape}")
    return gammas, betas
