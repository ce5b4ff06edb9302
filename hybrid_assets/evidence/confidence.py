"""Confidence of a candidate: would a repeat find one as good again?

Here: hits in trials, their exact binomial interval and what follows for a repeat. Not here: which shots count as hits
for a family (``proposals.scoring``), or how good a candidate is (``gaps``).

It is reproducibility, not optimality: a sampler that always returns the same poor answer has confidence 1. And a plain
bootstrap of the best shot is invalid: resampling N shots that hold their best exactly once finds it again with
probability 1 − (1 − 1/N)^N ≈ 0.63 whatever the truth, with no warning in its interval (for N = 1,024 the interval here
is 0.025 to 0.996).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Two-sided level of every interval.
LEVEL = 0.95


@dataclass(frozen=True)
class Confidence:
    """Reproducibility of a candidate.

    Attributes:
        hits, trials: k raw shots (or whole runs) of N were as good within the tolerance.
        p, p_low, p_high: k/N with its Clopper-Pearson interval.
        repeats: S, the shots (or runs) of the repeat that is asked about.
        confidence, confidence_low, confidence_high: 1 − (1 − p)^S for each of the three.
    """

    hits: int
    trials: int
    p: float
    p_low: float
    p_high: float
    repeats: int
    confidence: float
    confidence_low: float
    confidence_high: float


def clopper_pearson(hits: int, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact two-sided interval of a binomial proportion (Clopper and Pearson, Biometrika 26, 1934).

    Covers the true proportion with probability at least ``level``, whatever it is. No hits: from 0 to
    1 − ((1−level)/2)^(1/N); only hits: from ((1−level)/2)^(1/N) to 1.
    """
    if not 0 <= hits <= trials or trials < 1 or not 0 < level < 1:
        raise ValueError(f"need 0 <= hits <= trials, trials >= 1 and 0 < level < 1, got {hits}, {trials}, {level}")
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return low, high


def confidence(hits: int, trials: int, repeats: int | None = None, level: float = LEVEL) -> Confidence:
    """Probability that a repeat reaches the candidate again, with its interval.

    Trials are independent raw shots of one parameter set. An algorithm that trains or iterates has no such shots:
    there a trial is a whole run (``confidence_unit`` ``runs``), k of R runs ended as good.

    1 − (1 − p)^S grows with p, so the ends of p's interval give the ends of its interval. The candidate was chosen
    from the same shots, hence k ≥ 1 and p = k/N leans upwards: for small k read the lower end.

    Args:
        hits: trials as good as the candidate within the stated tolerance. 0 gives confidence 0 with an upper end.
        trials: N shots or R runs. With hits = trials the confidence is 1 with a lower end.
        repeats: S; by default the same number of trials again.
        level: of the interval.
    """
    repeats = trials if repeats is None else repeats
    if repeats < 1:
        raise ValueError(f"a repeat needs at least one shot or run, got {repeats}")
    low, high = clopper_pearson(hits, trials, level)
    p = hits / trials
    return Confidence(hits, trials, p, low, high, repeats, *(_reached(q, repeats) for q in (p, low, high)))


def _reached(p: float, repeats: int) -> float:
    """1 − (1 − p)^S without cancellation for small p."""
    return 1.0 if p == 1.0 else -math.expm1(repeats * math.log1p(-p))
