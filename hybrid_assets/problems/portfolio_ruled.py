"""Weights and selections of a portfolio under sector limits, turnover and lots.

Here: the best weights of a selection, those of the relaxation, the nearest selection that has any, proofs that there is
none. Not here: the rules themselves (``portfolio_rules``), the QP without them (``portfolio_weights``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.portfolio_rules import TOLERANCE, Rules
from hybrid_assets.problems.portfolio_weights import optimal_weights

#: Branch-and-bound nodes of HiGHS at most.
_NODES = 2_000


def ruled_weights(instance: Instance, rules: Rules, chosen: np.ndarray) -> np.ndarray | None:
    """The best weights of a selection, shape ``(k,)``; ``None`` where it has none.

    Optimal without lots. With lots: the optimal weights rounded, then exchanges of single lots until none pays.

    Args:
        chosen: indices of the assets held, shape ``(k,)``.
    """
    mean, covariance = instance.arrays["mean"], instance.arrays["covariance"]
    risk_aversion = float(instance.settings["risk_aversion"])
    weights = optimal_weights(mean, covariance, risk_aversion, rules.low, rules.high, chosen)[0]
    full = np.zeros(instance.size)
    full[chosen] = weights
    if rules.hold(full):
        return weights
    continuous = _continuous(mean, covariance, risk_aversion, rules, chosen)
    if continuous is None or not rules.lots:
        return continuous
    rounded = _rounded(rules, chosen, continuous)
    if rounded is None:
        rounded = _nearest_lots(rules, chosen, continuous)
    if rounded is None:
        return None
    return _exchanged(mean[chosen], covariance[np.ix_(chosen, chosen)], risk_aversion, rules, chosen, rounded)


def relaxed_weights(instance: Instance, risk_aversion: float) -> np.ndarray:
    """The best weights without cardinality, lower bounds and lots, shape ``(n,)``: their value bounds the optimum."""
    mean, covariance, rules = instance.arrays["mean"], instance.arrays["covariance"], Rules.of(instance)
    everything = np.arange(instance.size)
    high = float(instance.settings["max_weight"])
    weights = optimal_weights(mean, covariance, risk_aversion, 0.0, high, everything)[0]
    relaxed = replace(rules, low=0.0, high=high, lots=0.0)
    if relaxed.hold(weights):
        return weights
    ruled = _continuous(mean, covariance, risk_aversion, relaxed, everything)
    return weights if ruled is None else ruled


def _continuous(
    mean: np.ndarray, covariance: np.ndarray, risk_aversion: float, rules: Rules, chosen: np.ndarray
) -> np.ndarray | None:
    """The convex QP with sectors and turnover by Clarabel, shape ``(k,)``; ``None`` where it is infeasible."""
    import clarabel
    from scipy import sparse

    k, bounded = len(chosen), rules.turnover < np.inf
    quadratic = 2.0 * risk_aversion * covariance[np.ix_(chosen, chosen)]
    linear = -(1.0 - risk_aversion) * mean[chosen]
    scale = max(float(np.trace(quadratic)) / k, float(np.abs(linear).max()), 1e-300)
    eye, members, before = np.eye(k), rules.members[:, chosen], rules.previous[chosen]
    rows, right = [eye, -eye, members], [np.full(k, rules.high), np.full(k, -rules.low), rules.limits]
    if bounded:
        # |w - before| below further variables t
        sold = rules.previous.sum() - before.sum()
        rows = [np.hstack([row, np.zeros((len(row), k))]) for row in rows]
        rows += [np.hstack([eye, -eye]), np.hstack([-eye, -eye]), np.repeat([[0.0, 1.0]], k, axis=1)]
        right += [before, -before, np.array([rules.turnover - sold])]
    extra = k if bounded else 0
    budget = np.concatenate([np.ones(k), np.zeros(extra)])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    inequalities = np.vstack(rows)
    solution = clarabel.DefaultSolver(
        sparse.csc_matrix(np.pad(np.triu(quadratic) / scale, (0, extra))),
        np.pad(linear / scale, (0, extra)),
        sparse.csc_matrix(np.vstack([budget, inequalities])),
        np.concatenate([[1.0], *right]),
        [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(len(inequalities))],
        settings,
    ).solve()
    weights = np.clip(np.array(solution.x)[:k], rules.low, rules.high)
    full = np.zeros(len(mean))
    full[chosen] = weights
    limits = {name: amount for name, amount in rules.violations(full).items() if name != "lots"}
    fits = abs(weights.sum() - 1.0) <= TOLERANCE / 10 and all(amount <= TOLERANCE / 10 for amount in limits.values())
    return weights if fits else None


def _rounded(rules: Rules, chosen: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
    """Whole lots by largest remainders within bounds, sectors and turnover; ``None`` where that does not fit."""
    units = round(1.0 / rules.lots)
    low, high = round(rules.low / rules.lots), round(rules.high / rules.lots)
    lots = np.clip(np.floor(weights / rules.lots + 1e-9).astype(np.int64), low, high)
    order = np.argsort(-(weights / rules.lots - lots), kind="stable")
    sector, limits = rules.sector[chosen], np.floor(rules.limits / rules.lots + 1e-9)
    while (missing := units - int(lots.sum())) > 0:
        before = missing
        for i in order:
            inside = sector[i] < 0 or lots[sector == sector[i]].sum() < limits[sector[i]]
            if missing and lots[i] < high and inside:
                lots[i] += 1
                missing -= 1
        if missing == before:
            return None
    full = np.zeros(len(rules.sector))
    full[chosen] = lots * rules.lots
    return lots * rules.lots if lots.sum() == units and rules.hold(full) else None


def _exchanged(
    mean: np.ndarray,
    covariance: np.ndarray,
    risk_aversion: float,
    rules: Rules,
    chosen: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Best exchanges of one lot between two assets held, within all rules, until none pays; a new array ``(k,)``."""
    weights, lot = weights.copy(), rules.lots
    full, k = np.zeros(len(rules.sector)), len(chosen)
    variance = np.diag(covariance)
    while True:
        slope = 2 * risk_aversion * covariance @ weights - (1 - risk_aversion) * mean
        # [i, j]: one lot from i to j
        change = lot * (slope[None, :] - slope[:, None])
        change += risk_aversion * lot**2 * (variance[:, None] + variance[None, :] - 2 * covariance)
        change[weights < rules.low + lot - TOLERANCE] = np.inf
        change[:, weights > rules.high - lot + TOLERANCE] = np.inf
        for move in np.argsort(change, axis=None, kind="stable"):
            i, j = divmod(int(move), k)
            if not change[i, j] < -1e-15:
                return weights
            tried = weights.copy()
            tried[i] -= lot
            tried[j] += lot
            full[chosen] = tried
            if rules.hold(full):
                weights = lot * np.round(tried / lot)
                break
        else:
            return weights


