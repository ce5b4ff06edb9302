"""MPS text as a program.

Here: free and fixed layouts whose names hold no blanks, with ``OBJSENSE``, integer markers, ``RANGES``, ``QUADOBJ``,
``QMATRIX`` and ``QCMATRIX``. Not here: what the program means to the platform (``program``), other formats
(``program_files``, ``lp_text``). Semi-continuous variables, SOS and indicators are refused.

An integer between markers without any bound is a binary, as CPLEX and HiGHS read it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hybrid_assets.problems.programs.program_files import RawProgram, RawRow, checked
from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

_SECTIONS = {
    "NAME", "OBJSENSE", "OBJSENSE MAX", "OBJSENSE MIN", "ROWS", "COLUMNS", "RHS", "RANGES", "BOUNDS", "QUADOBJ",
    "QMATRIX", "QSECTION", "QCMATRIX", "ENDATA",
}  # fmt: skip
_BOUNDS = {"UP", "LO", "FX", "UI", "LI", "FR", "MI", "PL", "BV"}
#: Bound types that come without a value.
_BARE = {"FR", "MI", "PL", "BV"}


def read(source: SourceFile) -> RawProgram:
    """Parse MPS text.

    Raises:
        InputError: names the line and the fix.
    """
    reader = _Reader(RawProgram(source.name))
    for number, line in enumerate(source.text.splitlines(), start=1):
        if line.strip() and not line.startswith("*"):
            reader.line(number, line)
    return reader.finished()


@dataclass
class _Reader:
    """Takes one line after the other into a program."""

    program: RawProgram
    section: str = ""
    argument: str = ""
    number: int = 0
    objective: str | None = None
    dropped: set[str] = field(default_factory=set)
    rows: dict[str, int] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    columns: dict[str, int] = field(default_factory=dict)
    integer: bool = False
    bounded: set[int] = field(default_factory=set)
    marked: set[int] = field(default_factory=set)

    def error(self, problem: str, fix: str) -> InputError:
        """A sentence about the current line."""
        return InputError(self.program.file, f"line {self.number}", problem, fix)

    def line(self, number: int, line: str) -> None:
        """A header or a line of data."""
        self.number = number
        words = line.split()
        if not line[0].isspace():
            self._header(words)
        elif self.section == "ENDATA":
            raise self.error("there is data after ENDATA", "remove it")
        elif self.section == "NAME" or not self.section:
            raise self.error(f"{line.strip()[:40]!r} belongs to no section", "begin with NAME and ROWS")
        else:
            {
                "OBJSENSE": self._sense, "ROWS": self._row, "COLUMNS": self._column, "RHS": self._side,
                "RANGES": self._range, "BOUNDS": self._bound, "QUADOBJ": self._quadratic, "QSECTION": self._quadratic,
                "QMATRIX": self._quadratic, "QCMATRIX": self._quadratic,
            }[self.section](words)  # fmt: skip

    def _header(self, words: list[str]) -> None:
        if self.section == "ENDATA" or words[0] not in _SECTIONS:
            raise self.error(f"section {words[0][:40]!r} cannot be read here", f"use {', '.join(sorted(_SECTIONS))}")
        self.section, self.argument = words[0], words[1] if len(words) > 1 else ""
        if self.section == "OBJSENSE" and self.argument:
            self._sense([self.argument])
        if self.section == "QCMATRIX" and self.argument not in self.rows:
            raise self.error(f"there is no constraint {self.argument[:40]!r}", "name one of the ROWS")

    def _sense(self, words: list[str]) -> None:
        found = {"MAX": "max", "MAXIMIZE": "max", "MIN": "min", "MINIMIZE": "min"}.get(words[0].upper())
        if found is None or len(words) > 1:
            raise self.error(f"{' '.join(words)[:40]!r} is no sense", "write MAX or MIN")
        self.program.sense = "max" if found == "max" else "min"

    def _row(self, words: list[str]) -> None:
        if len(words) != 2 or words[0].upper() not in ("N", "L", "G", "E"):
            raise self.error(f"{' '.join(words)[:40]!r} is no row", "write N, L, G or E and a name")
        kind, name = words[0].upper(), words[1]
        if name in self.rows or name in self.dropped or name == self.objective:
            raise self.error(f"row {name[:40]!r} was given before", "rename it")
        if kind == "N":
            if self.objective is None:
                self.objective = name
            else:
                self.dropped.add(name)
            return
        self.rows[name] = len(self.program.rows)
        self.kinds.append(kind)
        low, high = -math.inf if kind == "L" else 0.0, math.inf if kind == "G" else 0.0
        self.program.rows.append(RawRow(name, {}, low, high, f"line {self.number}"))

    def _pairs(self, words: list[str]) -> list[tuple[str, float]]:
        if len(words) not in (2, 4):
            raise self.error(f"it has {len(words)} words after the first", "write one or two names with their values")
        return [(name, self._value(text)) for name, text in zip(words[::2], words[1::2], strict=True)]

    def _value(self, text: str) -> float:
        try:
            return checked(self.program.file, f"line {self.number}", float(text))
        except ValueError:
            raise self.error(f"{text[:40]!r} is not a number", "write a plain number") from None

    def _column(self, words: list[str]) -> None:
        if len(words) == 3 and words[1].strip("'\"") == "MARKER":
            mark = words[2].strip("'\"")
            if mark not in ("INTORG", "INTEND"):
                raise self.error(f"{mark[:40]!r} is no marker", "write INTORG or INTEND")
            self.integer = mark == "INTORG"
            return
        name = words[0]
        if name not in self.columns:
            self.columns[name] = self.program.add(name, "integer" if self.integer else "continuous", 0.0, math.inf)
            if self.integer:
                self.marked.add(self.columns[name])
        key = (self.columns[name],)
        for row, value in self._pairs(words[1:]):
            if row in self.dropped:
                continue
            terms = self.program.objective if row == self.objective else self._of(row).terms
            if key in terms:
                raise self.error(f"{name[:40]!r} in row {row[:40]!r} was given before", "give each entry once")
            terms[key] = value

    def _of(self, row: str) -> RawRow:
        if row not in self.rows:
            raise self.error(f"there is no row {row[:40]!r}", "name one of the ROWS")
        return self.program.rows[self.rows[row]]

    def _side(self, words: list[str]) -> None:
        # the set's name may be missing
        for row, value in self._pairs(words[1:] if len(words) % 2 else words):
            if row == self.objective:
                self.program.objective[()] = -value
            elif row not in self.dropped:
                found, kind = self._of(row), self.kinds[self.rows[row]]
                found.low, found.high = -math.inf if kind == "L" else value, math.inf if kind == "G" else value

    def _range(self, words: list[str]) -> None:
        for row, value in self._pairs(words[1:] if len(words) % 2 else words):
            found, kind = self._of(row), self.kinds[self.rows[row]]
            if kind == "L" or (kind == "E" and value < 0):
                found.low = found.high - abs(value)
            else:
                found.high = found.low + abs(value)

    def _bound(self, words: list[str]) -> None:
        kind, rest = words[0].upper(), words[1:]
        if kind not in _BOUNDS:
            raise self.error(f"bound {words[0][:40]!r} cannot be read", f"use {', '.join(sorted(_BOUNDS))}")
        # type, set, column, value; set and (where it means nothing) value may be missing
        needed = 1 if kind in _BARE else 2
        if kind in _BARE and len(rest) == 3:
            rest = rest[:2]
        if len(rest) == needed + 1:
            rest = rest[1:]
        if len(rest) != needed:
            raise self.error(f"it has {len(words)} words", "write type, set, column and value")
        if rest[0] not in self.columns:
            raise self.error(f"there is no column {rest[0][:40]!r}", "name one of the COLUMNS")
        i, p = self.columns[rest[0]], self.program
        value = self._value(rest[1]) if needed == 2 else 0.0
        self.bounded.add(i)
        if kind in ("LO", "LI", "FX"):
            p.lower[i] = value
        if kind in ("UP", "UI", "FX"):
            p.upper[i] = value
        if kind in ("FR", "MI"):
            p.lower[i] = -math.inf
        if kind in ("FR", "PL"):
            p.upper[i] = math.inf
        if kind == "BV":
            p.lower[i], p.upper[i] = 0.0, 1.0
        if kind in ("BV", "UI", "LI"):
            p.kinds[i] = "integer"

    def _quadratic(self, words: list[str]) -> None:
        """Half of x'Qx for objectives, x'Qx for constraints; only ``QUADOBJ`` and ``QSECTION`` list a triangle."""
        if len(words) != 3 or any(word not in self.columns for word in words[:2]):
            raise self.error(f"{' '.join(words)[:40]!r} is no entry", "write two of the COLUMNS and a value")
        i, j = sorted(self.columns[word] for word in words[:2])
        value = self._value(words[2])
        terms = self.program.objective
        if self.section == "QCMATRIX":
            terms = self._of(self.argument).terms
        elif self.section == "QMATRIX" or i == j:
            value /= 2
        terms[(i, j)] = terms.get((i, j), 0.0) + value

    def finished(self) -> RawProgram:
        """The program.

        Raises:
            InputError: no end, or no objective.
        """
        if self.section != "ENDATA":
            raise InputError(self.program.file, "end of file", "the line ENDATA is missing", "complete the file")
        if self.objective is None:
            raise InputError(self.program.file, "ROWS", "there is no objective", "give a row of type N")
        assumed = sorted(self.marked - self.bounded)
        for i in assumed:
            self.program.upper[i] = 1.0
        if assumed:
            self.program.notes.append(f"{len(assumed)} integers without bounds are read as binaries")
        return self.program
