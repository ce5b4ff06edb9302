"""The ``portfolio`` family as the proposal engine walks it.

Here: blocks of assets that may replace assets held, one-swap descent on the true objective. Not here: the QP
(``portfolio_weights``), weights under rules (``portfolio_ruled``), the family itself (``portfolio``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.landscape import Block, Landscape, State, Step
from hybrid_assets.problems.portfolio_ruled import nearest_selection, ruled_weights
from hybrid_assets.problems.portfolio_rules import Rules
from hybrid_assets.problems.portfolio_weights import objectives, optimal_weights, swap_estimates

#: Assets in a group: one held and those that may replace it, where a block has room for two such groups.
GROUP = 4
#: Promising replacements from which those of a block are drawn, per replacement.
LOOKED_AT = 4
#: Evaluations that a QP under further rules counts for in a descent: it takes about that much longer, or more.
RULED = 20


@dataclass(frozen=True)
class Exchange:
    """Assets held (int64, shape ``(g,)``) and what may replace each of them (int64, shape ``(g, m)``)."""

    leavers: np.ndarray
    newcomers: np.ndarray

    @property
    def places(self) -> np.ndarray:
        """All assets that may change."""
        return np.concatenate([self.leavers, self.newcomers.ravel()])


class PortfolioLandscape(Landscape):
    """Selections of K assets; a state's data is the selection, its cost the true objective at the best weights.

    ``exchange`` gives some assets held a few promising replacements each: a group is an asset and its replacements,
    exactly one of them is held. ``swaps`` gives one replacement each, a binary says whether it is made. ``random`` is
    ``exchange`` with any assets. Promising is what ``swap_estimates`` finds cheap. Terms come from solving the QP after
    every replacement and every pair of them, so a block of two groups is exact and a larger one a second-order
    expansion. K is kept by all of them. A selection without weights under sectors, turnover or lots is charged beyond
    any gain; taken all the same, it becomes the nearest one that has weights.
    """

    kinds: ClassVar[tuple[str, ...]] = ("exchange", "swaps", "random")

    def __init__(self, instance: Instance) -> None:
        self.instance, self.rules = instance, Rules.of(instance)
        self.mean = np.ascontiguousarray(instance.arrays["mean"])
        self.covariance = np.ascontiguousarray(instance.arrays["covariance"])
        self.risk_aversion = float(instance.settings["risk_aversion"])
        risks, returns = np.diag(self.covariance), np.abs(self.mean)
        self.charge = 2 * float(self.risk_aversion * risks.max() + (1 - self.risk_aversion) * returns.max())
        self.slack = 1e-9 * float(self.risk_aversion * risks.mean() + (1 - self.risk_aversion) * returns.mean())

    # -- states --------------------------------------------------------------------------------------------------

    def start(self, seed: int) -> State:
        """A random asset, then always the one with the best marginal equal-weight proxy."""
        from hybrid_assets.problems.portfolio import repair

        bits = np.zeros(self.instance.size, dtype=np.int8)
        bits[np.random.default_rng(seed).integers(self.instance.size)] = 1
        return self._state(np.flatnonzero(repair(self.instance, bits)))[0]

    def state_of(self, values: np.ndarray) -> State:
        """The assets held, at their best weights."""
        from hybrid_assets.problems.portfolio import Portfolio

        return self._state(np.flatnonzero(Portfolio().assignment(self.instance, values)))[0]

    def values(self, state: State) -> np.ndarray:
        """The weights."""
        weights: np.ndarray = state.cache
        return weights

    def _state(self, chosen: np.ndarray) -> tuple[State, bool]:
        """The state of a selection, and whether it had to be mended to have weights under the rules."""
        weights, mended = ruled_weights(self.instance, self.rules, chosen), False
        if weights is None:
            held = np.isin(np.arange(self.instance.size), chosen)
            found = nearest_selection(self.rules, held, -self.mean)
            if found is not None:
                chosen, mended = np.flatnonzero(found), True
                weights = ruled_weights(self.instance, self.rules, chosen)
        if weights is None:
            unruled = self._made(chosen, self._plain(chosen[None, :])[0][0])
            return replace(unruled, cost=unruled.cost + self.charge, feasible=False), mended
        return self._made(chosen, weights), mended

    def _made(self, chosen: np.ndarray, weights: np.ndarray) -> State:
        data, full = np.zeros(self.instance.size, dtype=np.int8), np.zeros(self.instance.size)
        data[chosen], full[chosen] = 1, weights
        problem = self.mean, self.covariance, self.risk_aversion
        return State(data, float(objectives(*problem, chosen[None, :], weights[None, :])[0]), cache=full)

    def _plain(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Best weights ``(b, k)`` of selections ``(b, k)`` without the rules, and their costs ``(b,)``."""
        problem = self.mean, self.covariance, self.risk_aversion
        weights = optimal_weights(*problem, self.rules.low, self.rules.high, chosen)
        return weights, objectives(*problem, chosen, weights)

    def costs(self, chosen: np.ndarray) -> np.ndarray:
        """Costs of selections ``(b, k)`` at their best weights, charged where the rules leave none; shape ``(b,)``."""
        found = self._plain(chosen)[1]
        if self.rules.plain:
            return found
        problem = self.mean, self.covariance, self.risk_aversion
        for row, held in enumerate(chosen):
            ruled = ruled_weights(self.instance, self.rules, held)
            if ruled is None:
                found[row] += self.charge
            else:
                found[row] = objectives(*problem, held[None, :], ruled[None, :])[0]
        return found

    # -- blocks --------------------------------------------------------------------------------------------------

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """The second-order expansion in replacements; exact for two groups."""
        single = kind == "swaps"
        groups = size if single else max(size // GROUP, 2 if size >= 4 else 1)
        exchange = self._exchange(state, kind, groups, 1 if single else size // groups - 1, rng)
        if exchange is None:
            return None
        g, m = exchange.newcomers.shape
        chosen = np.flatnonzero(state.data)
        leavers = np.searchsorted(chosen, exchange.leavers)
        # rows: every replacement alone, then every pair from different groups
        first = np.array([(t, a) for t in range(g) for a in range(m)])
        i, j = np.triu_indices(len(first), 1)
        apart = first[i, 0] != first[j, 0]
        i, j = i[apart], j[apart]
        rows = np.repeat(chosen[None, :], len(first) + len(i), axis=0)
        newcomers, alone = exchange.newcomers.ravel(), np.arange(len(first))
        rows[alone, leavers[first[:, 0]]] = newcomers
        pairs = len(first) + np.arange(len(i))
        rows[pairs, leavers[first[i, 0]]] = newcomers[i]
        rows[pairs, leavers[first[j, 0]]] = newcomers[j]
        costs = self.costs(rows) - state.cost
        # where each replacement's bit is: in a group after the asset that stays
        bit = alone if single else first[:, 0] * (m + 1) + first[:, 1] + 1
        q = g if single else g * (m + 1)
        linear, couplings, current = np.zeros(q), np.zeros((q, q)), np.zeros(q, dtype=np.int8)
        linear[bit] = costs[: len(first)]
        couplings[bit[i], bit[j]] = costs[len(first) :] - costs[i] - costs[j]
        if not single:
            current[:: m + 1] = 1
        return Block(
            kind=kind,
            linear=linear,
            couplings=couplings,
            offset=state.cost,
            current=current,
            groups=() if single else tuple(tuple(range(t * (m + 1), (t + 1) * (m + 1))) for t in range(g)),
            exact=g <= 2,
            move=exchange,
            evaluations=len(rows),
        )

    def _exchange(self, state: State, kind: str, groups: int, each: int, rng: np.random.Generator) -> Exchange | None:
        chosen, outside = np.flatnonzero(state.data), np.flatnonzero(state.data == 0)
        if not len(outside):
            return None
        g = min(groups, len(chosen), len(outside))
        m = min(each, len(outside) // g)
        if g * m < 2 and kind == "swaps":
            return None
        positions = rng.permutation(len(chosen))[:g]
        if kind == "random":
            return Exchange(chosen[positions], rng.permutation(outside)[: g * m].reshape(g, m))
        problem = self.mean, self.covariance, self.risk_aversion
        estimates = swap_estimates(*problem, chosen, state.cache[chosen], outside)[positions]
        free, newcomers = np.ones(len(outside), dtype=bool), np.empty((g, m), dtype=np.int64)
        for t in range(g):
            order = np.argsort(np.where(free, estimates[t], np.inf), kind="stable")[: int(free.sum())]
            picks = rng.permutation(order[: LOOKED_AT * m])[:m]
            newcomers[t], free[picks] = outside[picks], False
        return Exchange(chosen[positions], newcomers)

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Make the replacements; a group with no bit set keeps its asset, of several the first counts."""
        if np.array_equal(bits, block.current):
            return Step(state, evaluations=0)
        exchange, given = block.move, np.asarray(bits) != 0
        answers = given.reshape(len(exchange.leavers), -1)
        if block.groups:
            broken = bool((answers.sum(axis=1) != 1).any())
            picks = answers.argmax(axis=1) - 1
        else:
            broken, picks = False, answers[:, 0].astype(np.int64) - 1
        data = state.data.copy()
        for leaver, newcomers, pick in zip(exchange.leavers, exchange.newcomers, picks, strict=True):
            # another block of the same trip may have moved them already
            if pick >= 0 and data[leaver] and not data[newcomers[pick]]:
                data[leaver], data[newcomers[pick]] = 0, 1
        if np.array_equal(data, state.data):
            return Step(state, broken, 0)
        after, mended = self._state(np.flatnonzero(data))
        return Step(after, broken or mended)

    # -- descent -------------------------------------------------------------------------------------------------

    def polish(self, state: State, evaluations: int) -> Step:
        """The first swap that lowers the cost, most promising first, until none of all K(N−K) does.

        Under further rules only swaps that would pay without them are tried, each for ``RULED`` evaluations.
        """
        from hybrid_assets.problems.portfolio_kernel import first_better

        spent, rules = 0, self.rules
        while True:
            chosen, outside = np.flatnonzero(state.data), np.flatnonzero(state.data == 0)
            if not len(outside):
                return Step(state, evaluations=spent)
            weights = state.cache[chosen]
            problem = self.mean, self.covariance, self.risk_aversion
            order = np.argsort(swap_estimates(*problem, chosen, weights, outside), axis=None, kind="stable")
            swaps = np.stack([order // len(outside), outside[order % len(outside)]], axis=1)
            start = np.clip(weights, rules.low, rules.high)
            better = None
            while better is None and len(swaps) and spent < evaluations:
                swaps = swaps[: evaluations - spent]
                terms = (self.covariance, self.mean, self.risk_aversion, rules.low, rules.high)
                # without the rules a swap costs no more than with them
                k, _ = first_better(*terms, chosen, start, swaps, state.cost - self.slack)
                spent += min(k + 1, len(swaps))
                if k == len(swaps):
                    break
                trial = chosen.copy()
                trial[swaps[k, 0]] = swaps[k, 1]
                trial.sort()
                spent += 0 if rules.plain else RULED
                ruled = ruled_weights(self.instance, rules, trial)
                after = None if ruled is None else self._made(trial, ruled)
                better = after if after is not None and after.cost < state.cost - self.slack / 2 else None
                swaps = swaps[k + 1 :]
            if better is None:
                return Step(state, evaluations=spent)
            state = better
