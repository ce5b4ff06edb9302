"""Every registered family passes the conformance suite, and families broken on purpose fail it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from hybrid_assets import registry
from hybrid_assets.problems.assignment.qap import Qap
from hybrid_assets.problems.base import Evaluation, Instance, ProblemFamily
from hybrid_assets.problems.conformance import FamilyConformance
from hybrid_assets.problems.graphs.maxcut import MaxCut
from hybrid_assets.problems.graphs.mis import Mis
from hybrid_assets.problems.packing.binpacking import BinPacking
from hybrid_assets.problems.packing.knapsack import Knapsack
from hybrid_assets.problems.packing.marketsplit import MarketSplit
from hybrid_assets.problems.portfolio import Portfolio
from hybrid_assets.problems.programs.program import MathematicalProgram
from hybrid_assets.problems.qubo import Qubo
from hybrid_assets.problems.routing.cvrp import Cvrp
from hybrid_assets.problems.routing.tsp import Tsp
from hybrid_assets.problems.sequences.labs import Labs
from tests.unit import program_examples


def prices(days: int, assets: int, seed: int) -> pd.DataFrame:
    """A random walk with a common factor, dates × assets."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(5e-4, 0.01, (days, 1)) + rng.normal(3e-4, 0.015, (days, assets))
    index = pd.bdate_range("2021-01-04", periods=days, name="date")
    return pd.DataFrame(100 * np.cumprod(1 + returns, axis=0), index, [f"A{k}" for k in range(assets)])


def port(assets: int, seed: int) -> bytes:
    """A random instance in the OR-Library ``port`` format."""
    rng = np.random.default_rng(seed)
    correlation = np.corrcoef(rng.normal(size=(3 * assets, assets)) + rng.normal(size=(3 * assets, 1)), rowvar=False)
    lines = [f" {assets}"] + [f" {rng.normal(0.003, 0.003):.6f} {rng.uniform(0.02, 0.08):.6f}" for _ in range(assets)]
    lines += [f" {i + 1} {j + 1} {correlation[i, j]:.6f}" for i in range(assets) for j in range(i, assets)]
    return ("\n".join(lines) + "\n").encode()


class TestPortfolio(FamilyConformance):
    def family(self) -> ProblemFamily:
        return Portfolio()

    def examples(self) -> Sequence[bytes]:
        wide = prices(60, 12, 0)
        parquet = io.BytesIO()
        wide.to_parquet(parquet)
        long = wide.reset_index().melt("date", var_name="ticker", value_name="price")
        returns = wide.pct_change().iloc[1:] * 100
        return [
            port(14, 1),
            wide.to_csv().encode(),
            parquet.getvalue(),
            long.to_csv(index=False).encode(),
            returns.to_csv(sep=";").encode(),
        ]


class TestQubo(FamilyConformance):
    def family(self) -> ProblemFamily:
        return Qubo()

    def examples(self) -> Sequence[bytes]:
        return [
            b"5 6\n1 1 -3\n1 2 2\n2 3 -1\n3 4 4\n4 5 -2\n5 5 1\n",
            b"2\n4 3\n1 1 5\n1 2 -3\n3 4 7\n4 2\n1 3 2\n4 4 -6\n",
            b"p qubo 0 4 2 2\n0 0 -1.5\n3 3 2\n0 1 2\n2 3 -1\n",
        ]


class TestMaxCut(FamilyConformance):
    def family(self) -> ProblemFamily:
        return MaxCut()

    def examples(self) -> Sequence[bytes]:
        return [b"5 6\n1 2 1\n1 3 2\n2 3 1\n2 4 1\n3 5 3\n4 5 1\n", b"p edge 4 4\ne 1 2\ne 2 3\ne 3 4\ne 1 4\n"]


class TestQap(FamilyConformance):
    def family(self) -> ProblemFamily:
        return Qap()

    def examples(self) -> Sequence[bytes]:
        return [
            b"4\n\n0 3 1 2\n3 0 1 4\n1 1 0 2\n2 4 2 0\n\n0 1 2 3\n1 0 1 2\n2 1 0 1\n3 2 1 0\n",
            b"3\n1 5 2 0\n0 3 9 8 0\n0 2 7 0 1 4 3 6\n2\n",
        ]


