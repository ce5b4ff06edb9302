"""From what a portfolio file holds to expected returns and covariance, with everything that is doubtful noted.

Policy. Refused: prices of zero or less, a price that never changes, more than five missing prices in a row inside an
asset's own history, a missing return, fewer than 20 common periods, a correlation matrix that is not positive
semidefinite beyond rounding. Noted: assets without any value (left out), shorter gaps (filled with the last price),
assets that start late or end early (the window is cut to the days all of them cover), missing weeks, jumps that look
like unadjusted splits, clipped eigenvalues. Not here: formats (``portfolio_readers``).
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.problems.portfolio_readers import History, Moments
from resources.failures import InputError

if TYPE_CHECKING:
    import pandas as pd

#: Longest run of missing prices that is filled, and fewest common returns.
LONGEST_GAP = 5
FEWEST_PERIODS = 20
#: Smallest price that counts as positive.
SMALLEST_PRICE = 1e-9


def of_moments(raw: Moments) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Mean, covariance Σ = σσ' ∘ correlation, labels and notes.

    Raises:
        InputError: the correlations are not positive semidefinite beyond the rounding of six decimals.
    """
    size = len(raw.mean)
    correlation, notes = raw.correlation, []
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < -1e-6 * size:
        raise InputError(
            raw.file,
            "correlations",
            f"the matrix is not positive semidefinite (smallest eigenvalue {values[0]:.3g})",
            "estimate all correlations from the same periods",
        )
    if values[0] < 0:
        clipped = (vectors * np.maximum(values, 0.0)) @ vectors.T
        scale = np.sqrt(np.diag(clipped))
        correlation = clipped / np.outer(scale, scale)
        correlation = (correlation + correlation.T) / 2
        notes.append(
            f"Negative eigenvalues of the correlations (smallest {values[0]:.2g}, from rounding) were set to 0."
        )
    covariance = correlation * np.outer(raw.deviation, raw.deviation)
    return raw.mean, covariance, tuple(str(k + 1) for k in range(size)), tuple(notes)


def of_history(
    raw: History, start: date | None, end: date | None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Sample mean and Ledoit-Wolf covariance of simple returns per period, labels and notes.

    The covariance is that of Ledoit & Wolf, J. Multivariate Analysis 88 (2004), by scikit-learn.

    Args:
        start, end: first and last date used (inclusive); ``None`` for the file's own.

    Raises:
        InputError: see the policy above.
    """
    from sklearn.covariance import ledoit_wolf

    notes = list(raw.notes)
    table = raw.table
    if start is not None or end is not None:
        day = table.index.to_series().dt.date
        table = table[(day >= (start or day.iloc[0])) & (day <= (end or day.iloc[-1]))]
        if table.empty:
            raise InputError(
                raw.file,
                "start, end",
                f"no row lies from {start or 'the first'} to {end or 'the last'}",
                f"choose dates from {_span(raw.table)}",
            )
    table = _covered(raw.file, table, LONGEST_GAP if raw.kind == "prices" else 0, notes)
    if raw.kind == "prices":
        returns = _returns(raw.file, table, notes)
    else:
        returns = table.to_numpy()
        if (returns <= -1.0).any():
            row, column = np.argwhere(returns <= -1.0)[0]
            raise InputError(
                raw.file,
                f"{table.columns[column]} on {table.index[row].date()}",
                f"the return {returns[row, column]:.6g} loses everything or marks a missing value",
                "leave missing returns blank",
            )
        for name in table.columns[np.ptp(returns, axis=0) == 0]:
            raise InputError(raw.file, f"column {name}", "its returns never change", "remove the column")
    covariance, shrinkage = ledoit_wolf(returns)
    notes.append(f"{len(returns)} returns per asset from {_span(table)}; Ledoit-Wolf shrinkage {shrinkage:.3f}.")
    return returns.mean(axis=0), (covariance + covariance.T) / 2, tuple(map(str, table.columns)), tuple(notes)


def _covered(file: str, table: pd.DataFrame, longest_gap: int, notes: list[str]) -> pd.DataFrame:
    """The rows that all assets cover, gaps of up to ``longest_gap`` rows filled."""
    if len(empty := table.columns[table.isna().all()]):
        notes.append(f"{len(empty)} asset(s) without any value in the window were left out: {', '.join(empty[:10])}.")
        table = table.drop(columns=empty)
    if table.empty:
        raise InputError(file, "values", "no asset has a value in the window", "move the window")
    first = {c: table.index[table[c].notna()][0] for c in table.columns}
    last = {c: table.index[table[c].notna()][-1] for c in table.columns}
    late, early = max(first, key=lambda c: first[c]), min(last, key=lambda c: last[c])
    whole = table
    table = table.loc[first[late] : last[early]]
    if len(table) <= FEWEST_PERIODS:
        raise InputError(
            file,
            "coverage",
            f"all assets together cover {len(table)} rows ({late} starts on "
            f"{first[late].date()}, {early} ends on {last[early].date()})",
            f"remove the assets with short histories; {FEWEST_PERIODS + 1} common rows are needed",
        )
    if len(table) < len(whole):
        ragged = sum(first[c] > whole.index[0] or last[c] < whole.index[-1] for c in table.columns)
        notes.append(
            f"{ragged} asset(s) do not cover the whole history; the window is {_span(table)}, "
            f"{len(table)} of {len(whole)} rows ({late} starts last, {early} ends first)."
        )
    missing = table.isna()
    if missing.any(axis=None):
        for name in table.columns[missing.any()]:
            runs = missing[name].groupby((~missing[name]).cumsum()).sum()
            if runs.max() > longest_gap:
                where = table.index[missing[name]][0].date()
                raise InputError(
                    file,
                    f"column {name}",
                    f"{int(runs.max())} values in a row are missing (first: {where})",
                    f"fill gaps of more than {longest_gap} rows or remove the asset",
                )
        notes.append(
            f"{int(missing.sum().sum())} missing value(s) in {int(missing.any().sum())} asset(s) were filled "
            "with the last one before."
        )
        table = table.ffill()
    steps = np.diff(table.index.to_numpy()).astype("timedelta64[D]").astype(int)
    if np.median(steps) <= 3 and (holes := int((steps > 7).sum())):
        where = table.index[int(np.argmax(steps))].date()
        notes.append(
            f"{holes} gap(s) of more than a week between daily rows (longest: {steps.max()} days after {where})."
        )
    return table


def _returns(file: str, table: pd.DataFrame, notes: list[str]) -> np.ndarray:
    prices = table.to_numpy()
    if (bad := prices < SMALLEST_PRICE).any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            file,
            f"{table.columns[column]} on {table.index[row].date()}",
            f"the price {prices[row, column]:g} is not positive",
            "correct it or leave it blank",
        )
    for name in table.columns[np.ptp(prices, axis=0) == 0]:
        raise InputError(
            file,
            f"column {name}",
            f"its price is {table[name].iloc[0]:g} on every day",
            "remove the column; a constant price has no risk to estimate",
        )
    factors = prices[1:] / prices[:-1]
    jumps = np.argwhere((factors > 1.9) | (factors < 0.53))
    for row, column in jumps[:3]:
        notes.append(
            f"{table.columns[column]} changes by a factor of {factors[row, column]:.3g} on "
            f"{table.index[row + 1].date()}: check for an unadjusted split."
        )
    if len(jumps) > 3:
        notes.append(f"{len(jumps) - 3} more changes of that size.")
    return factors - 1.0


def _span(table: pd.DataFrame) -> str:
    return f"{table.index[0].date()} to {table.index[-1].date()}"
