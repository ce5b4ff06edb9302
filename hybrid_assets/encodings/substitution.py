"""Products in place of pairs: a polynomial as a quadratic form with the same minima.

Here: the substitution and its proven strengths. Not here: constraints or the encoding (``quadratized``).

Rosenberg, "Reduction of bivalent maximization to the quadratic case", 1975: in all terms of degree 3 and more that
contain x_i·x_j the pair becomes a new bit y, and M·(x_i·x_j − 2·x_i·y − 2·x_j·y + 3·y) is added: 0 where y = x_i·x_j,
at least M elsewhere. Those terms are then y·g(x) for some polynomial g. With g⁻ ≤ g ≤ g⁺ the least energy over y is
x_i·x_j·g(x) in every state as soon as M ≥ g⁺ (x_i = x_j = 1, y = 0 would save g⁺) and M ≥ −g⁻ (y = 1 elsewhere would
gain g⁻); both are bounded by sums of coefficients. No state is cut off and no optimum read.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hybrid_assets.encodings.arrays import QuadraticForm


@dataclass(frozen=True)
class Product:
    """A new bit that stands for ``x_first · x_second`` (program variables or earlier products), and its strength M."""

    first: int
    second: int
    strength: float


def substituted(
    objective: QuadraticForm, higher: Mapping[tuple[int, ...], float]
) -> tuple[QuadraticForm, list[Product]]:
    """The form plus ``higher`` (ascending indices of three and more variables → coefficient) as a quadratic form.

    The pair that is in most terms is replaced first (ties: the lowest), until no term has three variables.

    Returns:
        the form over ``n + len(products)`` bits, and the products: bit ``n + k`` is product ``k``.
    """
    n = len(objective.linear)
    terms = {tuple(sorted(indices)): float(c) for indices, c in higher.items() if c}
    where: defaultdict[tuple[int, int], set[tuple[int, ...]]] = defaultdict(set)
    for term in terms:
        for pair in combinations(term, 2):
            where[pair].add(term)
    queue = [(-len(found), pair) for pair, found in where.items()]
    heapq.heapify(queue)
    products: list[Product] = []
    i, j, values = [objective.rows], [objective.cols], [objective.values]
    while terms:
        count, pair = heapq.heappop(queue)
        if -count != len(where[pair]):  # terms have left it since: it waits for its turn
            if where[pair]:
                heapq.heappush(queue, (-len(where[pair]), pair))
            continue
        new = n + len(products)
        affected = sorted(where[pair])
        up = sum(max(terms[term], 0.0) for term in affected)
        down = sum(max(-terms[term], 0.0) for term in affected)
        products.append(Product(*pair, max(up, down)))
        touched: set[tuple[int, int]] = set()
        for term in affected:
            coefficient = terms.pop(term)
            for old in combinations(term, 2):
                where[old].discard(term)
            rest = tuple(k for k in term if k not in pair)
            if len(rest) == 1:
                i.append(np.array([rest[0]]))
                j.append(np.array([new]))
                values.append(np.array([coefficient]))
                continue
            smaller = (*rest, new)
            terms[smaller] = coefficient
            for added in combinations(smaller, 2):
                where[added].add(smaller)
                touched.add(added)
        for added in sorted(touched):
            heapq.heappush(queue, (-len(where[added]), added))
    linear = np.concatenate([objective.linear, [3.0 * p.strength for p in products]])
    for k, p in enumerate(products):
        i.append(np.array([p.first, p.first, p.second]))
        j.append(np.array([p.second, n + k, n + k]))
        values.append(p.strength * np.array([1.0, -2.0, -2.0]))
    form = QuadraticForm.build(linear, np.concatenate(i), np.concatenate(j), np.concatenate(values), objective.offset)
    return form, products
