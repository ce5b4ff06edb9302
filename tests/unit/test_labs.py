"""Low-autocorrelation sequences: formats, energy, polynomial, compiled flips, branch and bound, published optima."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.problems.base import FamilyOptions, Instance
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.sequences.labs import MODELLED_LENGTH, Labs, correlations, lowest_energy, merit_factor
from hybrid_assets.problems.sequences.labs_landscape import LabsLandscape
from hybrid_assets.problems.sequences.labs_polynomial import sidelobe_polynomial
from hybrid_assets.solvers.base import SolveTask
from hybrid_assets.solvers.labs_branch import LabsBranch
from hybrid_assets.solvers.labs_tabu import LabsTabu
from resources.failures import InputError

FAMILY = Labs()
SHARED = Path(os.environ["HYBRID_INSTANCES"]) / "qoblib" / "labs" if "HYBRID_INSTANCES" in os.environ else None
FILES = sorted(SHARED.glob("*.json")) if SHARED else []
#: Optima from enumeration (Mertens 1996), by length.
OPTIMA = {2: 1, 3: 1, 4: 2, 5: 2, 6: 7, 7: 3, 8: 8, 9: 12, 10: 13, 11: 5, 12: 10, 13: 6, 14: 19, 15: 15, 16: 24}


def instance_of(content: bytes | str) -> Instance:
    content = content.encode() if isinstance(content, str) else content
    return FAMILY.normalize(FAMILY.read(source(content))[0], FamilyOptions(), "test")


def energy(bits: np.ndarray) -> int:
    """By the definition."""
    s = [1 - 2 * int(x) for x in bits]
    return sum(sum(s[i] * s[i + k] for i in range(len(s) - k)) ** 2 for k in range(1, len(s)))


@pytest.mark.parametrize(
    "content",
    ['{"problem": "LABS", "n": 13}', '{"n": 13, "problem": "labs"}', "labs 13\n", "# x\n\nN = 13", "LABS N=13"],
)
def test_every_way_to_say_a_length(content: str) -> None:
    assert FAMILY.recognises(source(content.encode()))
    assert instance_of(content).size == 13


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("labs 1\n", "line 1: the length is '1'"),
        ("# one\n\nlabs x\n", "line 3: the length is 'x'"),
        ("n = 13.5", "line 1: the length is '13.5'"),
        ('{"problem": "LABS"}', "n: the length is 'None'"),
        ('{"problem": "LABS", "n": true}', "n: the length is 'True'"),
        ('{"problem": "LABS", "n": 13', "file: it is no JSON object"),
        ('{"problem": "TSP", "n": 13}', "file: it is no JSON object with the problem 'LABS'"),
        ("labs 99999999999", "line 1: the length is '99999999999'"),
        ("13\n", "file: it does not say which length"),
    ],
)
def test_malformed_files_say_what_is_wrong(content: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        instance_of(content)
    assert message in str(refused.value)


def test_others_files_are_not_claimed() -> None:
    for content in ('{"problem": "TSP", "n": 13}', "13\n", "labs 5 6\n", "n 13\n", "labs " + " " * 5_000 + "7"):
        assert not FAMILY.recognises(source(content.encode())), content


def test_the_barker_sequence_of_thirteen() -> None:
    bits = np.array([0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 1, 0])
    found = FAMILY.evaluate(instance_of("labs 13"), bits)
    assert found.objective == 6 == lowest_energy(13)
    assert merit_factor(13, found.objective) == pytest.approx(14.083, abs=1e-3)
    assert correlations(bits).tolist() == [13, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 11), seed=st.integers(0, 1_000))
def test_the_program_is_the_energy(n: int, seed: int) -> None:
    draws = np.random.default_rng(seed).integers(0, 2, (40, n), dtype=np.int8)
    program = FAMILY.model(instance_of(f"labs {n}"))
    assert program.energies(draws).tolist() == [energy(x) for x in draws]
    assert all(len(term) in (3, 4) and value for term, value in program.higher.items())


@settings(max_examples=25, deadline=None)
@given(n=st.integers(5, 24), q=st.integers(2, 5), seed=st.integers(0, 1_000))
def test_conditioning_is_exact(n: int, q: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits, free = rng.integers(0, 2, n, dtype=np.int8), rng.permutation(n)[:q]
    found = sidelobe_polynomial(bits, free)
    for size in range(q + 1):
        for ones in combinations(range(q), size):
            x, whole = np.zeros(q), bits.copy()
            x[list(ones)] = 1
            whole[free] = x
            value = found.offset + found.linear @ x + found.values @ (x[found.rows] * x[found.cols])
            value += sum(c * x[list(term)].prod() for term, c in found.higher.items())
            assert value == energy(whole)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 30), seed=st.integers(0, 1_000))
def test_flips_cost_what_they_say(n: int, seed: int) -> None:
    from hybrid_assets.problems.sequences.labs_moves import correlate, flip, flip_energy

    bits = np.random.default_rng(seed).integers(0, 2, n, dtype=np.int8)
    spins, c, again = 1 - 2 * bits.astype(np.int64), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    assert correlate(spins, c) == energy(bits)
    for i in range(n):
        foreseen = flip_energy(spins, c, i)
        flip(spins, c, i)
        assert correlate(spins, again) == foreseen
        assert c.tolist() == again.tolist()


def test_a_polished_sequence_has_no_better_flip() -> None:
    walk = LabsLandscape(instance_of("labs 33"))
    state = walk.polish(walk.start(3), 100_000).state
    assert walk.flipped(state.data).min() >= state.cost
    assert state.cost < walk.start(3).cost


def test_a_program_too_large_to_hold_is_refused() -> None:
    with pytest.raises(InputError, match="too large to hold"):
        FAMILY.model(instance_of(f"labs {MODELLED_LENGTH + 1}"))


@pytest.mark.parametrize("n", OPTIMA)
def test_branch_and_bound_proves_the_optimum(n: int) -> None:
    result = LabsBranch().solve(SolveTask(FAMILY, instance_of(f"labs {n}")), 120.0, n)
    assert (result.status, result.objective, result.bound) == ("optimal", OPTIMA[n], OPTIMA[n])


@pytest.mark.parametrize("n", [9, 14, 17])
def test_branch_and_bound_needs_no_incumbent(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from hybrid_assets.solvers import labs_branch

    monkeypatch.setattr(labs_branch, "RUNS", 0)
    result = LabsBranch().solve(SolveTask(FAMILY, instance_of(f"labs {n}")), 120.0, 0)
    assert result.status == "optimal"
    assert result.objective == {**OPTIMA, 17: 32}[n]


def test_tabu_search_proves_only_barker_sequences() -> None:
    for n, status in ((13, "optimal"), (12, "feasible")):
        result = LabsTabu().solve(SolveTask(FAMILY, instance_of(f"labs {n}"), target=float(OPTIMA[n])), 60.0, 0)
        assert (result.status, result.objective, result.bound) == (status, OPTIMA[n], n // 2)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_shipped_sequences_have_their_recorded_energy(file: Path) -> None:
    instance = instance_of(file.read_bytes())
    (solution,) = file.parent.glob(f"{file.stem}.*.sol")
    lines = solution.read_text().split("\n")
    bits = np.array([int(line) for line in lines if line.strip() and line[0] != "#"])
    recorded = next(int(line.split(":")[1]) for line in lines if line.startswith("# Energy"))
    assert len(bits) == instance.size
    assert FAMILY.evaluate(instance, bits).objective == energy(bits) == recorded


@pytest.mark.parametrize(("n", "best"), [(20, 26), (25, 36), (30, 59)])
def test_tabu_search_reaches_the_optimum(n: int, best: int) -> None:
    result = LabsTabu().solve(SolveTask(FAMILY, instance_of(f"labs {n}"), target=float(best)), 60.0, 1)
    assert result.objective == best
