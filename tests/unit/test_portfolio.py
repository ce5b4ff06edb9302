"""The portfolio family: formats and their malformations, estimates, weights, proxy, refinement, options."""

from __future__ import annotations

import gzip
import io
import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.landing import recognise
from hybrid_assets.problems.base import Instance, Solution
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.portfolio import Portfolio, PortfolioOptions, repair
from hybrid_assets.problems.portfolio_readers import History
from hybrid_assets.problems.portfolio_weights import _interior_point, objectives, optimal_weights
from hybrid_assets.problems.source import SourceFile
from resources.envelope import PostProcessing
from resources.failures import InputError
from tests.conformance.test_families import port, prices

FAMILY = Portfolio()
DATA = Path(__file__).parents[2] / "data" / "inbox" / "portfolio"
SHARED = Path(os.environ["HYBRID_INSTANCES"]) / "portfolio" if "HYBRID_INSTANCES" in os.environ else None

PORT = """ 3
 .001 .05
 .002 .04
 .003 .06
 1 1 1
 1 2 .5
 1 3 .2
 2 2 1
 2 3 -.1
 3 3 1
"""


def read(content: str | bytes, **options: object) -> Instance:
    file = source(content.encode() if isinstance(content, str) else content, "file.txt")
    return FAMILY.normalize(FAMILY.read(file)[0], PortfolioOptions.model_validate(options), "name")


def random_instance(size: int, seed: int, **options: object) -> Instance:
    return read(port(size, seed), **options)


def csv(frame: pd.DataFrame) -> str:
    return frame.to_csv()


# -- OR-Library port files -------------------------------------------------------------------------------------------


def test_port_file() -> None:
    instance = read(PORT)
    correlation = np.array([[1, 0.5, 0.2], [0.5, 1, -0.1], [0.2, -0.1, 1]])
    deviation = np.array([0.05, 0.04, 0.06])
    assert instance.labels == ("1", "2", "3")
    np.testing.assert_allclose(instance.arrays["mean"], [0.001, 0.002, 0.003])
    np.testing.assert_allclose(instance.arrays["covariance"], correlation * np.outer(deviation, deviation))
    assert instance.settings == {"cardinality": 3, "risk_aversion": 0.5, "min_weight": 0.01, "max_weight": 1.0}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (" 3\n", " three\n", "line 1: it must be one number"),
        (" 3\n", " 3 1\n", "line 1: it must be one number"),
        (" 3\n", " 30\n", "line 1: it announces 30 assets"),
        (" 3\n", " 4\n", "line 5: it must hold mean and standard deviation"),
        (" 3\n", " 2\n", "line 4: it must hold i, j and their correlation"),
        (".002 .04", ".002", "line 3: it must hold mean and standard deviation"),
        (".002 .04", ".002 x", "line 3: it must hold mean and standard deviation"),
        (".002 .04", "nan .04", "line 3: 'nan .04' is not finite or too large"),
        (".002 .04", "1e308 .04", "line 3: '1e308 .04' is not finite or too large"),
        (".002 .04", ".002 -.04", "line 3: the deviation -0.04 is negative"),
        (" 1 2 .5\n", " 1 2 1.5\n", "line 6: the correlation 1.5 lies outside [-1, 1]"),
        (" 1 2 .5\n", " 1 2 nan\n", "line 6: '1 2 nan' is not finite"),
        (" 1 2 .5\n", " 1 2\n", "line 6: it must hold i, j and their correlation"),
        (" 1 2 .5\n", " 1 4 .5\n", "line 6: the assets 1 4 are not integers from 1 to 3"),
        (" 1 2 .5\n", " -1 2 .5\n", "line 6: the assets -1 2 are not integers from 1 to 3"),
        (" 1 2 .5\n", " 1.5 2 .5\n", "line 6: the assets 1.5 2 are not integers"),
        (" 1 2 .5\n", " 1 2 .5\n 2 1 .4\n", "line 7: the pair 2 1 has correlation .4 here and 0.5 earlier"),
        (" 2 2 1\n", " 2 2 .9\n", "line 8: the correlation of asset 2 with itself is .9"),
        (" 2 3 -.1\n", "", "pair 2 3: its correlation is missing (1 of 3 pairs are)"),
        (" 2 3 -.1\n", " 2 3 -1\n", "correlations: the matrix is not positive semidefinite"),
        ("1 3 .2", "1 3 \0", "file: it is binary"),
    ],
)
def test_malformed_port_file(old: str, new: str, expected: str) -> None:
    with pytest.raises(InputError) as error:
        read(PORT.replace(old, new, 1))
    assert str(error.value).startswith(f"file.txt: {expected}"), error.value
    assert "\n" not in str(error.value)


