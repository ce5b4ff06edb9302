"""LP text (the format of CPLEX, HiGHS, SCIP, Gurobi and dimod) as a program.

Here: sections, tokens with their lines, expressions, bounds. Not here: what the program means to the platform
(``program``), other formats (``program_files``, ``mps_text``).

Read are linear and quadratic objectives and constraints (``[ 2 x ^2 - 3 x * y ] / 2``), ranges
(``1 <= x + y <= 3``), ``free``, ``inf``, and the sections ``Bounds``, ``General`` and ``Binary``. A right-hand side is
a number. Without bounds a variable is 0 or more. Semi-continuous variables, SOS and indicators are refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from hybrid_assets.problems.programs.polynomial import Terms
from hybrid_assets.problems.programs.program_files import RawProgram, RawRow, checked
from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

_SECTIONS = {
    "objective": r"(?P<sense>min|max)(?:imi[sz]e|imum)?",
    "constraints": r"subject[ \t]+to|such[ \t]+that|s\.t\.|st\.?",
    "bounds": r"bounds?",
    "general": r"generals?|gen|integers?|int",
    "binary": r"binar(?:y|ies)|bin",
    "end": r"end",
    "refused": r"semi-continuous|semis?|sos[12]?|gen(?:eral[ \t]+)?cons(?:traints?)?|lazy[ \t]+constraints|usercuts",
}
_HEADER = {
    name: re.compile(rf"[ \t]*(?:{pattern})(?=[\s:]|$)(?P<rest>.*)", re.IGNORECASE)
    for name, pattern in _SECTIONS.items()
}
_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<relation><=|=<|>=|=>|<|>|=)"
    r"|(?P<mark>[\[\]+\-*/^:])"
    r"|(?P<name>[A-Za-z!\"#$%&(),;?@_'`{}|~][^\s+\-*^:<>=\[\]\\]*)"
)
_INFINITE = {"inf", "infinity"}
_FLIPPED = {"<=": ">=", ">=": "<=", "=": "="}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


def read(source: SourceFile) -> RawProgram:
    """Parse LP text.

    Raises:
        InputError: names the line and the fix.
    """
    program = RawProgram(source.name)
    sections = _sections(source, program)
    reader = _Reader(program)
    reader.objective(sections["objective"])
    reader.constraints(sections["constraints"])
    reader.bounds(sections["bounds"])
    for name in ("general", "binary"):
        reader.declared(sections[name], name == "binary")
    return program


def _sections(source: SourceFile, program: RawProgram) -> dict[str, list[_Token]]:
    """The tokens of each section; the program learns its sense."""
    found: dict[str, list[_Token]] = {name: [] for name in _SECTIONS}
    current: str | None = None
    for number, line in enumerate(source.text.splitlines(), start=1):
        rest = line.split("\\", 1)[0]
        for name, pattern in _HEADER.items():
            header = pattern.fullmatch(rest)
            # a header may be followed by the section's first words; elsewhere its word is a variable's name
            opens = name == "objective" if current is None else name == "constraints" and current == "objective"
            if header is None or (header["rest"].strip() and not opens):
                continue
            if current == "end" or (current is None) != (name == "objective"):
                raise InputError(source.name, f"line {number}", f"{rest.strip()[:40]!r} is out of place",
                                 "begin with minimize or maximize, once, and close with end")  # fmt: skip
            if name == "refused":
                raise InputError(source.name, f"line {number}", f"section {rest.strip()[:40]!r} cannot be read",
                                 "use linear and quadratic constraints over integers and binaries")  # fmt: skip
            if name == "objective":
                program.sense = "max" if header["sense"].lower() == "max" else "min"
            current, rest = name, header["rest"]
            break
        if rest.strip() and current in (None, "end"):
            raise InputError(source.name, f"line {number}", f"{rest.strip()[:40]!r} stands outside the program",
                             "begin with minimize or maximize and close with end")  # fmt: skip
        if current is not None:
            found[current] += _tokens(source.name, rest, number)
    if current != "end":
        raise InputError(source.name, "end of file", "the line 'end' is missing", "complete the file")
    return found


def _tokens(file: str, text: str, line: int) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise InputError(file, f"line {line}", f"{text[at : at + 20]!r} cannot be read", "write names and numbers")
        found = match.group()
        if match.lastgroup == "relation":
            found = {"=<": "<=", "<": "<=", "=>": ">=", ">": ">="}.get(found, found)
        tokens.append(_Token(str(match.lastgroup), found, line))
        at = match.end()
    return tokens


class _Reader:
    """Takes the tokens of one section after the other into a program."""

    def __init__(self, program: RawProgram) -> None:
        self.program = program
        self.index: dict[str, int] = {}
        self.rows: set[str] = set()
        self.tokens: list[_Token] = []
        self.at = 0

    # -- tokens --------------------------------------------------------------------------------------------------

    def _start(self, tokens: list[_Token]) -> None:
        self.tokens, self.at = tokens, 0

    def _peek(self, offset: int = 0) -> _Token:
        place = self.at + offset
        last = self.tokens[-1].line if self.tokens else 1
        return self.tokens[place] if place < len(self.tokens) else _Token("end", "end of section", last)

    def _take(self) -> _Token:
        token = self._peek()
        self.at += 1
        return token

    def _error(self, token: _Token, expected: str) -> InputError:
        return InputError(
            self.program.file, f"line {token.line}", f"{token.text[:40]!r} where {expected} is expected", "correct it"
        )

    def _variable(self, token: _Token) -> int:
        if token.text not in self.index:
            self.index[token.text] = self.program.add(token.text, "continuous", 0.0, math.inf)
        return self.index[token.text]

    def _value(self, infinite: bool = False) -> float:
        """A number with its signs."""
        sign = 1.0
        while self._peek().text in ("+", "-"):
            sign = -sign if self._take().text == "-" else sign
        token = self._take()
        if infinite and token.kind == "name" and token.text.lower() in _INFINITE:
            return sign * math.inf
        if token.kind != "number":
            raise self._error(token, "a number")
        return sign * checked(self.program.file, f"line {token.line}", float(token.text))

    def _is_value(self) -> int:
        """How many tokens from here are a number with its signs and a relation after it; 0 if they are not."""
        offset = 0
        while self._peek(offset).text in ("+", "-"):
            offset += 1
        token = self._peek(offset)
        number = token.kind == "number" or token.text.lower() in _INFINITE
        return offset + 1 if number and self._peek(offset + 1).kind == "relation" else 0

    def _label(self) -> str:
        if self._peek().kind in ("name", "number") and self._peek(1).text == ":":
            name = self._take().text
            self.at += 1
            return name
        return ""

    # -- expressions ---------------------------------------------------------------------------------------------

    def _expression(self) -> Terms:
        terms: Terms = {}
        first = True
        while True:
            token = self._peek()
            if not first and token.text not in ("+", "-"):
                break
            sign = 1.0
            while self._peek().text in ("+", "-"):
                sign = -sign if self._take().text == "-" else sign
            token = self._peek()
            if token.text == "[":
                for key, value in self._quadratic().items():
                    terms[key] = terms.get(key, 0.0) + sign * value
            elif token.kind in ("number", "name"):
                value = sign * (self._value() if token.kind == "number" else 1.0)
                key = ()
                if self._peek().kind == "name" and self._peek(1).text != ":":
                    key = (self._variable(self._take()),)
                terms[key] = checked(self.program.file, f"line {token.line}", terms.get(key, 0.0) + value)
            else:
                raise self._error(token, "a term")
            first = False
        return terms

    def _quadratic(self) -> Terms:
        """``[ … ]``, halved where ``/ 2`` follows."""
        self.at += 1
        terms: Terms = {}
        while self._peek().text != "]":
            sign = 1.0
            while self._peek().text in ("+", "-"):
                sign = -sign if self._take().text == "-" else sign
            token = self._peek()
            value = sign * (self._value() if token.kind == "number" else 1.0)
            one = self._take()
            if one.kind != "name":
                raise self._error(one, "a variable")
            mark, i = self._take(), self._variable(one)
            if mark.text == "^":
                power = self._take()
                if power.text != "2":
                    raise self._error(power, "the power 2 (other degrees: polynomial JSON)")
                key: tuple[int, ...] = (i, i)
            elif mark.text == "*":
                other = self._take()
                if other.kind != "name":
                    raise self._error(other, "a variable")
                key = tuple(sorted((i, self._variable(other))))
            else:
                raise self._error(mark, "^2 or * and a variable")
            terms[key] = checked(self.program.file, f"line {one.line}", terms.get(key, 0.0) + value)
        self.at += 1
        if self._peek().text == "/":
            self.at += 1
            half = self._take()
            if half.text != "2":
                raise self._error(half, "/ 2")
            terms = {key: value / 2 for key, value in terms.items()}
        return terms

    # -- sections ------------------------------------------------------------------------------------------------

    def objective(self, tokens: list[_Token]) -> None:
        """``[name:] expression``, which may be empty."""
        self._start(tokens)
        if self._peek().text == ":":
            self.at += 1
        self._label()
        if self._peek().kind != "end":
            self.program.objective = self._expression()
        if self._peek().kind != "end":
            raise self._error(self._peek(), "'subject to'")

    def constraints(self, tokens: list[_Token]) -> None:
        """``[name:] [number relation] expression relation number``, again and again."""
        self._start(tokens)
        if self._peek().text == ":":
            self.at += 1
        while self._peek().kind != "end":
            line = self._peek().line
            name = self._label() or f"r{len(self.program.rows) + 1}"
            if name in self.rows:
                raise InputError(
                    self.program.file, f"line {line}", f"constraint {name[:40]!r} was given before", "rename it"
                )
            self.rows.add(name)
            low, high = -math.inf, math.inf
            before = self._is_value()
            if before:
                value = self._value(infinite=True)
                low, high = _within(low, high, _FLIPPED[self._take().text], value)
            terms = self._expression()
            if self._peek().kind == "relation" or not before:
                token = self._take()
                if token.kind != "relation":
                    raise self._error(token, "<=, >= or =")
                low, high = _within(low, high, token.text, self._value(infinite=True))
            constant = terms.pop((), 0.0)
            self.program.rows.append(RawRow(name, terms, low - constant, high - constant, f"line {line}"))

    def bounds(self, tokens: list[_Token]) -> None:
        """``number <= x <= number``, ``x <= number``, ``x free`` …"""
        self._start(tokens)
        while self._peek().kind != "end":
            sides: list[tuple[str, float]] = []
            if self._is_value():
                value = self._value(infinite=True)
                sides.append((_FLIPPED[self._take().text], value))
            token = self._take()
            if token.kind != "name":
                raise self._error(token, "a variable")
            if token.text not in self.index:
                raise self._error(token, "a variable of the objective or a constraint")
            i = self.index[token.text]
            if not sides and self._peek().text.lower() == "free":
                self.at += 1
                self.program.lower[i] = -math.inf
                continue
            if self._peek().kind == "relation":
                relation = self._take().text
                sides.append((relation, self._value(infinite=True)))
            if not sides:
                raise self._error(self._peek(), "<=, >=, = or free")
            for relation, value in sides:
                if relation in (">=", "="):
                    self.program.lower[i] = value
                if relation in ("<=", "="):
                    self.program.upper[i] = value

    def declared(self, tokens: list[_Token], binary: bool) -> None:
        """Names of integers or binaries."""
        self._start(tokens)
        while self._peek().kind != "end":
            token = self._take()
            if token.kind != "name" or token.text not in self.index:
                raise self._error(token, "a variable of the objective or a constraint")
            i = self.index[token.text]
            self.program.kinds[i] = "integer"
            if binary:
                self.program.lower[i] = max(self.program.lower[i], 0.0)
                self.program.upper[i] = min(self.program.upper[i], 1.0)


def _within(low: float, high: float, relation: str, value: float) -> tuple[float, float]:
    """The sides after ``expression relation value``."""
    if relation in (">=", "="):
        low = max(low, value)
    if relation in ("<=", "="):
        high = min(high, value)
    return low, high
