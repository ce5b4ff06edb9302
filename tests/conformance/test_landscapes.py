"""The landscape suite on the families' own landscapes: one class per family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybrid_assets import registry
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.problems.landscape_conformance import LandscapeConformance
from hybrid_assets.problems.source import SourceFile
from tests.conformance.test_families import port
from tests.unit import program_examples


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


class TestProgram(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        return [read("program", text.decode()) for text in program_examples.ALL[:-1]]


def _routing(kind: str, size: int, seed: int, lines: str = "") -> str:
    """Random places in the head of a TSPLIB or VRPLIB file."""
    rng = np.random.default_rng(seed)
    places = "".join(f"{k + 1} {x} {y}\n" for k, (x, y) in enumerate(rng.integers(0, 100, (size, 2))))
    head = f"TYPE : {kind}\nDIMENSION : {size}\nEDGE_WEIGHT_TYPE : EUC_2D\n{lines}"
    return f"{head}NODE_COORD_SECTION\n{places}"


class TestTsp(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        weights = " ".join(map(str, np.random.default_rng(6).integers(1, 90, 9 * 9)))
        oneway = "TYPE : ATSP\nDIMENSION : 9\nEDGE_WEIGHT_TYPE : EXPLICIT\nEDGE_WEIGHT_FORMAT : FULL_MATRIX\n"
        return [
            read("tsp", _routing("TSP", 40, 1) + "EOF\n"),
            read("tsp", _routing("TSP", 6, 2) + "EOF\n"),
            read("tsp", f"{oneway}EDGE_WEIGHT_SECTION\n{weights}\nEOF\n"),
        ]


class TestCvrp(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        found = []
        for size, vehicles, seed in ((30, 5, 3), (8, 2, 4), (13, 12, 5)):
            rng = np.random.default_rng(seed)
            demands = "".join(f"{k + 1} {d}\n" for k, d in enumerate([0, *rng.integers(1, 9, size - 1)]))
            lines = f"CAPACITY : 40\nVEHICLES : {vehicles}\n"
            text = _routing("CVRP", size, seed, lines) + f"DEMAND_SECTION\n{demands}"
            found.append(read("cvrp", f"{text}EOF\n"))
            opens = [0, *rng.integers(0, 300, size - 1)]
            windows = "".join(f"{k + 1} {o} {o + 150 if k else 900}\n" for k, o in enumerate(opens))
            text = f"{text}TIME_WINDOW_SECTION\n{windows}EOF\n".replace("CVRP", "VRPTW")
            found.append(read("cvrp", text.replace(f"VEHICLES : {vehicles}", f"VEHICLES : {2 * vehicles}")))
        return found


class TestJobShop(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        rng = np.random.default_rng(7)
        texts = []
        for jobs, machines, low in ((6, 6, 1), (10, 3, 0), (3, 4, 0)):
            rows = [
                " ".join(f"{k} {rng.integers(low, 20)}" for k in rng.permutation(machines).tolist())
                for _ in range(jobs)
            ]
            texts.append("\n".join([f"{jobs} {machines}", *rows]))
        # the second visit of a machine by one job
        again = '{"duration_matrix": [[3, 2, 4], [2, 5], [1, 3, 3]], "machines_matrix": [[0, 1, 0], [1, 0], [1, 2, 1]]}'
        return [read("jobshop", text) for text in (*texts, again)]


class TestRcpsp(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        rng = np.random.default_rng(8)
        texts = []
        for count, kinds in ((12, 1), (30, 3)):
            capacities = rng.integers(6, 12, kinds)
            rows = [f"0 {'0 ' * kinds}{count - 2} {' '.join(map(str, range(2, count)))}"]
            for i in range(2, count):
                later = [j for j in range(i + 1, count) if rng.random() < 0.1] or [count]
                demands = " ".join(map(str, rng.integers(0, 6, kinds)))
                rows.append(f"{rng.integers(0, 9)} {demands} {len(later)} {' '.join(map(str, later))}")
            rows.append("0 " * (kinds + 2))
            texts.append("\n".join([f"{count} {kinds}", " ".join(map(str, capacities)), *rows]))
        return [read("rcpsp", text) for text in texts]


class TestLabs(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        return [read("labs", f"labs {n}") for n in (6, 21, 40)]


class TestMarketSplit(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        matrix = np.random.default_rng(7).integers(0, 50, (3, 20))
        rows = [" ".join(map(str, [*row, row.sum() // 2])) for row in matrix]
        return [read("marketsplit", "\n".join(["3 20", *rows])), read("marketsplit", "1 6\n3 5 8 13 21 34 42\n")]


class TestPortfolio(LandscapeConformance):
    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        text = port(18, 4).decode()
        sectors = {str(k): "odd" if k % 2 else "even" for k in range(1, 19)}
        held = {"1": 0.3, "4": 0.3, "9": 0.4}
        return [
            read("portfolio", port(30, 3).decode(), cardinality=8, risk_aversion=0.9),
            read("portfolio", text, cardinality=5, risk_aversion=0.0, max_weight=0.4),
            read("portfolio", text, cardinality=4, risk_aversion=0.7, sectors=sectors, sector_limits={"odd": 0.25}),
            read("portfolio", text, cardinality=5, lots=0.05, previous=held, turnover=0.9, risk_aversion=0.8),
        ]