def test_rounded_correlations_are_clipped_and_noted() -> None:
    # three assets on a line: the exact matrix is singular, rounding pushes one eigenvalue below zero
    text = PORT.replace("1 2 .5", "1 2 .700000").replace("1 3 .2", "1 3 .714143").replace("2 3 -.1", "2 3 -.000001")
    correlation = np.array([[1, 0.7, 0.714143], [0.7, 1, -1e-6], [0.714143, -1e-6, 1]])
    assert -1e-6 < np.linalg.eigvalsh(correlation)[0] < 0
    instance = read(text)
    assert np.linalg.eigvalsh(instance.arrays["covariance"])[0] >= -1e-15
    assert any("eigenvalues" in note for note in instance.notes)


# -- histories -------------------------------------------------------------------------------------------------------


def test_formats_of_one_history_agree() -> None:
    wide = prices(60, 5, 3)
    long = wide.reset_index().melt("date", var_name="ticker", value_name="price")
    parquet, indexed = io.BytesIO(), io.BytesIO()
    wide.reset_index().to_parquet(parquet)
    wide.to_parquet(indexed)
    digests = {
        read(content).digest
        for content in (
            csv(wide),
            wide.to_csv(sep=";"),
            wide.to_csv(date_format="%Y%m%d"),
            wide.to_csv(date_format="%b %d %Y"),
            wide.to_csv(date_format="%Y-%m-%d 00:00:00-05:00"),
            csv(wide[::-1]),
            long.sample(frac=1, random_state=0).to_csv(index=False),
            parquet.getvalue(),
            indexed.getvalue(),
        )
    }
    assert len(digests) == 1


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv.gz"
    path.write_bytes(gzip.compress(csv(prices(40, 4, 0)).encode()))
    file = SourceFile.open(path)
    assert FAMILY.recognises(file)
    assert FAMILY.normalize(FAMILY.read(file)[0], PortfolioOptions(), "x").size == 4


