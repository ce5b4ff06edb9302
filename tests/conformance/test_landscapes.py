"""The landscape suite on the families' own landscapes: one class per family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybrid_assets import registry
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.problems.landscape_conformance import LandscapeConformance
from hybrid_assets.problems.source import SourceFile


def read(family: str, text: str, **options: object) -> tuple[ProblemFamily, Instance]:
    """The first instance of a text in one of the family's formats."""
    found = registry.family(family)
    raw = found.read(SourceFile("inline.txt", text.encode(), "0"))[0]
    return found, found.normalize(raw, found.options(**options), "inline")


def entries(nodes: int, edges: int, seed: int, weights: Sequence[float]) -> str:
    """Random ``i j w`` lines below their header, numbered from 1."""
    rng = np.random.default_rng(seed)
    pairs = [(i, j) for i in range(1, nodes + 1) for j in range(i + 1, nodes + 1)]
    kept = sorted(rng.choice(len(pairs), edges, replace=False).tolist())
    lines = [f"{pairs[k][0]} {pairs[k][1]} {rng.choice(weights):g}" for k in kept]
    return "\n".join([f"{nodes} {edges}", *lines]) + "\n"


class TestMaxCut(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        return [
            read("maxcut", entries(30, 70, 1, [1, -1])),
            read("maxcut", entries(8, 28, 2, [0.3, 1.7, 2.9])),
            # two parts and nodes without any edge
            read("maxcut", "9 3\n1 2 1\n2 3 1\n5 6 4\n"),
        ]


class TestQubo(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        return [read("qubo", entries(25, 120, 3, [-50, -7, 3, 60])), read("qubo", "6 3\n1 1 -3\n1 4 2\n2 6 -1\n")]


class TestQap(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        rng = np.random.default_rng(4)
        texts = [f"{n}\n" + " ".join(map(str, rng.integers(-3, 30, 2 * n * n))) for n in (6, 11, 18)]
        return [read("qap", text) for text in texts]


class TestKnapsack(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        rng = np.random.default_rng(5)
        single = "\n".join(["30 200", *(f"{rng.integers(1, 60)} {rng.integers(1, 250)}" for _ in range(30))])
        counts, weights = "1\n20 3 0\n", rng.integers(1, 40, 60)
        several = counts + " ".join(map(str, [*rng.integers(1, 90, 20), *weights, 150, 180, 400]))
        rows = [" ".join(map(str, rng.integers(0, 50, 24 - k))) for k in range(24)]
        pairs = "\n".join(["q", "24", *rows, "0", "130", " ".join(map(str, rng.integers(1, 40, 24)))])
        return [read("knapsack", text) for text in (single, several, pairs, "6 100\n" + "3 2\n" * 6)]


class TestMis(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        sparse = entries(40, 80, 5, [1]).replace(" 1\n", "\n")
        dense = entries(12, 40, 6, [1]).replace(" 1\n", "\n")
        heavy = "p edge 7 6\nn 1 2.5\nn 4 9\nn 6 3\n" + "".join(f"e {i} {i + 1}\n" for i in range(1, 7))
        return [read("mis", text) for text in (sparse, dense, heavy)]


class TestBinPacking(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        rng = np.random.default_rng(6)
        texts = ["\n".join(["40", "100", *map(str, rng.integers(low, high, 40))]) for low, high in ((20, 100), (5, 40))]
        return [read("binpacking", text) for text in (*texts, "6\n10\n6\n5\n4\n3\n3\n2\n")]
