"""Coordinate lists, the text format behind QUBO and graph files: ``n m``, then one ``i j value`` per line.

Here: finding the significant lines, parsing and checking entries with line numbers, and telling which of the families
a file can belong to. Not here: what an entry means, which the families say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

#: Largest absolute coefficient: up to here float64 still adds up whole numbers exactly (2**53 is 9e15).
MAX_COEFFICIENT = 1e15
#: Largest number of variables: more would be a wrong header, and would be allocated before anybody notices.
MAX_VARIABLES = 100_000

#: First bytes of a file written by ``dimod.BinaryQuadraticModel.to_file``.
DIMOD_MAGIC = b"DIMODBQM"
#: First line of dimod's COO text with a declared vartype.
COO_HEADER = re.compile(r"\A\s*#.*?vartype[:=][ \t]*([A-Za-z]+)")

_COMMENT = re.compile(r"[#%]|c(\s|$)")
_COMMENT_LINES = re.compile(rb"^[#%].*$", re.MULTILINE)
_INTEGER = r"[+-]?\d+"
_HEADER = re.compile(rf"({_INTEGER})\s+({_INTEGER})\s*")
_ENTRY = re.compile(rf"({_INTEGER})\s+({_INTEGER})(\s+\S+)?\s*")
_DIAGONAL = re.compile(r"^[ \t]*(\d+)[ \t]+\1[ \t]+\S", re.MULTILINE)
_CLAIMS = {
    "maxcut": re.compile(r"\b(max-?cut|rudy)\b", re.IGNORECASE),
    "mis": re.compile(r"\b(mis|(independent|stable) sets?)\b", re.IGNORECASE),
    "qubo": re.compile(r"\b(qubo|bqp)\b", re.IGNORECASE),
}


def families_of(source: SourceFile) -> frozenset[str]:
    """Which of ``qubo``, ``maxcut`` and ``mis`` the content can be; never raises.

    A declared format decides: dimod's magic bytes, type field or vartype header, ``p qubo``, or a comment above the
    data that names one of them. Otherwise a DIMACS graph (``p edge``) with weights at its nodes asks for an independent
    set, with weights at its edges for a cut, and can be both without. A plain ``n m`` list with a diagonal entry
    can only be a QUBO, one without weights is taken for a cut, and any other can be a cut or a QUBO.
    """
    if source.content.startswith(DIMOD_MAGIC):
        return frozenset({"qubo"})
    if (text := _text(source)) is None:
        return frozenset()
    start = text[:4096]
    if start.lstrip().startswith("{"):
        return frozenset({"qubo"} if '"BinaryQuadraticModel"' in text else ())
    if COO_HEADER.match(start):
        return frozenset({"qubo"})
    head = [line.strip() for line in start.splitlines()]
    data = [line for line in head if line and not _COMMENT.match(line)][:3]
    if not data:
        return frozenset()
    comments = " ".join(line for line in head if _COMMENT.match(line))
    claimed = frozenset(family for family, words in _CLAIMS.items() if words.search(comments))
    if data[0].startswith("p"):
        declared = data[0].split()[1:2]
        if declared not in (["edge"], ["col"]):
            return frozenset({"qubo"} if declared == ["qubo"] else ())
        if len(claimed & {"maxcut", "mis"}) == 1:
            return claimed & {"maxcut", "mis"}
        first = data[1].split() if len(data) > 1 else []
        return frozenset({"mis"} if first[:1] == ["n"] else {"maxcut"} if len(first) == 4 else {"maxcut", "mis"})
    if data[0].isdigit():
        blocks = len(data) == 3 and _HEADER.fullmatch(data[1]) and len(data[2].split()) == 3
        return frozenset({"qubo"} if blocks and _ENTRY.fullmatch(data[2]) else ())
    header = _HEADER.fullmatch(data[0])
    entry = _ENTRY.fullmatch(data[1]) if len(data) > 1 else None
    if header is None or entry is None:
        return frozenset()
    if len(claimed) == 1:
        return claimed
    if entry[3] is None:
        # two columns of numbers are many formats: a graph only if they can be an edge
        ends = int(entry[1]), int(entry[2])
        return frozenset({"maxcut"} if 1 <= min(ends) < max(ends) <= int(header[1]) else ())
    return frozenset({"qubo"} if _DIAGONAL.search(text) else {"qubo", "maxcut"})


def _text(source: SourceFile) -> str | None:
    """The text, or ``None`` for a binary file.

    Published files carry Windows dashes and the like in their comments, so bytes outside UTF-8 are accepted there.
    """
    if not source.is_binary:
        return source.text
    plain = b"\0" not in source.content and _COMMENT_LINES.sub(b"", source.content).isascii()
    return source.content.decode("latin-1") if plain else None


@dataclass(frozen=True)
class Triplets:
    """Entries of a symmetric matrix, each pair once.

    Attributes:
        rows, cols: int64, 0-based, ``rows <= cols``, in lexicographic order whatever the order in the file.
        values: float64, finite.
    """

    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Lines:
    """The significant lines of a text file.

    Attributes:
        name: the file's name, for messages.
        lines: stripped lines that are neither blank nor comments (``#``, ``%``, or a lone ``c``).
        numbers: their 1-based line numbers.
    """

    name: str
    lines: Sequence[str]
    numbers: Sequence[int]

    @classmethod
    def of(cls, source: SourceFile) -> Lines:
        """Split a text file.

        Raises:
            InputError: binary, or nothing but comments.
        """
        text = _text(source)
        content = source.text if text is None else text
        lines = list(map(str.strip, content.splitlines()))
        skipped = [k for k, line in enumerate(lines) if not line or (line[0] in "#%c" and _COMMENT.match(line))]
        numbers: Sequence[int] = range(1, len(lines) + 1)
        if skipped:
            kept = np.delete(np.arange(len(lines)), skipped).tolist()
            lines, numbers = [lines[k] for k in kept], [k + 1 for k in kept]
        if not lines:
            raise InputError(
                source.name, "file", "it holds no data, only blank or comment lines", "give a file with data in it"
            )
        return cls(source.name, lines, numbers)

    def error(self, k: int, problem: str, fix: str) -> InputError:
        """The error for significant line ``k``."""
        return InputError(self.name, f"line {self.numbers[k]}", problem, fix)

    def integers(self, k: int, names: str, prefix: str = "") -> list[int]:
        """Non-negative whole numbers of a header line.

        Args:
            names: what stands there, e.g. ``n m``.
            prefix: words before the numbers, e.g. ``p edge``.
        """
        expected = f"write '{f'{prefix} {names}'.strip()}' there, all whole numbers"
        if k >= len(self.lines):
            raise InputError(self.name, "header", "the file ends before its header", expected)
        words = self.lines[k].split()[len(prefix.split()) :]
        if len(words) != len(names.split()) or not all(w.isascii() and w.isdigit() and len(w) < 16 for w in words):
            raise self.error(k, f"the header is {self.lines[k][:60]!r}", expected)
        numbers = [int(word) for word in words]
        if "n" in (columns := names.split()) and not 1 <= (n := numbers[columns.index("n")]) <= MAX_VARIABLES:
            raise self.error(k, f"the header gives n = {n}", f"n must be between 1 and {MAX_VARIABLES}")
        return numbers

    def entries(
        self,
        start: int,
        stop: int,
        size: int,
        *,
        base: int = 1,
        loops: bool,
        lower: bool,
        unweighted: bool = False,
        mark: str = "",
    ) -> Triplets:
        """Parse and check lines ``start`` to ``stop`` (exclusive) as ``i j value``.

        Args:
            size: number of variables.
            base: the first index, 0 or 1.
            loops: whether ``i == j`` is allowed.
            lower: whether ``i > j`` is allowed.
            unweighted: whether all lines may be ``i j`` alone, each worth 1.
            mark: word in front of every line, e.g. ``e``.

        Raises:
            InputError: the first line that is wrong.
        """
        texts = self.lines[start:stop]
        if mark:
            texts = [text.removeprefix(mark) if text.split()[0] == mark else text for text in texts]
        table = self._table(texts, start, unweighted)
        ends, values = table[:, :2], table[:, 2] if table.shape[1] == 3 else np.ones(len(table))

        def refuse(wrong: np.ndarray | np.bool_, problem: str, fix: str) -> None:
            if wrong.any():
                k = int(np.argmax(wrong))
                raise self.error(start + k, problem.format(text=" ".join(texts[k].split())[:60]), fix)

        last = base + size - 1
        refuse(
            ~np.isfinite(table).all(axis=1),
            "{text!r} holds a value that is not a finite number",
            "give every coefficient as a plain number",
        )
        refuse(
            (ends != np.floor(ends)).any(axis=1),
            "an index of {text!r} is not a whole number",
            "indices are whole numbers",
        )
        refuse(
            ((ends < base) | (ends > last)).any(axis=1),
            f"an index of {{text!r}} is not between {base} and {last}",
            f"number the variables from {base} to {last}",
        )
        refuse(
            np.abs(values) > MAX_COEFFICIENT,
            f"the coefficient of {{text!r}} is larger than {MAX_COEFFICIENT:g}",
            "rescale the coefficients",
        )
        if not loops:
            refuse(ends[:, 0] == ends[:, 1], "{text!r} joins a node to itself", "remove the self-loop")
        if not lower:
            refuse(ends[:, 0] > ends[:, 1], "{text!r} lies below the diagonal", "give each pair once, with i <= j")
        rows, cols = (side.astype(np.int64) - base for side in (ends.min(axis=1), ends.max(axis=1)))
        keys = rows * size + cols
        order = np.argsort(keys, kind="stable")
        repeated = np.flatnonzero(np.diff(keys[order]) == 0)
        if repeated.size:
            pick = repeated[np.argmin(order[repeated + 1])]
            first, again = order[pick], order[pick + 1]
            pair = " ".join(texts[again].split()[:2])
            raise self.error(
                start + int(again),
                f"the pair {pair!r} was given before, in line {self.numbers[start + int(first)]}",
                "give each pair once",
            )
        return Triplets(rows[order], cols[order], values[order])

    def _table(self, texts: Sequence[str], start: int, unweighted: bool) -> np.ndarray:
        """Float64 array of shape (lines, 2 or 3)."""
        allowed = (2, 3) if unweighted else (3,)
        if not texts:
            return np.empty((0, 3))
        width = len(texts[0].split())
        if width in allowed and (plain := _plain_table(texts, width)) is not None:
            return plain
        try:
            # a line with nothing but its mark would be skipped
            if all(text.strip() for text in texts):
                table = np.loadtxt(texts, dtype=np.float64, ndmin=2, comments=None)
                if table.shape[1] in allowed:
                    return table
        except ValueError:
            pass
        for k, text in enumerate(texts):
            words = text.split()
            if len(words) not in allowed or len(words) != width:
                wanted = width if width in allowed else allowed[-1]
                raise self.error(
                    start + k,
                    f"it has {len(words)} fields where {wanted} are expected",
                    "write 'i j value' on every line" if wanted == 3 else "write 'i j' on every line",
                )
            for word in words:
                try:
                    float(word)
                except ValueError:
                    raise self.error(
                        start + k, f"{word[:40]!r} is not a number", "write 'i j value' in plain numbers"
                    ) from None
        raise self.error(start, "the entries cannot be read", "write 'i j value' on every line")

    def counted(self, start: int, promised: int, what: str) -> int:
        """The end of the data, checked against the header's count.

        Raises:
            InputError: fewer or more lines than promised.
        """
        found = len(self.lines) - start
        if found != promised:
            raise InputError(
                self.name,
                "header",
                f"it promises {promised} {what}, the file has {found}",
                "correct the header or complete the list",
            )
        return len(self.lines)


def _plain_table(texts: Sequence[str], width: int) -> np.ndarray | None:
    """Lines of ``width`` numbers with one blank between them: float64, shape (lines, width); ``None`` for any other.

    Several times as fast as ``np.loadtxt``, which reads everything else.
    """
    import pyarrow as pa
    from pyarrow import csv

    names = [str(column) for column in range(width)]
    try:
        found = csv.read_csv(
            pa.BufferReader("\n".join(texts).encode()),
            csv.ReadOptions(use_threads=False, column_names=names),
            csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64()), null_values=[], check_utf8=False),
        )
    except pa.ArrowInvalid:
        return None
    return np.stack([column.to_numpy() for column in found.columns]).T