def test_estimates_are_those_of_the_returns() -> None:
    from sklearn.covariance import LedoitWolf

    wide = prices(80, 6, 1)
    returns = wide.pct_change().iloc[1:].to_numpy()
    instance = read(csv(wide))
    np.testing.assert_allclose(instance.arrays["mean"], returns.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(instance.arrays["covariance"], LedoitWolf().fit(returns).covariance_, rtol=1e-9)
    assert instance.labels == tuple(wide.columns)
    percent = read((wide.pct_change().iloc[1:] * 100).to_csv())
    np.testing.assert_allclose(percent.arrays["mean"], instance.arrays["mean"], rtol=1e-9)
    assert any("in percent" in note for note in percent.notes)
    decimal = read(wide.pct_change().iloc[1:].to_csv())
    np.testing.assert_allclose(decimal.arrays["covariance"], instance.arrays["covariance"], rtol=1e-9)


def _with(row: int, column: str, value: object) -> str:
    frame = prices(60, 4, 0).astype(object)
    frame.loc[frame.index[row], column] = value
    return frame.to_csv()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_with(7, "A1", "abc"), "row 9, column A1: 'abc' is no number"),
        (_with(7, "A1", "1e308"), "row 9, column A1: '1e308' is too large"),
        (_with(7, "A1", "inf"), "row 9, column A1: 'inf' is too large"),
        (_with(7, "A1", "1,5"), "row 9, column A1: '1,5' is no number"),
        (_with(7, "A1", 0), "A1 on 2021-01-13: the price 0 is not positive"),
        (_with(7, "A1", -3), "A1 on 2021-01-13: the price -3 is not positive"),
        (csv(prices(60, 4, 0)).replace("2021-01-13", "13/01/2021"), "row 9: '13/01/2021' is no date"),
        (csv(prices(60, 4, 0)).replace("2021-01-13", "2021-13-01"), "row 9: '2021-13-01' is no date"),
        (csv(prices(60, 4, 0)).replace("2021-01-13", "2021-01-12"), "date 2021-01-12: it appears more than once"),
        (csv(prices(60, 4, 0)).replace("A1", "A0"), "header: the column 'A0' appears twice"),
        (csv(prices(60, 4, 0).assign(A1=3.5)), "column A1: its price is 3.5 on every day"),
        (csv(prices(60, 4, 0)) + "2022-01-03,1,2,3,4,5\n", "table: it is not a regular table"),
        (csv(prices(15, 4, 0)), "coverage: all assets together cover 15 rows"),
        (csv(prices(60, 1, 0)), "assets: there is only one"),
        ("date,A,B\n", "table: it has a header and no rows"),
        ("date,A,B\n2020-01-01,,\n", "values: there is no number in the table"),
        (
            "date,ticker,price\n2020-01-01,A,1\n2020-01-01,A,2\n2020-01-02,A,2\n",
            "date 2020-01-01 A: it appears more than once",
        ),
        ("date,ticker,price\n2020-01-01,,1\n", "row 2: the ticker is missing"),
        (b"PAR1 and then nothing PAR1", "file: the Parquet content is damaged"),
    ],
)
def test_malformed_history(content: str | bytes, expected: str) -> None:
    with pytest.raises(InputError) as error:
        read(content)
    assert str(error.value).startswith(f"file.txt: {expected}"), error.value
    assert "\n" not in str(error.value)


def test_gaps_are_filled_up_to_a_week_and_noted() -> None:
    frame = prices(60, 4, 0)
    frame.iloc[10:13, 2] = np.nan
    filled = read(csv(frame))
    assert filled.digest == read(csv(frame.ffill())).digest
    assert any("3 missing value(s) in 1 asset(s)" in note for note in filled.notes)
    frame.iloc[10:16, 2] = np.nan
    with pytest.raises(InputError, match="column A2: 6 values in a row are missing"):
        read(csv(frame))
    returns = prices(60, 4, 0).pct_change().iloc[1:]
    returns.iloc[10, 2] = np.nan
    with pytest.raises(InputError, match="column A2: 1 values in a row are missing"):
        read(csv(returns))


def test_ragged_histories_are_cut_to_the_common_window() -> None:
    frame = prices(100, 4, 0)
    frame.iloc[:30, 1] = np.nan
    frame.iloc[90:, 3] = np.nan
    instance = read(csv(frame))
    assert instance.digest == read(csv(frame.iloc[30:90])).digest
    assert any("60 of 100 rows (A1 starts last, A3 ends first)" in note for note in instance.notes)
    frame["A0"] = np.nan
    left_out = read(csv(frame))
    assert left_out.labels == ("A1", "A2", "A3")
    assert any("left out: A0" in note for note in left_out.notes)
    frame.iloc[:85, 1] = np.nan
    with pytest.raises(InputError, match="coverage: all assets together cover 5 rows"):
        read(csv(frame))


def test_doubtful_histories_are_noted() -> None:
    frame = prices(100, 4, 0)
    frame.iloc[50:, 1] /= 4
    assert any("A1 changes by a factor of 0.2" in note for note in read(csv(frame)).notes)
    assert any("1 gap(s) of more than a week" in note for note in read(csv(frame.drop(frame.index[20:30]))).notes)
    doubled = pd.concat([frame, frame.iloc[[4]]])
    assert any("1 row(s) that repeat a date" in note for note in read(csv(doubled)).notes)
    assert any("sorted" in note for note in read(csv(frame[::-1])).notes)


