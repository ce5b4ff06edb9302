"""QAOA on a statevector with a diagonal cost: phases, mixers, expectations, gradients and samples in compiled loops.

Here: the kernel's types and functions, in plain numpy. Not here: the compiled loops (``statevector_loops``), the choice
of angles (``qaoa``) or a backend (``resources.backends.statevector``). Conventions: phase exp(−iγC), mixer exp(+iβΣX),
γ in units of 1/``Diagonal.scale``; bit k of a state's index is variable k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np

from resources.circuits.schedules import cvar, linear_ramp

if TYPE_CHECKING:
    import dimod

Precision = Literal["single", "double"]
#: Terms of more than two variables: coefficient by indices.
Higher = Mapping[tuple[int, ...], float]
#: Below this share of the mean a standard deviation is rounding.
_ROUNDING = 1e-13


@cache
def _loops() -> ModuleType:
    from resources.circuits import statevector_loops

    return statevector_loops


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
        n, loops = len(linear), _loops()
        values = np.zeros(2**n)
        if not higher:
            loops.quadratic_diagonal(linear, couplings, float(offset), values)
            return cls(values, n)
        masks, weights = _masks(higher)
        values[0] = offset
        values[2 ** np.arange(n)] = linear
        rows, columns = np.triu_indices(n, 1)
        values[2**rows + 2**columns] = couplings[rows, columns]
        np.add.at(values, masks, weights)
        loops.subset_sums(values)
        return cls(values, n)

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
        mean, deviation = _loops().spread(self.values)
        return float(deviation) if deviation > _ROUNDING * abs(mean) else 1.0


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

    @cached_property
    def pairs(self) -> np.ndarray:
        """Pairs in the order in which they turn, int64, shape ``(m, 2)``."""
        found: list[tuple[int, int]] = []
        for group in self.groups:
            k = len(group)
            found += [(group[i], group[i + 1]) for first in (0, 1) for i in range(first, k - 1, 2)]
            found += [(group[-1], group[0])] if k > 2 else []
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def group_of(self, variables: int) -> np.ndarray:
        """Index of each variable's group, −1 outside; int64, shape ``(variables,)``."""
        group = np.full(variables, -1, dtype=np.int64)
        for index, members in enumerate(self.groups):
            group[list(members)] = index
        return group


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
        return float(_loops().block_sums(self.re, self.im).sum())

    def probabilities(self) -> np.ndarray:
        """Probability of every state, float64, shape ``(2ⁿ,)``; sums to 1."""
        weights = self.re.astype(float) ** 2 + self.im.astype(float) ** 2
        return weights / weights.sum()

    def expectation(self, diagonal: Diagonal) -> float:
        """⟨C⟩."""
        total, norm = _loops().mean_cost(self.re, self.im, diagonal.values)
        return float(total / norm)

    def cvar(self, diagonal: Diagonal, alpha: float) -> float:
        """Mean of the lowest share ``alpha`` (0 < α ≤ 1) of the cost's distribution."""
        return cvar(diagonal.values, alpha, self.probabilities())

    def sample(self, shots: int, rng: np.random.Generator) -> np.ndarray:
        """Indices of ``shots`` read-outs, int64."""
        found: np.ndarray = _loops().draw(self.re, self.im, rng.random(shots))
        return found


@dataclass(frozen=True, eq=False)
class _Circuit:
    """Arguments of the compiled circuit: start amplitudes, groups, axes of rotation and pairs."""

    zero: np.ndarray
    one: np.ndarray
    group: np.ndarray
    along: np.ndarray
    across: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, variables: int, mixer: Mixer, initial: np.ndarray | None) -> _Circuit:
        if initial is not None and mixer.groups:
            raise ValueError("a product of rotations is not in the subspace of one-hot groups: give one of the two")
        theta = np.full(variables, np.pi / 2) if initial is None else np.asarray(initial, dtype=float)
        if theta.shape != (variables,):
            raise ValueError(f"initial must have shape ({variables},), not {theta.shape}")
        # exactly X where nothing is warm-started
        along = np.zeros(variables) if initial is None else np.cos(theta)
        group = mixer.group_of(variables)
        return cls(np.cos(theta / 2), np.sin(theta / 2), group, along, np.sin(theta), mixer.pairs)


