"""Trains the schedules that ``resources/circuits/library.json`` holds, on generated random problems alone.

    .venv/bin/python -m benchmarks.parameter_library [--only CLASS] [--sizes 8 12] [--write]

For each class of problems and each size, one schedule per depth 1 … 20 is trained on ``PROBLEMS`` problems of its own
seeds. γ and β are Chebyshev polynomials of the layer's place with at most ``TERMS`` coefficients each, so that a
schedule is smooth and cannot learn single problems. What is minimized is the exact CVaR (``ALPHA``) of the kernel's
state, in double precision, averaged over the problems in units of their scales; the mean energy alone serves worse
where a penalty dominates, as most of it is the penalty, and ``MEAN`` of it goes on where the CVaR is at its floor.
Each depth starts at the depth before or at a ramp, whichever is lower, and goes down by L-BFGS with differences for
derivatives: the CVaR is not the cost whose gradient the kernel has, and there are few coefficients. ``--write``
replaces the stored classes by the trained ones.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from resources.circuits.library import DEPTHS, FILE, TERMS, Features, polynomial
from resources.circuits.schedules import linear_ramp
from resources.circuits.statevector import Diagonal, evolve

ALPHA, MEAN, PROBLEMS, ITERATIONS = 0.3, 0.01, 4, 40
RAMPS = (2.0, 4.0, 8.0, 12.0)

#: Linear terms and upper triangular couplings of n bits.
Terms = tuple[np.ndarray, np.ndarray]


def of_spins(h: np.ndarray, couplings: np.ndarray) -> Terms:
    """Σ h z + Σ J z z with z = 1 − 2x, its constant left out."""
    return -2.0 * (h + couplings.sum(axis=0) + couplings.sum(axis=1)), 4.0 * couplings


def gaussian_spins(n: int, rng: np.random.Generator) -> Terms:
    return of_spins(rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1))


def gaussian_bits(n: int, rng: np.random.Generator) -> Terms:
    return rng.normal(size=n), np.triu(2.0 * rng.normal(size=(n, n)), 1)


def sparse_signs(n: int, rng: np.random.Generator) -> Terms:
    """Couplings ±1 on a random graph with four neighbours on average."""
    present = rng.random((n, n)) < 4.0 / (n - 1)
    return of_spins(np.zeros(n), np.triu(np.where(present, rng.choice([-1.0, 1.0], (n, n)), 0.0), 1))


def regular_cut(n: int, rng: np.random.Generator) -> Terms:
    """MaxCut on a random graph with three neighbours each, four where n is odd."""
    import networkx as nx

    graph = nx.random_regular_graph(3 + n % 2, n, seed=int(rng.integers(2**31)))
    couplings = np.zeros((n, n))
    for i, j in graph.edges:
        couplings[min(i, j), max(i, j)] = 1.0
    return of_spins(np.zeros(n), couplings)


def selection(n: int, rng: np.random.Generator) -> Terms:
    """Choose about a third of the bits, by returns and pairwise risk; the number is kept by a penalty."""
    returns, factors = rng.random(n), rng.normal(size=(n, 3))
    risk = factors @ factors.T / 6
    wanted, weight = max(2, round(n / 3)), 1.0 + rng.random()
    linear = -returns + np.diag(risk) + weight * (1 - 2 * wanted)
    return linear, np.triu(2.0 * risk + 2.0 * weight, 1)


def conflicts(n: int, rng: np.random.Generator) -> Terms:
    """Every bit pays, most pairs of bits are in conflict: weighted packing with penalties."""
    present = rng.random((n, n)) < rng.uniform(0.3, 1.0)
    return -rng.uniform(0.3, 1.0) * rng.random(n), np.triu(2.0 * rng.random((n, n)) * present, 1)


CLASSES: dict[str, Callable[[int, np.random.Generator], Terms]] = {
    "gaussian spins": gaussian_spins,
    "gaussian bits": gaussian_bits,
    "sparse signs": sparse_signs,
    "regular cut": regular_cut,
    "selection": selection,
    "conflicts": conflicts,
}


class Problem:
    """A cost whose states are in order once and for all, so that a CVaR needs no sorting."""

    def __init__(self, linear: np.ndarray, couplings: np.ndarray) -> None:
        self.diagonal = Diagonal.of(linear, couplings)
        self.order = np.argsort(self.diagonal.values)
        self.costs = (self.diagonal.values[self.order] - self.diagonal.values.mean()) / self.diagonal.scale

    def value(self, gammas: np.ndarray, betas: np.ndarray) -> float:
        """CVaR and a little of the mean after these angles, in units of the scale from the uniform mean."""
        weights = evolve(self.diagonal, gammas, betas, precision="double").probabilities()[self.order]
        below = np.minimum(np.cumsum(weights), ALPHA)
        return float((np.diff(below, prepend=0.0) / ALPHA + MEAN * weights) @ self.costs)


def trained(problems: list[Problem]) -> list[list[list[float]]]:
    """Coefficients of γ and of β for every depth."""

    def value(free: np.ndarray, depth: int) -> float:
        gammas, betas = (polynomial(side, depth) for side in np.split(free, 2))
        return float(np.mean([problem.value(gammas, betas) for problem in problems]))

    def padded(coefficients: np.ndarray, terms: int) -> np.ndarray:
        return np.pad(coefficients[:terms], (0, max(0, terms - len(coefficients))))

    found: list[list[list[float]]] = []
    for depth in DEPTHS:
        terms, places = min(depth, TERMS), 2.0 * (np.arange(8) + 0.5) / 8 - 1.0
        starts = [np.polynomial.chebyshev.chebfit(places, np.array(linear_ramp(r, 8)).T, 1).T for r in RAMPS]
        starts += [np.array(found[-1])] if found else []
        flat = [np.concatenate([padded(side, terms) for side in start]) for start in starts]
        best = min(flat, key=lambda start: value(start, depth))
        end = minimize(value, best, (depth,), "L-BFGS-B", options={"maxiter": ITERATIONS, "eps": 1e-5}).x
        found.append([side.round(4).tolist() for side in np.split(end, 2)])
    return found


def entry(name: str, n: int) -> dict[str, object]:
    """One class at one size, as the library holds it."""
    made = [CLASSES[name](n, np.random.default_rng([n, seed])) for seed in range(PROBLEMS)]
    features = np.mean([Features.of_bits(*terms).shape for terms in made], axis=0).round(4).tolist()
    return {"class": name, "variables": n, "shape": features, "schedules": trained([Problem(*t) for t in made])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--only", choices=CLASSES)
    parser.add_argument("--sizes", type=int, nargs="*", default=[8, 12])
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    stored = json.loads(Path(FILE).read_text()) if Path(FILE).exists() else []
    for name in [asked.only] if asked.only else CLASSES:
        for n in asked.sizes:
            new = entry(name, n)
            stored = [old for old in stored if (old["class"], old["variables"]) != (name, n)] + [new]
            print(name, n, new["shape"], flush=True)
            if asked.write:
                order = sorted(stored, key=lambda one: (list(CLASSES).index(one["class"]), one["variables"]))
                lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in order)
                Path(FILE).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
