"""The convex QP behind every portfolio: the best weights of given selections, many at once.

Here: min λ·w'Σw − (1−λ)·μ'w, Σw = 1, lower ≤ w ≤ upper, exactly, and what swaps promise without it. Not here: which
assets are selected, rules beyond the bounds (``portfolio_ruled``).
"""

from __future__ import annotations

import numpy as np

#: From this size on the interior-point solver is faster.
_LARGE = 60


def optimal_weights(
    mean: np.ndarray, covariance: np.ndarray, risk_aversion: float, lower: float, upper: float, chosen: np.ndarray
) -> np.ndarray:
    """Optimal weights of each selection.

    By a primal active-set iteration; where it stops, the KKT conditions hold and the weights are optimal to rounding.
    Selections on which it does not settle (singular covariance) are solved by Clarabel.

    Args:
        mean: expected returns μ, shape ``(n,)``.
        covariance: Σ, positive semidefinite, shape ``(n, n)``.
        risk_aversion: λ in [0, 1].
        lower, upper: bounds of every weight; ``k * lower <= 1 <= k * upper``.
        chosen: indices of the selected assets, shape ``(b, k)``.

    Returns:
        weights of the selected assets, shape ``(b, k)``; each row sums to 1 to rounding.
    """
    chosen = np.atleast_2d(chosen)
    count, size = chosen.shape
    linear = -(1.0 - risk_aversion) * mean[chosen]
    if size * lower >= 1.0 - 1e-12 or size * upper <= 1.0 + 1e-12:
        return np.full((count, size), 1.0 / size)
    if risk_aversion == 0.0:
        return _by_return(linear, lower, upper)
    quadratic = 2.0 * risk_aversion * covariance[chosen[:, :, None], chosen[:, None, :]]
    scale = np.maximum(np.einsum("bii->b", quadratic) / size, 1e-300)
    quadratic, linear = quadratic / scale[:, None, None], linear / scale[:, None]
    if size > _LARGE:
        return np.array([_interior_point(q, c, lower, upper) for q, c in zip(quadratic, linear, strict=True)])
    from hybrid_assets.problems.portfolio_kernel import settle_all

    weights, settled = _start(quadratic, linear, lower, upper), np.zeros(count, dtype=bool)
    settle_all(quadratic, linear, float(lower), float(upper), weights, settled)
    for row in np.flatnonzero(~settled):
        weights[row] = _interior_point(quadratic[row], linear[row], lower, upper)
    return weights


def objectives(
    mean: np.ndarray, covariance: np.ndarray, risk_aversion: float, chosen: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """λ·w'Σw − (1−λ)·μ'w of each selection, shape ``(b,)``; arguments as in ``optimal_weights``."""
    risk = np.einsum("bi,bij,bj->b", weights, covariance[chosen[:, :, None], chosen[:, None, :]], weights)
    return risk_aversion * risk - (1.0 - risk_aversion) * np.einsum("bi,bi->b", mean[chosen], weights)


def swap_estimates(
    mean: np.ndarray,
    covariance: np.ndarray,
    risk_aversion: float,
    chosen: np.ndarray,
    weights: np.ndarray,
    outside: np.ndarray,
) -> np.ndarray:
    """What exchanging an asset held for one outside changes, without a QP; shape ``(k, m)``.

    The smaller of two: the exact change when the newcomer takes over the weight of the asset that leaves, and, to see
    what a heavier newcomer would do, an estimate at weight 1/k taken evenly from all.

    Args:
        chosen, weights: the assets held and their weights, shape ``(k,)``.
        outside: assets not held, shape ``(m,)``.
    """
    full = np.zeros(len(mean))
    full[chosen] = weights
    slope = 2 * risk_aversion * covariance @ full - (1 - risk_aversion) * mean
    variance = np.diag(covariance)
    cross = covariance[np.ix_(chosen, outside)]
    spread = variance[chosen][:, None] + variance[outside][None, :] - 2 * cross
    takes_over = weights[:, None] * (slope[outside][None, :] - slope[chosen][:, None])
    takes_over = takes_over + risk_aversion * weights[:, None] ** 2 * spread
    share = 1.0 / len(chosen)
    level = share * (slope[outside] - slope @ full)
    level = level + risk_aversion * share**2 * (
        variance[outside] + full @ covariance @ full - 2 * covariance[outside] @ full
    )
    leaves = weights * (slope @ full - slope[chosen]) + risk_aversion * weights**2 * variance[chosen]
    return np.minimum(takes_over, leaves[:, None] + level[None, :])


def _by_return(linear: np.ndarray, lower: float, upper: float) -> np.ndarray:
    """Without risk the QP is a linear program: fill the best assets up to their bounds."""
    size = linear.shape[1]
    order = np.argsort(linear, axis=1, kind="stable")
    before = np.arange(size) * (upper - lower)
    filled = lower + np.clip(1.0 - size * lower - before, 0.0, upper - lower)
    weights = np.empty_like(linear)
    np.put_along_axis(weights, order, np.broadcast_to(filled, linear.shape), axis=1)
    return weights


def _start(quadratic: np.ndarray, linear: np.ndarray, lower: float, upper: float) -> np.ndarray:
    """Weights to start from: equal weights or the riskless vertex, whichever is better."""
    equal, vertex = np.full(linear.shape, 1.0 / linear.shape[1]), _by_return(linear, lower, upper)

    def value(w: np.ndarray) -> np.ndarray:
        return 0.5 * np.einsum("bi,bij,bj->b", w, quadratic, w) + np.einsum("bi,bi->b", linear, w)

    return np.where((value(vertex) < value(equal))[:, None], vertex, equal)


def _interior_point(quadratic: np.ndarray, linear: np.ndarray, lower: float, upper: float) -> np.ndarray:
    """One QP by Clarabel, cleaned of the rounding at its bounds and in its sum; shape ``(k,)``."""
    import clarabel
    from scipy import sparse

    size = len(linear)
    identity = sparse.identity(size, format="csc")
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    solution = clarabel.DefaultSolver(
        sparse.csc_matrix(np.triu(quadratic)),
        linear,
        sparse.vstack([np.ones((1, size)), identity, -identity], format="csc"),
        np.concatenate([[1.0], np.full(size, upper), np.full(size, -lower)]),
        [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(2 * size)],
        settings,
    ).solve()
    raw = np.clip(np.array(solution.x), lower, upper)
    # the rounding left in the budget goes to the weights with most room
    room = (upper - raw) if raw.sum() < 1.0 else (lower - raw)
    raw = raw + room * min(1.0, (1.0 - raw.sum()) / room.sum()) if abs(room.sum()) > 0 else raw
    return raw
