"""Stored schedules: angles that suited random problems of a kind, for a problem that looks alike.

Here: what a problem looks like, the stored schedules (``library.json``) and the choice of the nearest. Not here: their
training (``benchmarks/parameter_library.py``, on generated problems alone), or the choice among candidates (``qaoa``).

Source of the idea: F. G. S. L. Brandão et al., "For fixed control parameters the QAOA's objective value concentrates",
arXiv:1812.04170; smooth schedules: L. Zhou et al., Phys. Rev. X 10, 021067 (2020), doi:10.1103/PhysRevX.10.021067.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from resources.circuits.ising import Ising

FILE = Path(__file__).with_name("library.json")
#: Depths that are stored, and coefficients of a schedule's γ and of its β at most.
DEPTHS, TERMS = range(1, 21), 5
#: What a doubling of the number of variables counts beside a difference of 1 in density, field share or balance.
DOUBLING = 0.25
#: γ is stretched by at most this much when it moves to another size; couplings weaker than this share of the whole
#: say nothing about it.
MOST_STRETCH, LEAST_COUPLED = 2.0, 0.01


@dataclass(frozen=True)
class Features:
    """What a problem looks like, in Ising form, whatever its units; of its average independent part.

    Attributes:
        variables: n.
        density: share of the pairs that are coupled, 0 to 1.
        field_share: Σh² / (Σh² + ΣJ²).
        balance: ΣJ / (√m·√ΣJ²) of the m couplings: 1 when all are the same and positive, 0 when signs cancel.
    """

    variables: float
    density: float
    field_share: float
    balance: float

    @classmethod
    def of(cls, ising: Ising) -> Features:
        """The features of a model; variables without any term are left out."""
        coupled = {end for edge in ising.edges for end in edge}
        n = max(1, len(coupled | set(ising.fields))) / ising.parts
        pairs = ising.parts * n * (n - 1) / 2
        fields, couplings = float(ising.h @ ising.h), float(ising.couplings @ ising.couplings)
        norm = np.sqrt(len(ising.edges) * couplings)
        return cls(
            variables=n,
            density=min(1.0, len(ising.edges) / pairs) if pairs else 0.0,
            field_share=fields / (fields + couplings) if fields + couplings else 0.0,
            balance=float(ising.couplings.sum() / norm) if norm else 0.0,
        )

    @classmethod
    def of_bits(cls, linear: np.ndarray, couplings: np.ndarray) -> Features:
        """As ``of``, from Σ aᵢxᵢ + Σ Qᵢⱼxᵢxⱼ: ``linear`` of shape ``(n,)``, ``couplings`` upper triangular."""
        h = -(linear / 2 + (couplings.sum(axis=0) + couplings.sum(axis=1)) / 4)
        fields, edges = np.flatnonzero(h), np.argwhere(couplings)
        pairs = tuple((int(i), int(j)) for i, j in edges)
        return cls.of(
            Ising(len(h), tuple(fields.tolist()), h[fields], pairs, couplings[tuple(edges.T)] / 4, offset=0.0)
        )

    @property
    def unit(self) -> float:
        """Length of a ramp that means the same on problems of a kind, in units of 1/``Ising.scale``: of γ times what
        the couplings add up to per variable. Low states differ by couplings; fields that all point one way make
        ``scale`` large and count for little in them."""
        return float(np.sqrt(self.variables / max(1.0 - self.field_share, LEAST_COUPLED)))

    @property
    def shape(self) -> tuple[float, float, float]:
        """What does not grow with size."""
        return self.density, self.field_share, self.balance


@dataclass(frozen=True)
class Entry:
    """Schedules of one class at one size.

    Attributes:
        kind: class of the problems that it was trained on.
        features: means over those problems.
        schedules: per depth (1 first) the Chebyshev coefficients of γ and of β.
    """

    kind: str
    features: Features
    schedules: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]

    @property
    def name(self) -> str:
        """Class and size."""
        return f"{self.kind}, {self.features.variables} variables"

    def distance(self, features: Features) -> float:
        """How unlike the problems are."""
        shapes = np.abs(np.subtract(self.features.shape, features.shape)).sum()
        return float(shapes + DOUBLING * abs(np.log2(self.features.variables / features.variables)))


@dataclass(frozen=True, eq=False)
class Stored:
    """A schedule and where it comes from.

    Attributes:
        gammas, betas: shape ``(depth,)``; γ in units of 1/``Ising.scale``, β in radians.
        source: class and size of the problems that it was trained on.
    """

    gammas: np.ndarray
    betas: np.ndarray
    source: str


def polynomial(coefficients: np.ndarray | tuple[float, ...], depth: int) -> np.ndarray:
    """The values of a Chebyshev series at the layers' places, shape ``(depth,)``."""
    places = 2.0 * (np.arange(depth) + 0.5) / depth - 1.0
    return np.asarray(np.polynomial.chebyshev.chebval(places, np.asarray(coefficients)))


@cache
def entries() -> tuple[Entry, ...]:
    """All that is stored."""
    return tuple(
        Entry(
            one["class"],
            Features(one["variables"], *one["shape"]),
            tuple((tuple(gammas), tuple(betas)) for gammas, betas in one["schedules"]),
        )
        for one in json.loads(FILE.read_text())
    )


def lookup(features: Features, depth: int, count: int = 1) -> list[Stored]:
    """Schedules of the ``count`` classes that look most like the problem, nearest first, γ fitted to its size.

    On generated problems of 8, 16 and 18 variables the fit raised the share of optima of schedules of 12 variables by
    up to 2.5 times where fields dominate, and by 0 to 20 % elsewhere.

    Raises:
        ValueError: nothing is stored for this depth.
    """
    if depth not in DEPTHS:
        raise ValueError(f"schedules are stored for depths {DEPTHS.start} to {DEPTHS.stop - 1}, not {depth}")
    nearest = sorted(entries(), key=lambda entry: entry.distance(features))
    of_class = {entry.kind: entry for entry in reversed(nearest)}
    found = []
    for entry in [entry for entry in nearest if of_class[entry.kind] is entry][:count]:
        gammas, betas = entry.schedules[depth - 1]
        stretch = np.clip(features.unit / entry.features.unit, 1 / MOST_STRETCH, MOST_STRETCH)
        found.append(Stored(stretch * polynomial(gammas, depth), polynomial(betas, depth), entry.name))
    return found