def test_window() -> None:
    frame = prices(100, 4, 0)
    instance = read(csv(frame), start="2021-02-01", end="2021-04-30")
    assert instance.arrays["mean"].tolist() == read(csv(frame.loc["2021-02-01":"2021-04-30"])).arrays["mean"].tolist()
    assert instance.settings["start"] == "2021-02-01"
    with pytest.raises(InputError, match="no row lies from 2030-01-01"):
        read(csv(frame), start="2030-01-01")
    with pytest.raises(InputError, match="the file has no dates"):
        read(PORT, start="2021-02-01")


@pytest.mark.parametrize(
    "content",
    [
        b"3 2\n1 2 1\n2 3 1\n",
        b"3 3\n1 2 0.5\n2 3 1\n1 3 0.1\n",
        b"2\n3 2\n1 2 5\n2 3 1\n3 1\n1 1 2\n",
        b"10\n5 6\n1 1\n2 2\n",
        b"timestamp,value\n2014-04-02 14:25:00,1.5\n2014-04-02 14:30:00,1.7\n",
        b"id,weight,cost\n1,2,3\n2,3,4\n",
    ],
)
def test_other_formats_are_not_claimed(content: bytes) -> None:
    assert not FAMILY.recognises(source(content))


@pytest.mark.parametrize("path", [p for p in sorted(DATA.iterdir()) if p.suffix != ".yaml"], ids=lambda p: p.name)
def test_shipped_data(path: Path) -> None:
    file = SourceFile.open(path)
    assert recognise(file) == "portfolio"
    assert path.stat().st_size < 300_000
    assert FAMILY.normalize(FAMILY.read(file)[0], PortfolioOptions(), path.name).size >= 5


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cardinality": 4}, "cardinality: 4 assets are to be held, there are 3; use at most 3"),
        ({"min_weight": 0.5}, "min_weight: 3 assets of at least 0.5 make more than 1; use at most 0.333333"),
        ({"max_weight": 0.3}, "max_weight: 3 assets of at most 0.3 make less than 1; use at least 0.333333"),
        ({"min_weight": 0.3, "max_weight": 0.2}, "min_weight: 0.3 is larger than max_weight 0.2"),
    ],
)
def test_contradictory_options(options: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError) as error:
        read(PORT, **options)
    assert str(error.value).startswith(f"options of file.txt: {expected}")


# -- weights ---------------------------------------------------------------------------------------------------------

cases = st.tuples(
    st.integers(2, 9),
    st.integers(0, 10_000),
    st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.001, 0.999)),
    st.sampled_from([0.0, 0.01, 0.1]),
    st.sampled_from([0.6, 1.0]),
)


@settings(max_examples=50, deadline=None)
@given(cases)
def test_weights_satisfy_the_kkt_conditions(case: tuple[int, int, float, float, float]) -> None:
    size, seed, risk_aversion, lower, upper = case
    rng = np.random.default_rng(seed)
    factor = rng.normal(0, 0.02, (size, rng.integers(1, 2 * size)))  # singular covariances included
    covariance, mean = factor @ factor.T, rng.normal(0, 0.003, size)
    chosen = np.arange(size)[None, :]
    w = optimal_weights(mean, covariance, risk_aversion, lower, upper, chosen)[0]
    assert abs(w.sum() - 1) < 1e-9
    assert w.min() >= lower - 1e-12
    assert w.max() <= upper + 1e-12
    gradient = 2 * risk_aversion * covariance @ w - (1 - risk_aversion) * mean
    # no transfer of weight from i to j pays: the largest gradient that can shrink is at most the smallest that can grow
    can_shrink, can_grow = w > lower + 1e-7, w < upper - 1e-7
    if can_shrink.any() and can_grow.any():
        assert gradient[can_shrink].max() <= gradient[can_grow].min() + 1e-7 * np.abs(gradient).max() + 1e-12


def test_minimum_variance_in_closed_form() -> None:
    instance = random_instance(6, 0)
    covariance = instance.arrays["covariance"]
    closed = np.linalg.solve(covariance, np.ones(6))
    closed /= closed.sum()
    w = optimal_weights(instance.arrays["mean"], covariance, 1.0, -10.0, 10.0, np.arange(6)[None, :])[0]
    np.testing.assert_allclose(w, closed, rtol=1e-9)