def evolve(
    diagonal: Diagonal,
    gammas: Sequence[float] | np.ndarray,
    betas: Sequence[float] | np.ndarray,
    mixer: Mixer = Mixer(),  # noqa: B008 - immutable
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
    circuit = _Circuit.of(diagonal.variables, mixer, initial)
    kind = np.float32 if precision == "single" else np.float64
    re, im = np.empty(len(diagonal.values), kind), np.empty(len(diagonal.values), kind)
    _loops().evolve_all(
        re, im, diagonal.values, gammas / diagonal.scale, betas,
        circuit.zero, circuit.one, circuit.group, circuit.along, circuit.across, circuit.pairs,
    )  # fmt: skip
    return State(re, im)


def gradient(
    diagonal: Diagonal,
    gammas: Sequence[float] | np.ndarray,
    betas: Sequence[float] | np.ndarray,
    mixer: Mixer = Mixer(),  # noqa: B008 - immutable
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
    state, loops = evolve(diagonal, gammas, betas, mixer, initial, precision), _loops()
    circuit = _Circuit.of(diagonal.variables, mixer, initial)
    re, im = state.re, state.im
    value, scale = state.expectation(diagonal), diagonal.scale
    co_re, co_im = (re * diagonal.values).astype(re.dtype), (im * diagonal.values).astype(re.dtype)
    by_gamma, by_beta = np.zeros(len(gammas)), np.zeros(len(gammas))
    for layer in reversed(range(len(gammas))):
        c, s = np.cos(betas[layer]), np.sin(betas[layer])
        for first, second in circuit.pairs[::-1]:
            by_beta[layer] -= 2 * loops.slope_of_exchange(re, im, co_re, co_im, first, second)
            loops.exchange(re, im, first, second, c, -s)
            loops.exchange(co_re, co_im, first, second, c, -s)
        for k in np.flatnonzero(circuit.group < 0):
            along, across = circuit.along[k], circuit.across[k]
            by_beta[layer] -= 2 * loops.slope_of_rotation(re, im, co_re, co_im, k, along, across)
            loops.rotate(re, im, k, c, -s * along, -s * across)
            loops.rotate(co_re, co_im, k, c, -s * along, -s * across)
        by_gamma[layer] = 2 * loops.slope_of_phase(re, im, co_re, co_im, diagonal.values) / scale
        loops.phase(re, im, diagonal.values, -gammas[layer] / scale)
        loops.phase(co_re, co_im, diagonal.values, -gammas[layer] / scale)
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
    found, _ = _sampled(linear, couplings, offset, gammas[None], betas[None], shots, seed, higher, groups)
    return bits_of(found[0], len(linear))


@dataclass(frozen=True, eq=False)
class RampSample:
    """Read-outs along the best of several ramps.

    Attributes:
        bits: int8, shape ``(shots, n)``.
        length: of the chosen ramp.
        cvars: sampled CVaR of each length.
        tuning_shots, circuits: what was spent on the choice, and circuits in all.
    """

    bits: np.ndarray
    length: float
    cvars: tuple[float, ...] = ()
    tuning_shots: int = 0
    circuits: int = field(default=1)


def sample_ramps(
    linear: np.ndarray,
    couplings: np.ndarray,
    offset: float,
    lengths: Sequence[float],
    depth: int,
    shots: int,
    tuning_shots: int,
    seed: int,
    alpha: float = 0.2,
    higher: Higher | None = None,
    groups: tuple[tuple[int, ...], ...] = (),
) -> RampSample:
    """As ``sample_block``, along the linear ramp whose ``tuning_shots`` samples have the lowest CVaR.

    Args:
        lengths: of the ramps (``schedules.linear_ramp``); a single one is taken as it is and costs no shots.
        depth: layers p.
        alpha: share of the CVaR.
        linear, couplings, offset, shots, seed, higher, groups: as of ``sample_block``.
    """
    ramps = [linear_ramp(length, depth) for length in lengths]
    gammas, betas = (np.stack(side) for side in zip(*ramps, strict=True))
    best, cvars = 0, ()
    if len(lengths) > 1:
        found, values = _sampled(linear, couplings, offset, gammas, betas, tuning_shots, seed, higher, groups)
        cvars = tuple(cvar(row, alpha) for row in values[found])
        best = cvars.index(min(cvars))
    found, _ = _sampled(
        linear, couplings, offset, gammas[best : best + 1], betas[best : best + 1], shots, seed + 1, higher, groups
    )
    spent = tuning_shots * len(cvars)
    return RampSample(bits_of(found[0], len(linear)), lengths[best], cvars, spent, len(cvars) + 1)


def _sampled(
    linear: np.ndarray,
    couplings: np.ndarray,
    offset: float,
    gammas: np.ndarray,
    betas: np.ndarray,
    shots: int,
    seed: int,
    higher: Higher | None,
    groups: tuple[tuple[int, ...], ...],
) -> tuple[np.ndarray, np.ndarray]:
    linear, couplings = _as_arrays(linear, couplings)
    mixer = Mixer(groups)
    masks, weights = _masks(higher or {})
    found: tuple[np.ndarray, np.ndarray] = _loops().sampled_schedules(
        linear, couplings, float(offset), masks, weights, gammas, betas, mixer.group_of(len(linear)), mixer.pairs,
        shots, seed,
    )  # fmt: skip
    return found


def _masks(higher: Higher) -> tuple[np.ndarray, np.ndarray]:
    masks = np.array([sum(1 << k for k in set(indices)) for indices in higher], dtype=np.int64)
    return masks, np.array(list(higher.values()), dtype=float)


def _as_arrays(linear: np.ndarray, couplings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    linear = np.ascontiguousarray(linear, dtype=float)
    couplings = np.ascontiguousarray(couplings, dtype=float)
    if couplings.shape != (len(linear), len(linear)):
        raise ValueError(f"couplings must have shape {(len(linear),) * 2}, not {couplings.shape}")
    return linear, couplings


def _schedule(
    gammas: Sequence[float] | np.ndarray, betas: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    gammas, betas = np.ascontiguousarray(gammas, dtype=float), np.ascontiguousarray(betas, dtype=float)
    if gammas.ndim != 1 or gammas.shape != betas.shape:
        raise ValueError(f"gammas and betas must have the same shape (p,), not {gammas.shape} and {betas.shape}")
    return gammas, betas