class TestKnapsack(FamilyConformance):
    def family(self) -> ProblemFamily:
        return Knapsack()

    def examples(self) -> Sequence[bytes]:
        return [
            b"6 11\n8 4\n10 5\n15.5 8\n4 3\n9 2.5\n7 12\n",
            b"2\n5 2 0\n6 5 8 9 6\n2 3 4 5 1\n5.5 1 2 2 3\n9 8\n4 1 13\n4 5 6 7\n2 3 4 5\n8\n",
            b"small_5\n5\n4 0 7 3 2\n1 0 5 0\n2 0 8\n0 3\n6\n\n0\n9\n3 2 4 5 1\n\nComments\n",
        ]


class TestMis(FamilyConformance):
    def family(self) -> ProblemFamily:
        return Mis()

    def examples(self) -> Sequence[bytes]:
        return [
            b"p edge 6 7\ne 1 2\ne 3 2\ne 3 4\ne 1 4\ne 5 1\ne 5 6\ne 2 6\n",
            b"c weights\np col 5 5\nn 2 7\nn 5 0.5\ne 1 2\ne 2 3\ne 3 4\ne 4 5\ne 5 1\n",
            b"# independent set\n4 3\n1 2\n2 3\n3 4\n",
        ]


class TestBinPacking(FamilyConformance):
    def family(self) -> ProblemFamily:
        return BinPacking()

    def examples(self) -> Sequence[bytes]:
        return [b"5\n10\n6\n5\n4\n3.5\n2\n", b"2\n u5_0\n 10 5 2\n6\n5\n4\n3\n2\n u4_1\n 9 4 3\n5\n5\n4\n3\n"]


#: A project of three activities and two dummies in PSPLIB's format.
PROJECT = b"""\
************************************************************************
projects                      :  1
jobs (incl. supersource/sink ):  5
RESOURCES
  - renewable                 :  2   R
  - nonrenewable              :  0   N
  - doubly constrained        :  0   D
************************************************************************
PRECEDENCE RELATIONS:
jobnr.    #modes  #successors   successors
   1        1          2           2   3
   2        1          1           4
   3        1          1           5
   4        1          1           5
   5        1          0
************************************************************************
REQUESTS/DURATIONS:
jobnr. mode duration  R 1  R 2
------------------------------------------------------------------------
  1      1     0       0    0
  2      1     2       2    0
  3      1     3       2    1
  4      1     1       0    1
  5      1     0       0    0
************************************************************************
RESOURCEAVAILABILITIES:
  R 1  R 2
    3    1
************************************************************************
"""


class TestJobShop(FamilyConformance):
    def family(self) -> ProblemFamily:
        return registry.family("jobshop")

    def examples(self) -> Sequence[bytes]:
        return [
            b"# two by two\n2 2\n0 3 1 2\n1 2 0 1\n",
            b"2 2 1 2 3 4\nTimes\n 1 2\n 2 1\nMachines\n 1 2\n 1 2\n",
            b'{"name": "x", "duration_matrix": [[2, 1], [1], [1]], "machines_matrix": [[0, 1], [0], [1]]}',
        ]


class TestRcpsp(FamilyConformance):
    def family(self) -> ProblemFamily:
        return registry.family("rcpsp")

    def examples(self) -> Sequence[bytes]:
        return [PROJECT, b"5 1\n3\n0 0 3 2 3 4\n2 2 1 5\n1 1 1 5\n2 2 1\n5\n0 0 0\n"]


class TestProgram(FamilyConformance):
    def family(self) -> ProblemFamily:
        return MathematicalProgram()

    def examples(self) -> Sequence[bytes]:
        return program_examples.ALL


