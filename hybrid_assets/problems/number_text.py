"""Text files that are one stream of numbers, read word by word with the line of each.

Here: ``Words`` (a cursor that names the line of what is wrong) and exact scaling of decimals to whole numbers. Not
here: any format (``knapsack_files``, ``binpacking``, ``marketsplit``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

#: Largest number accepted; sums of scaled ones are checked against 2⁵³ where they are formed.
MAX_NUMBER = 1e15
#: Decimal places that are turned into whole numbers.
MAX_DECIMALS = 6
#: Largest number of items and of constraints.
MAX_ITEMS, MAX_ROWS = 100_000, 1_000


@dataclass
class Words:
    """The words of a file, comments (``#`` lines) left out, and a cursor.

    Attributes:
        file: name for messages.
        words: whitespace-separated words.
        lines: the 1-based line of each.
        at: index of the next word.
    """

    file: str
    words: list[str]
    lines: list[int]
    at: int = 0

    @classmethod
    def of(cls, source: SourceFile) -> Words:
        """Split a text file.

        Raises:
            InputError: binary, or no word in it.
        """
        words: list[str] = []
        lines: list[int] = []
        for number, line in enumerate(source.text.splitlines(), 1):
            if not line.lstrip().startswith("#"):
                found = line.split()
                words += found
                lines += [number] * len(found)
        if not words:
            raise InputError(source.name, "file", "it holds no data", "give a file with data in it")
        return cls(source.name, words, lines)

    @property
    def left(self) -> int:
        """Words not yet taken."""
        return len(self.words) - self.at

    def error(self, problem: str, fix: str, back: int = 1) -> InputError:
        """The error about the word taken ``back`` words ago."""
        line = self.lines[min(max(self.at - back, 0), len(self.lines) - 1)]
        return InputError(self.file, f"line {line}", problem, fix)

    def word(self, what: str) -> str:
        """The next word, whatever it is."""
        if not self.left:
            raise self.error(f"the file ends before {what}", "complete the file")
        self.at += 1
        return self.words[self.at - 1]

    def whole(self, what: str, low: int, high: int) -> int:
        """The next word as a whole number from ``low`` to ``high``."""
        word = self.word(what)
        if not (word.isascii() and word.isdigit() and len(word) < 16 and low <= int(word) <= high):
            raise self.error(f"{what} is {word[:40]!r}", f"give a whole number from {low} to {high}")
        return int(word)

    def numbers(self, count: int, what: str) -> np.ndarray:
        """The next ``count`` words as numbers that are not negative; float64, shape ``(count,)``."""
        if self.left < count:
            self.at = len(self.words)
            raise self.error(f"the file ends before all {count} {what} are given", "complete the file")
        start, self.at = self.at, self.at + count
        words = self.words[start : self.at]
        try:
            values = np.array(words, dtype=np.float64)
        except ValueError:
            values = np.array([_number(word) for word in words])
        wrong = ~((values >= 0) & (values <= MAX_NUMBER))
        if wrong.any():
            k = int(np.argmax(wrong))
            raise self.error(
                f"{words[k][:40]!r} stands among the {what}",
                f"give numbers from 0 to {MAX_NUMBER:g}",
                back=count - k,
            )
        return values

    def end(self, after: str) -> None:
        """Nothing may follow.

        Raises:
            InputError: something does.
        """
        if self.left:
            self.at += 1
            raise self.error(f"{self.words[self.at - 1][:40]!r} follows {after}", "correct the counts or remove it")


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")


def scaled(values: np.ndarray) -> tuple[np.ndarray, int] | None:
    """Whole numbers in exact proportion to decimals.

    Returns:
        int64 array and the power of ten by which it is larger; ``None`` where six decimal places do not hold them.
    """
    for places in range(MAX_DECIMALS + 1):
        whole = np.rint(values * 10.0**places)
        if np.array_equal(whole / 10.0**places, values):
            return whole.astype(np.int64), 10**places
    return None
