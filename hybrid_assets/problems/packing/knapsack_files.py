"""Knapsack files: which of the three layouts a content is, and its numbers.

Here: the layouts and ``RawKnapsack``. Not here: what makes an instance sensible (``knapsack``), the cursor
(``number_text``).

- single: ``n capacity``, then ``value weight`` per item, one item a line;
- multi-dimensional (OR-Library mknap; Chu & Beasley, Journal of Heuristics 4, 1998): number of instances, then for each
  ``n m optimum`` (0: unknown; never used), n values, m rows of n weights, m capacities, lines broken anywhere;
- quadratic (Billionnet & Soutif, INFORMS Journal on Computing 16, 2004): a name, n, n values, n−1 rows of the upper
  triangle of pair values, constraint type (0: at most), capacity, n weights, comments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybrid_assets.problems.number_text import MAX_ITEMS, MAX_ROWS, Words
from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

Layout = Literal["single", "multi-dimensional", "quadratic"]

#: Largest quadratic instance: its matrix is dense.
MAX_QUADRATIC = 5_000


@dataclass(frozen=True)
class RawKnapsack:
    """One instance as its file gives it.

    Attributes:
        file, layout: name of the file and what it is.
        values: float64, shape ``(n,)``.
        weights: float64, shape ``(m, n)``.
        capacities: float64, shape ``(m,)``.
        pairs: float64, shape ``(n, n)``, strictly upper triangular; ``None`` where there are none.
    """

    file: str
    layout: Layout
    values: np.ndarray
    weights: np.ndarray
    capacities: np.ndarray
    pairs: np.ndarray | None = None


def layout_of(source: SourceFile) -> Layout | None:
    """Which layout the content is; raises nothing."""
    if source.is_binary:
        return None
    head = [line.split() for line in source.head.splitlines() if line.strip() and not line.lstrip().startswith("#")][:3]
    if len(head) < 2:
        return None
    first, second = head[0], head[1]
    if len(first) == 2 and len(second) == 2:
        return "single" if _is_single(source.text) else None
    if len(first) == 1 and len(second) == 3 and _count(first[0]) and _count(second[0]) and _count(second[1]):
        return "multi-dimensional" if _is_multiple(source.text) else None
    if len(first) == 1 and not _is_number(first[0]) and len(second) == 1 and (n := _count(second[0])) and n >= 2:
        rows = [line for line in source.text.splitlines() if line.strip()][2:4]
        return "quadratic" if [len(row.split()) for row in rows] == [n, n - 1] else None
    return None


def read(source: SourceFile) -> list[RawKnapsack]:
    """All instances of a file.

    Raises:
        InputError: it is none of the layouts, or the first line that is wrong.
    """
    words = Words.of(source)
    layout = layout_of(source) or _nearest(source)
    if layout == "single":
        return [_read_single(words)]
    if layout == "multi-dimensional":
        return _read_multiple(words)
    return [_read_quadratic(words)]


def _nearest(source: SourceFile) -> Layout:
    """What a file that is no valid layout was meant to be, so that the message can name the line that is wrong."""
    first = next(line.split() for line in source.text.splitlines() if line.strip() and line.lstrip()[0] != "#")
    if len(first) == 2:
        return "single"
    if len(first) == 1:
        return "multi-dimensional" if _is_number(first[0]) else "quadratic"
    raise InputError(
        source.name,
        "line 1",
        f"it has {len(first)} words, so the file is no knapsack",
        "start with 'n capacity', the number of instances, or a name",
    )


def _count(word: str) -> int:
    """The whole number, or 0."""
    return int(word) if word.isascii() and word.isdigit() and len(word) < 9 else 0


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _is_single(text: str) -> bool:
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    n = _count(lines[0][0])
    if n != len(lines) - 1 or not all(len(line) == 2 and all(map(_is_number, line)) for line in lines):
        return False
    if lines[0][1] != lines[0][0]:
        return True
    # as many edges as nodes: a list of edges, not of items
    ends = [frozenset(map(_count, line)) for line in lines[1:]]
    return not (len(set(ends)) == n and all(len(e) == 2 and min(e) >= 1 and max(e) <= n for e in ends))


def _is_multiple(text: str) -> bool:
    """Whether the counts of all instances add up to the words of the file."""
    words = [word for line in text.splitlines() if not line.lstrip().startswith("#") for word in line.split()]
    at = 1
    for _ in range(_count(words[0])):
        if at + 3 > len(words):
            return False
        n, m = _count(words[at]), _count(words[at + 1])
        if not (n and m):
            return False
        at += 3 + n + n * m + m
    return at == len(words)


def _read_single(words: Words) -> RawKnapsack:
    n = words.whole("the number of items", 1, MAX_ITEMS)
    capacity = words.numbers(1, "capacities")
    table = words.numbers(2 * n, "values and weights").reshape(n, 2)
    words.end(f"the {n} items")
    return RawKnapsack(words.file, "single", table[:, 0], table[None, :, 1], capacity)


def _read_multiple(words: Words) -> list[RawKnapsack]:
    found = []
    for _ in range(count := words.whole("the number of instances", 1, 10_000)):
        n = words.whole("the number of items", 1, MAX_ITEMS)
        m = words.whole("the number of constraints", 1, MAX_ROWS)
        words.numbers(1, "optimal values")
        values = words.numbers(n, "values")
        weights = words.numbers(n * m, "weights").reshape(m, n)
        found.append(RawKnapsack(words.file, "multi-dimensional", values, weights, words.numbers(m, "capacities")))
    words.end(f"the {count} instances")
    return found


def _read_quadratic(words: Words) -> RawKnapsack:
    words.word("the name")
    n = words.whole("the number of items", 2, MAX_QUADRATIC)
    values = words.numbers(n, "values")
    pairs = np.zeros((n, n))
    pairs[np.triu_indices(n, 1)] = words.numbers(n * (n - 1) // 2, "pair values")
    if words.whole("the type of the constraint", 0, 1):
        raise words.error(
            "the constraint is of type 1, an equation", "only type 0, at most the capacity, is a knapsack"
        )
    capacity = words.numbers(1, "capacities")
    return RawKnapsack(words.file, "quadratic", values, words.numbers(n, "weights")[None, :], capacity, pairs)