class TestTsp(FamilyConformance):
    def family(self) -> ProblemFamily:
        return Tsp()

    def examples(self) -> Sequence[bytes]:
        head = b"NAME : five\nTYPE : %s\nDIMENSION : 5\nEDGE_WEIGHT_TYPE : %s\n"
        weights = b"EDGE_WEIGHT_FORMAT : %s\nEDGE_WEIGHT_SECTION\n%s\nEOF\n"
        places = b"NODE_COORD_SECTION\n1 38.24 20.42\n2 39.57 26.15\n3 40.56 25.32\n4 36.26 23.12\n5 33.48 10.54\nEOF\n"
        return [
            *(head % (b"TSP", kind) + places for kind in (b"GEO", b"EUC_2D", b"ATT")),
            head % (b"TSP", b"EXPLICIT") + weights % (b"UPPER_ROW", b"4 9 7 3\n2 8 6\n5 1\n9"),
            head % (b"ATSP", b"EXPLICIT")
            + weights % (b"FULL_MATRIX", b"9 1 7 3 4\n2 9 8 6 3\n5 1 9 6 1\n9 7 2 9 1\n4 4 3 8 9"),
        ]


class TestCvrp(FamilyConformance):
    def family(self) -> ProblemFamily:
        return Cvrp()

    def examples(self) -> Sequence[bytes]:
        head = b"NAME : five-k3\nTYPE : %s\nDIMENSION : 5\nCAPACITY : 10\nEDGE_WEIGHT_TYPE : EUC_2D\n"
        places = b"NODE_COORD_SECTION\n1 50 50\n2 10 80\n3 20 90\n4 90 15\n5 70 20\n"
        demands = b"DEMAND_SECTION\n1 0\n2 4\n3 5\n4 3\n5 6\nDEPOT_SECTION\n1\n-1\nEOF\n"
        windows = b"TIME_WINDOW_SECTION\n1 0 400\n2 40 90\n3 0 75\n4 50 300\n5 0 120\nSERVICE_TIME : 10\n"
        solomon = (
            b"T1\n\nVEHICLE\nNUMBER     CAPACITY\n  3         20\n\nCUSTOMER\n"
            b"CUST NO.  XCOORD.   YCOORD.    DEMAND   READY TIME  DUE DATE   SERVICE   TIME\n\n"
            b"0 40 50 0 0 236 0\n1 45 68 10 112 167 10\n2 45 70 9 25 70 10\n3 42 66 8 65 146 10\n4 10 68 10 27 182 10\n"
        )
        return [
            b"# a licence\n" + head % b"CVRP" + places + demands,
            head % b"VRPTW" + windows + places + demands,
            solomon,
        ]


class TestLabs(FamilyConformance):
    def family(self) -> ProblemFamily:
        return Labs()

    def examples(self) -> Sequence[bytes]:
        return [b'{"problem": "LABS", "n": 13}', b"labs 8\n", b"# odd\nN = 7\n"]


class TestMarketSplit(FamilyConformance):
    def family(self) -> ProblemFamily:
        return MarketSplit()

    def examples(self) -> Sequence[bytes]:
        return [b"# a comment\n2 6\n 3 5 2 7 4 1 11\n 2 2 6 1 3 5 9\n", b"1 4\n9 4 4 1 10\n"]


def test_every_family_of_the_project_is_covered() -> None:
    covered = {cls().family().name for cls in FamilyConformance.__subclasses__() if cls.__module__ == __name__}
    mine = {n for n in registry.names("families") if type(registry.family(n)).__module__.startswith("hybrid_assets.")}
    assert mine == covered


class _Flipped(Portfolio):
    """Scores the other way round than it models."""

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        true = super().evaluate(instance, values)
        return Evaluation(-true.objective, true.violations)


class _Silent(Portfolio):
    """Repairs and calls it raw."""

    def complete(self, instance, assignment):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        from resources.envelope import PostProcessing

        return replace(super().complete(instance, assignment), post_processing=PostProcessing.RAW)


class _Greedy(Portfolio):
    """Claims every file."""

    def recognises(self, source):  # type: ignore[no-untyped-def]
        return True


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (_Flipped, "test_low_energies_are_good_candidates"),
        (_Silent, "test_any_bits_complete"),
        (_Greedy, "test_claims_no_junk"),
    ],
)
def test_broken_families_fail(broken: type[Portfolio], test: str) -> None:
    class Suite(TestPortfolio):
        def family(self) -> ProblemFamily:
            return broken()

    with pytest.raises(AssertionError):
        getattr(Suite(), test)()