def test_batch_interior_point_and_grid_agree() -> None:
    instance = random_instance(12, 1)
    mean, covariance = instance.arrays["mean"], instance.arrays["covariance"]
    chosen = np.array(list(itertools.combinations(range(12), 3)))
    grid = np.array([(a, b, 100 - a - b) for a in range(5, 91) for b in range(5, 96 - a) if 100 - a - b >= 5]) / 100
    for risk_aversion in (0.0, 0.3, 0.9, 1.0):
        w = optimal_weights(mean, covariance, risk_aversion, 0.05, 0.9, chosen)
        found = objectives(mean, covariance, risk_aversion, chosen, w)
        for row in range(0, len(chosen), 23):
            ids = chosen[row]
            one = optimal_weights(mean, covariance, risk_aversion, 0.05, 0.9, ids)
            np.testing.assert_allclose(one[0], w[row], atol=1e-12)
            every = np.repeat(ids[None, :], len(grid), axis=0)
            assert found[row] <= objectives(mean, covariance, risk_aversion, every, grid).min() + 1e-15
            quadratic, linear = 2 * risk_aversion * covariance[np.ix_(ids, ids)], -(1 - risk_aversion) * mean[ids]
            scale = max(np.trace(quadratic), np.abs(linear).max())
            inner = _interior_point(quadratic / scale, linear / scale, 0.05, 0.9)
            value = objectives(mean, covariance, risk_aversion, ids[None, :], inner[None, :])[0]
            assert found[row] <= value + 1e-12
            assert value - found[row] < 1e-9


# -- model, completion, refinement -----------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 12), st.integers(0, 1000), st.floats(0, 1))
def test_proxy_is_the_objective_at_equal_weights(size: int, seed: int, risk_aversion: float) -> None:
    instance = random_instance(size, seed, risk_aversion=risk_aversion, cardinality=min(size, 3))
    program = FAMILY.model(instance)
    for draw in FAMILY.random_assignments(instance, 5, seed):
        energy = program.cqm.objective.energy(dict(enumerate(draw.tolist())))
        assert energy == pytest.approx(FAMILY.evaluate(instance, draw / draw.sum()).objective, abs=1e-14)
        assert FAMILY.complete(instance, draw).evaluation.objective <= energy + 1e-14


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 1), min_size=9, max_size=9))
def test_any_bits_complete_to_exactly_k(seed: int, bits: list[int]) -> None:
    instance = random_instance(9, seed, cardinality=4)
    given_bits = np.array(bits, dtype=np.int8)
    solution = FAMILY.complete(instance, given_bits)
    assert solution.evaluation.feasible
    assert np.count_nonzero(solution.values) == 4
    assert solution.post_processing is (PostProcessing.RAW if sum(bits) == 4 else PostProcessing.REPAIRED)
    held = (solution.values > 0).astype(np.int8)
    # repair only adds, or only removes
    assert (held >= given_bits).all() or (held <= given_bits).all()
    np.testing.assert_array_equal(repair(instance, held), held)


def test_violations_are_named() -> None:
    instance = random_instance(6, 0, cardinality=3, min_weight=0.1, max_weight=0.6)

    def violations(*weights: float) -> set[str]:
        return set(FAMILY.evaluate(instance, np.array(weights)).violations)

    assert violations(0.5, 0.3, 0.2, 0, 0, 0) == set()
    assert violations(0.5 + 5e-7, 0.3, 0.2, 0, 0, 0) == set()
    assert violations(0.5, 0.5, 0, 0, 0, 0) == {"cardinality"}
    assert violations(0.4, 0.2, 0.2, 0.2, 0, 0) == {"cardinality"}
    assert violations(0.5, 0.3, 0.1, 0, 0, 0) == {"budget"}
    assert violations(0.5, 0.45, 0.05, 0, 0, 0) == {"min_weight"}
    assert violations(0.7, 0.2, 0.1, 0, 0, 0) == {"max_weight"}
    assert violations(0.7, 0.5, -0.2, 0, 0, 0) == {"cardinality", "min_weight", "max_weight"}
    assert {"budget", "min_weight", "max_weight"} <= violations(np.nan, 0, 0, 0, 0, 0)