def _nearest_lots(rules: Rules, chosen: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
    """Whole lots that satisfy all rules, nearest to weights in the sum of distances; ``None`` where there are none."""
    target = np.zeros(len(rules.sector))
    target[chosen] = weights
    selection = np.zeros(len(rules.sector))
    selection[chosen] = 1.0
    found = _search(rules, np.zeros(len(selection)), target, (selection, selection))
    return None if found is None or found[1] is None else found[1][chosen]


def nearest_selection(rules: Rules, held: np.ndarray, preference: np.ndarray) -> np.ndarray | None:
    """The selection with fewest exchanges from ``held`` that has weights under the rules; ``None`` if there is none.

    Args:
        held: bool or int8, shape ``(n,)``.
        preference: shape ``(n,)``; among equally near ones low values are preferred.

    Returns:
        int8, shape ``(n,)``.
    """
    spread = float(np.ptp(preference)) or 1.0
    cost = np.where(np.asarray(held) != 0, -1.0, 1.0) + (preference - preference.min()) / spread / (4 * len(preference))
    found = _search(rules, cost, None, (np.zeros(len(held)), np.ones(len(held))))
    return None if found is None or found[0] is None else found[0].astype(np.int8)


def infeasible(rules: Rules) -> bool:
    """Whether it is proven that no selection has weights under the rules."""
    size = len(rules.sector)
    return _search(rules, np.zeros(size), None, (np.zeros(size), np.ones(size))) is None


def least_turnover(rules: Rules) -> float:
    """A proven lower bound of Σ|w − previous| under the other rules."""
    size = len(rules.sector)
    free = replace(rules, turnover=np.inf)
    found = _search(free, np.zeros(size), rules.previous, (np.zeros(size), np.ones(size)))
    return np.inf if found is None else found[2]


def _search(
    rules: Rules, cost: np.ndarray, target: np.ndarray | None, bounds: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray | None, np.ndarray | None, float] | None:
    """HiGHS on cost·z + Σ|w − target| under all rules; ``None`` where it proves that there is no solution.

    Args:
        bounds: of the selection z, each of shape ``(n,)``.

    Returns:
        selection and weights, shape ``(n,)`` (``None`` where the node limit came first), and the proven lower bound.
    """
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    n, unit = len(rules.sector), rules.lots or 1.0
    one, none = sparse.identity(n), sparse.csr_matrix((n, n))
    anchors = [a for a in (target, rules.previous if rules.turnover < np.inf else None) if a is not None]
    width = 2 + len(anchors)

    def row(*blocks: sparse.spmatrix) -> sparse.spmatrix:
        return sparse.hstack([*blocks, *[sparse.csr_matrix((blocks[0].shape[0], n))] * (width - len(blocks))])

    ones, zeros = sparse.csr_matrix(np.ones((1, n))), sparse.csr_matrix((1, n))
    constraints = [
        LinearConstraint(row(ones), rules.cardinality, rules.cardinality),
        LinearConstraint(row(zeros, ones), round(1.0 / unit), round(1.0 / unit)),
        LinearConstraint(row(-rules.low / unit * one, one), 0.0, np.inf),
        LinearConstraint(row(-rules.high / unit * one, one), -np.inf, 0.0),
    ]
    if rules.names:
        sectors = sparse.csr_matrix(rules.members)
        constraints.append(LinearConstraint(row(0 * sectors, sectors), -np.inf, rules.limits / unit))
    for k, anchor in enumerate(anchors):
        gap = [none] * k + [one]
        constraints.append(LinearConstraint(row(none, one, *[-g for g in gap]), -np.inf, anchor / unit))
        constraints.append(LinearConstraint(row(none, one, *gap), anchor / unit, np.inf))
    if rules.turnover < np.inf:
        blank = [zeros] * (width - 1)
        constraints.append(LinearConstraint(sparse.hstack([*blank, ones]), -np.inf, rules.turnover / unit))
    objective = np.concatenate([cost, np.zeros(n), *[np.full(n, unit if a is target else 0.0) for a in anchors]])
    whole = np.concatenate([np.ones(n), np.full(n, float(rules.lots > 0)), np.zeros(n * len(anchors))])
    lowest = np.concatenate([bounds[0], np.zeros(n * (width - 1))])
    highest = np.concatenate([bounds[1], np.full(n * (width - 1), np.inf)])
    result = milp(
        objective,
        integrality=whole,
        bounds=Bounds(lowest, highest),
        constraints=constraints,
        options={"node_limit": _NODES},
    )
    if result.status == 2:
        return None
    bound = -np.inf if result.mip_dual_bound is None else float(result.mip_dual_bound)
    if result.x is None:
        return None, None, bound
    return np.round(result.x[:n]), unit * (np.round(result.x[n : 2 * n]) if rules.lots else result.x[n : 2 * n]), bound
