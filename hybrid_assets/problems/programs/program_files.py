"""What every reader of mathematical programs gives, recognition by content, and the two formats that are data.

Here: ``RawProgram``, dimod's CQM files and polynomial JSON. Not here: LP text (``lp_text``), MPS text (``mps_text``),
what a program is to the platform (``program``).

Polynomial JSON, for objectives of any degree (HUBO)::

    {"type": "polynomial", "vartype": "BINARY", "sense": "min", "offset": 0.5,
     "terms": [{"variables": ["a", "b", "c"], "coefficient": -2}, {"variables": ["a"], "coefficient": 1}]}

``vartype`` is ``BINARY`` (0, 1) or ``SPIN`` (−1, +1), ``sense`` ``min`` or ``max``; ``sense`` and ``offset`` may be
left out. Variables are strings or whole numbers; repeated terms add up.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from hybrid_assets.problems.base import Sense
from hybrid_assets.problems.programs.polynomial import Terms
from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

#: Largest absolute number accepted anywhere in a program, infinite bounds apart.
MAX_NUMBER = 1e15
#: Most variables and most constraints of a file.
MAX_VARIABLES = 100_000
#: Largest degree of a term.
MAX_DEGREE = 16

Format = Literal["lp", "mps", "cqm", "polynomial"]

_CQM_MAGIC = b"DIMODCQM"
_LP_START = re.compile(r"(?:[ \t]*(?:\\[^\n]*)?\n)*[ \t]*(?:min|max)(?:imi[sz]e|imum)?(?=[\s:]|$)", re.IGNORECASE)
_LP_BODY = re.compile(
    r"^[ \t]*(?:subject[ \t]+to|such[ \t]+that|s\.t\.|st\.?)(?=[\s:]|$)", re.IGNORECASE | re.MULTILINE
)
_MPS_START = re.compile(r"(?:(?:\*[^\n]*|[ \t]*)\n)*(?:NAME|ROWS|OBJSENSE)(?=\s)")
_MPS_BODY = re.compile(r"^ROWS[ \t\r]*$", re.MULTILINE)
_POLYNOMIAL = re.compile(r'"type"\s*:\s*"polynomial"')


@dataclass
class RawRow:
    """A constraint ``low ≤ terms ≤ high``; infinite where there is no such side. ``place`` is where it stands."""

    name: str
    terms: Terms
    low: float
    high: float
    place: str


@dataclass
class RawProgram:
    """A program as its file gives it.

    Attributes:
        file: name for messages.
        sense: of the objective.
        names: of the variables, in order of appearance.
        kinds: ``integer``, ``spin`` or ``continuous``, one per variable.
        lower, upper: bounds; may be infinite.
        objective: its terms; the empty one is the constant.
        rows: the constraints.
        notes: what the reader assumed, one sentence each.
    """

    file: str
    sense: Sense = "min"
    names: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    objective: Terms = field(default_factory=dict)
    rows: list[RawRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, kind: str, lower: float, upper: float) -> int:
        """A new variable; its index."""
        self.names.append(name)
        self.kinds.append(kind)
        self.lower.append(lower)
        self.upper.append(upper)
        return len(self.names) - 1


def format_of(source: SourceFile) -> Format | None:
    """The format that the content is; never raises."""
    if source.content.startswith(_CQM_MAGIC):
        return "cqm"
    if source.is_binary:
        return None
    text = source.text
    start = text.lstrip()[:1]
    if start == "{":
        return "polynomial" if _POLYNOMIAL.search(text) else None
    if _LP_START.match(text) and _LP_BODY.search(text):
        return "lp"
    if _MPS_START.match(text) and _MPS_BODY.search(text):
        return "mps"
    return None


def read(source: SourceFile) -> RawProgram:
    """Parse a program of any of the formats.

    Raises:
        InputError: names the line or key and the fix.
    """
    from hybrid_assets.problems.programs import lp_text, mps_text

    found = format_of(source)
    if found is None:
        raise InputError(
            source.name,
            "format",
            "it is neither LP nor MPS text, a dimod CQM file nor a polynomial in JSON",
            "write it with one of these formats' writers",
        )
    program = {"lp": lp_text.read, "mps": mps_text.read, "cqm": _read_cqm, "polynomial": _read_polynomial}[found](
        source
    )
    if not program.names:
        raise InputError(source.name, "variables", "the program has none", "give an objective over some variables")
    if len(program.names) > MAX_VARIABLES or len(program.rows) > MAX_VARIABLES:
        raise InputError(
            source.name,
            "size",
            f"it has {len(program.names)} variables and {len(program.rows)} constraints",
            f"the limit of each is {MAX_VARIABLES}",
        )
    return program


def checked(file: str, place: str, value: float) -> float:
    """A coefficient or side that may be used.

    Raises:
        InputError: not a number, or too large.
    """
    if not abs(value) <= MAX_NUMBER:
        raise InputError(file, place, f"{value!r} is too large or no number", f"stay within ±{MAX_NUMBER:g}")
    return value


# -- dimod -------------------------------------------------------------------------------------------------------


def _read_cqm(source: SourceFile) -> RawProgram:
    import dimod

    try:
        cqm = dimod.ConstrainedQuadraticModel.from_file(source.content)
    except Exception as error:
        raise InputError(
            source.name,
            "content",
            f"dimod cannot read the constrained quadratic model ({type(error).__name__})",
            "write it again with to_file()",
        ) from None
    program = RawProgram(source.name)
    index: dict[Any, int] = {}
    for label in cqm.variables:
        kind = cqm.vartype(label).name
        name = {"BINARY": "integer", "INTEGER": "integer", "SPIN": "spin"}.get(kind, "continuous")
        index[label] = program.add(_label(label), name, float(cqm.lower_bound(label)), float(cqm.upper_bound(label)))
    if len(set(program.names)) < len(program.names):
        raise InputError(source.name, "variables", "two labels read the same", "relabel them as strings")
    program.objective = _dimod_terms(source.name, "objective", cqm.objective, index)
    for label, comparison in cqm.constraints.items():
        place = f"constraint {_label(label)}"
        if comparison.lhs.is_soft():
            raise InputError(
                source.name,
                place,
                "it is soft: breaking it has a price",
                "make it hard, or put the price in the objective",
            )
        terms = _dimod_terms(source.name, place, comparison.lhs, index)
        rhs = checked(source.name, place, float(comparison.rhs)) - terms.pop((), 0.0)
        sense = str(comparison.sense.value)
        low, high = -math.inf if sense == "<=" else rhs, math.inf if sense == ">=" else rhs
        program.rows.append(RawRow(_label(label), terms, low, high, "constraints"))
    return program


def _label(label: Any) -> str:
    return " ".join(str(label).split())[:80]


def _dimod_terms(file: str, place: str, expression: Any, index: dict[Any, int]) -> Terms:
    terms: Terms = {(): checked(file, place, float(expression.offset))}
    for label, bias in expression.iter_linear():
        if bias:
            terms[(index[label],)] = checked(file, place, float(bias))
    for one, two, bias in expression.iter_quadratic():
        if bias:
            terms[tuple(sorted((index[one], index[two])))] = checked(file, place, float(bias))
    return terms


# -- polynomial JSON ---------------------------------------------------------------------------------------------


def _read_polynomial(source: SourceFile) -> RawProgram:
    def refuse(field_: str, problem: str, fix: str) -> InputError:
        return InputError(source.name, field_, problem, fix)

    try:
        document = json.loads(source.text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise refuse(f"line {line}", "it is no JSON document from there on", "correct the JSON") from None
    known = {"type", "vartype", "sense", "offset", "terms"}
    if not isinstance(document, dict) or document.get("type") != "polynomial":
        raise refuse("type", "it is no polynomial", 'write {"type": "polynomial", …}')
    if strange := sorted(set(document) - known):
        raise refuse(str(strange[0])[:60], "there is no such key", f"use {', '.join(sorted(known))}")
    kinds = {"BINARY": ("integer", 0.0, 1.0), "SPIN": ("spin", -1.0, 1.0)}
    vartype, sense = document.get("vartype"), document.get("sense", "min")
    if not isinstance(vartype, str) or vartype not in kinds:
        raise refuse("vartype", f"{str(vartype)[:40]!r} is no kind of variable", "write BINARY or SPIN")
    if sense not in ("min", "max"):
        raise refuse("sense", f"{str(sense)[:40]!r} is no sense", "write min or max")
    terms = document.get("terms")
    if not isinstance(terms, list) or not terms:
        raise refuse("terms", "there are none", 'write a list of {"variables": […], "coefficient": …}')
    program = RawProgram(source.name, sense=sense)
    index: dict[str, int] = {}
    program.objective[()] = _number(source.name, "offset", document.get("offset", 0.0))
    for place, term in enumerate(terms, start=1):
        where = f"term {place}"
        if not isinstance(term, dict) or set(term) != {"variables", "coefficient"}:
            raise refuse(where, "it is not variables and a coefficient", 'write {"variables": […], "coefficient": …}')
        names = term["variables"]
        if not isinstance(names, list) or not all(isinstance(v, (str, int)) and not isinstance(v, bool) for v in names):
            raise refuse(where, "its variables are no list of names", "write strings or whole numbers")
        if len(names) > MAX_DEGREE:
            raise refuse(where, f"it has {len(names)} factors", f"the limit is {MAX_DEGREE}")
        value = _number(source.name, where, term["coefficient"])
        members = []
        for name in map(_label, names):
            if name not in index:
                index[name] = program.add(name, *kinds[vartype])
            members.append(index[name])
        key = tuple(sorted(members))
        program.objective[key] = program.objective.get(key, 0.0) + value
    return program


def _number(file: str, place: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(file, place, f"{str(value)[:40]!r} is no number", "write a plain number")
    return checked(file, place, math.inf if isinstance(value, int) and abs(value) > MAX_NUMBER else float(value))