def lowest(program: object, instance: Instance, count: int) -> list[Solution]:
    """Completed solutions of the ``count`` lowest states of a program, by enumeration, best objective first."""
    size, held = instance.size, instance.settings["cardinality"]
    picks = np.array(list(itertools.combinations(range(size), held)))
    states = np.zeros((len(picks), size), dtype=np.int8)
    np.put_along_axis(states, picks, 1, axis=1)
    energies = program.cqm.objective.energies((states, range(size)))  # type: ignore[attr-defined]
    found = [FAMILY.complete(instance, s) for s in states[np.argsort(energies, kind="stable")[:count]]]
    return sorted(found, key=lambda s: s.evaluation.objective)


def uneven(size: int, seed: int) -> str:
    """A ``port`` file whose assets differ so much in risk that equal weights are a poor guide."""
    rng = np.random.default_rng(seed)
    correlation = np.corrcoef(rng.normal(size=(3 * size, size)) + rng.normal(size=(3 * size, 1)), rowvar=False)
    deviation, mean = np.exp(rng.uniform(np.log(0.015), np.log(0.12), size)), rng.normal(0.002, 0.004, size)
    lines = [f" {size}"] + [f" {m:.6f} {d:.6f}" for m, d in zip(mean, deviation, strict=True)]
    lines += [f" {i + 1} {j + 1} {correlation[i, j]:.6f}" for i in range(size) for j in range(i, size)]
    return "\n".join(lines)


def test_refinement_finds_what_the_first_proxy_misses() -> None:
    """With two candidates per round, refined rounds reach what the first proxy's best two do not."""
    first, last = [], []
    for seed in range(20):
        instance = read(uneven(14, seed), cardinality=7, risk_aversion=0.8)
        mean, covariance = instance.arrays["mean"], instance.arrays["covariance"]
        picks = np.array(list(itertools.combinations(range(14), 7)))
        values = objectives(mean, covariance, 0.8, picks, optimal_weights(mean, covariance, 0.8, 0.01, 1.0, picks))
        found = lowest(FAMILY.model(instance), instance, 2)
        first.append((found[0].evaluation.objective - values.min()) / (values.mean() - values.min()))
        for round_ in (1, 2):
            program = FAMILY.refine(instance, round_, found)
            assert program is not None
            assert program.digest != FAMILY.model(instance).digest
            found = sorted(found + lowest(program, instance, 2), key=lambda s: s.evaluation.objective)
        last.append((found[0].evaluation.objective - values.min()) / (values.mean() - values.min()))
    assert min(last) >= -1e-9
    assert np.mean(first) > 0.001
    assert np.mean(last) < 0.2 * np.mean(first)


def test_reference_keeps_the_best_assets_free() -> None:
    instance = random_instance(14, 5, cardinality=4, risk_aversion=0.9)
    program = FAMILY.model(instance)
    reference = FAMILY.reference(instance, program, 0)
    best = lowest(program, instance, 10_000)[0]
    free = np.argsort(-reference.priority)[:9]
    fixed = np.setdiff1d(np.arange(14), free)
    assert np.array_equal((best.values > 0)[fixed], reference.assignment[fixed].astype(bool))


def test_history_is_what_read_returns() -> None:
    raw = FAMILY.read(source(csv(prices(40, 3, 0)).encode()))[0]
    assert isinstance(raw, History)
    assert raw.kind == "prices"


# -- published instances (development only) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted((SHARED / "orlib").glob("port[0-9].txt")) if SHARED else [], ids=lambda p: p.name
)
def test_published_minimum_variance(path: Path) -> None:
    instance = FAMILY.normalize(FAMILY.read(SourceFile.open(path))[0], PortfolioOptions(), path.name)
    frontier = np.loadtxt(path.with_name(path.name.replace("port", "portef")))
    everything = np.arange(instance.size)[None, :]
    w = optimal_weights(instance.arrays["mean"], instance.arrays["covariance"], 1.0, 0.0, 1.0, everything)[0]
    assert w @ instance.arrays["covariance"] @ w == pytest.approx(frontier[:, 1].min(), abs=2e-10)
