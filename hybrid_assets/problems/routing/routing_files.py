"""Files of routing problems as they are written: TSPLIB, CVRPLIB (VRPLIB) and Solomon's tables.

Here: keywords, sections and tables with their line numbers, and the raw problem they hold. Not here: distance formulas
(``routing_distances``), what the numbers mean for a family (``tsp``, ``cvrp``).

TSPLIB95 and VRPLIB files are ``KEYWORD : value`` lines followed by sections. Solomon's are a ``VEHICLE`` and a
``CUSTOMER`` table (Solomon, Operations Research 35, 1987). Lines that start with ``#`` are comments.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hybrid_assets.problems.routing.routing_distances import (
    COORDINATE_TYPES,
    MATRIX_FORMATS,
    between,
    matrix,
    truncated_tenths,
    weights_expected,
)
from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

#: Largest number of places: their distances are held as one dense matrix.
MAX_PLACES = 3_000
#: Smallest: with fewer there is nothing to decide.
MIN_PLACES = 3
#: Largest coordinate, weight, demand or time: sums stay exact.
MAX_NUMBER = 1e9

_KEYWORD = re.compile(r"([A-Z][A-Z0-9_]*)\s*:\s*(.*)")
_SECTION = re.compile(r"([A-Z][A-Z0-9_]*_SECTION)\s*:?")
_TYPE = re.compile(r"^\s*TYPE\s*:\s*([A-Z]+)", re.MULTILINE)
_SOLOMON = re.compile(r"^\s*VEHICLE\s+NUMBER\s+CAPACITY\s", re.MULTILINE)
_SECTIONS = (
    "NODE_COORD_SECTION",
    "DISPLAY_DATA_SECTION",
    "EDGE_WEIGHT_SECTION",
    "DEMAND_SECTION",
    "DEPOT_SECTION",
    "TIME_WINDOW_SECTION",
    "SERVICE_TIME_SECTION",
)
#: Limits that would change the problem: refused, not ignored.
_UNKNOWN_LIMITS = ("DISTANCE",)


@dataclass(frozen=True)
class RawRouting:
    """A routing problem as its file gives it; place 0 is the depot where there is one.

    Attributes:
        file: the file's name.
        distance: int64, shape ``(n, n)``, in units of ``1 / scale``.
        scale: how many units make one of the file's.
        places: float64, shape ``(n, 2)``, for pictures and neighbours, or ``None``.
        labels: the file's own numbers of the places.
        name, comment: of the file.
        capacity: of one vehicle (``0`` where there is none).
        demands: int64, shape ``(n,)``.
        vehicles: the fleet where the file states it in a field of its own.
        windows: int64, shape ``(n, 2)``, in units of ``1 / scale``, or ``None``.
        service: int64, shape ``(n,)``, in the same units.
        lines: the line of each place's demand, or of its coordinates.
    """

    file: str
    distance: np.ndarray
    scale: int
    places: np.ndarray | None
    labels: tuple[str, ...]
    name: str = ""
    comment: str = ""
    capacity: int = 0
    demands: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    vehicles: int | None = None
    windows: np.ndarray | None = None
    service: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    lines: tuple[int, ...] = ()


def kind_of(source: SourceFile) -> str:
    """``TSP``, ``ATSP``, ``CVRP``, ``VRPTW`` or ``SOLOMON`` from the content, or an empty string."""
    if (found := _TYPE.search(source.head)) is not None:
        return found[1] if found[1] in ("TSP", "ATSP", "CVRP", "VRPTW") else ""
    return "SOLOMON" if _SOLOMON.search(source.head) else ""


@dataclass
class Sectioned:
    """A TSPLIB file taken apart.

    Attributes:
        file: its name.
        keywords: keyword → (value, line).
        sections: name → (line of its heading, its lines as (line, words)).
    """

    file: str
    keywords: dict[str, tuple[str, int]]
    sections: dict[str, tuple[int, list[tuple[int, list[str]]]]]

    @classmethod
    def of(cls, source: SourceFile) -> Sectioned:
        """Split into keywords and sections.

        Raises:
            InputError: binary, a line that belongs to nothing, a keyword or section given twice or unknown.
        """
        parts = cls(source.name, {}, {})
        rows: list[tuple[int, list[str]]] | None = None
        ended = False
        for number, text in enumerate(source.text.splitlines(), 1):
            line = text.strip()
            if not line or line.startswith("#"):
                continue
            if ended:
                raise parts.error(number, f"the file goes on after EOF with {line[:40]!r}", "give one problem per file")
            if line == "EOF":
                ended = True
            elif (heading := _SECTION.fullmatch(line)) is not None:
                if heading[1] not in _SECTIONS:
                    raise parts.error(number, f"{heading[1]} is not supported", "give a problem without it")
                if heading[1] in parts.sections:
                    raise parts.error(number, f"{heading[1]} is given twice", "keep one of them")
                rows = []
                parts.sections[heading[1]] = (number, rows)
            elif (keyword := _KEYWORD.fullmatch(line)) is not None:
                if keyword[1] in _UNKNOWN_LIMITS:
                    raise parts.error(
                        number, f"{keyword[1]} limits the length of routes, which is not supported", "remove the line"
                    )
                # COMMENT may be repeated; anything else twice is a mistake
                if keyword[1] in parts.keywords and keyword[1] != "COMMENT":
                    raise parts.error(number, f"{keyword[1]} is given twice", "keep one of them")
                parts.keywords[keyword[1]] = (keyword[2].strip(), number)
                rows = None
            elif rows is None:
                raise parts.error(
                    number, f"{line[:40]!r} belongs to no section", "write 'KEYWORD : value' or a section's heading"
                )
            else:
                rows.append((number, line.split()))
        return parts

    def error(self, line: int, problem: str, fix: str) -> InputError:
        """The error for a line of the file."""
        return InputError(self.file, f"line {line}", problem, fix)

    def value(self, keyword: str, default: str | None = None) -> str:
        """The text of a keyword.

        Raises:
            InputError: it is missing and has no default.
        """
        if keyword in self.keywords:
            return self.keywords[keyword][0]
        if default is None:
            raise InputError(self.file, keyword, "the line is missing", f"write '{keyword} : …' before the sections")
        return default

    def whole(self, keyword: str, low: int, high: int = int(MAX_NUMBER)) -> int:
        """A keyword's whole number.

        Raises:
            InputError: missing, no whole number, or out of range.
        """
        text = self.value(keyword)
        line = self.keywords[keyword][1]
        number = _number(self.file, line, text)
        if number != int(number) or not low <= number <= high:
            raise self.error(line, f"{keyword} is {text[:40]!r}", f"give a whole number from {low} to {high}")
        return int(number)

    def table(self, section: str, size: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """A section of ``size`` lines ``id`` and ``width`` numbers, ids 1 … size in any order.

        Returns:
            float64 of shape ``(size, width)`` by id, and the int64 line of each.

        Raises:
            InputError: a wrong line, an id twice, or too few lines.
        """
        heading, rows = self.sections[section]
        values, lines = np.zeros((size, width)), np.zeros(size, dtype=np.int64)
        for number, words in rows:
            if len(words) != width + 1:
                raise self.error(
                    number,
                    f"it has {len(words)} fields where {width + 1} are expected",
                    f"write an id and {width} numbers",
                )
            if not words[0].isascii() or not words[0].isdigit() or not 1 <= int(words[0][:12]) <= size:
                raise self.error(number, f"the id is {words[0][:40]!r}", f"number the places from 1 to {size}")
            place = int(words[0]) - 1
            if lines[place]:
                raise self.error(
                    number, f"place {words[0]} was given before, in line {lines[place]}", "give each place once"
                )
            values[place] = [_number(self.file, number, word) for word in words[1:]]
            lines[place] = number
        if not lines.all():
            missing = int(np.argmin(lines)) + 1
            raise self.error(heading, f"place {missing} is missing in {section}", f"give all places 1 to {size}")
        return values, lines

    def numbers(self, section: str) -> np.ndarray:
        """All numbers of a section in order, float64."""
        return np.array([_number(self.file, k, word) for k, words in self.sections[section][1] for word in words])


def read_sectioned(source: SourceFile) -> RawRouting:
    """A TSPLIB or VRPLIB problem.

    Raises:
        InputError: names the line and the fix.
    """
    parts = Sectioned.of(source)
    kind = parts.value("TYPE").split()[0] if parts.value("TYPE") else ""
    size = parts.whole("DIMENSION", MIN_PLACES, MAX_PLACES)
    places, lines = None, np.zeros(size, dtype=np.int64)
    if "NODE_COORD_SECTION" in parts.sections:
        places, lines = parts.table("NODE_COORD_SECTION", size, 2)
    distance, scale = _distances(parts, size, places)
    if kind == "TSP" and not np.array_equal(distance, distance.T):
        i, j = np.argwhere(distance != distance.T)[0] + 1
        raise InputError(
            source.name,
            "EDGE_WEIGHT_SECTION",
            f"the weights from {i} to {j} and back differ in a symmetric problem",
            "correct them or write TYPE : ATSP",
        )
    if places is None and "DISPLAY_DATA_SECTION" in parts.sections:
        places, lines = parts.table("DISPLAY_DATA_SECTION", size, 2)
    raw = RawRouting(
        file=source.name,
        distance=distance,
        scale=scale,
        places=places,
        labels=tuple(str(k) for k in range(1, size + 1)),
        name=parts.value("NAME", ""),
        comment=parts.value("COMMENT", ""),
        lines=tuple(lines.tolist()),
    )
    return raw if kind in ("TSP", "ATSP") else _with_vehicles(parts, size, raw)


def _with_vehicles(parts: Sectioned, size: int, raw: RawRouting) -> RawRouting:
    """The vehicles' part of a VRPLIB file."""
    if "DEMAND_SECTION" not in parts.sections:
        raise InputError(parts.file, "DEMAND_SECTION", "the section is missing", "give the demand of every place")
    demands, lines = parts.table("DEMAND_SECTION", size, 1)
    depots = [words for _, words in parts.sections.get("DEPOT_SECTION", (0, []))[1]]
    flat = [word for words in depots for word in words]
    if flat not in (["1", "-1"], ["1"], []):
        raise parts.error(
            parts.sections["DEPOT_SECTION"][0],
            f"the depots are {' '.join(flat)[:40]!r}",
            "give one depot, place 1, ended by -1",
        )
    scale, windows = raw.scale, None
    service = np.zeros(size)
    if "TIME_WINDOW_SECTION" in parts.sections:
        windows = parts.table("TIME_WINDOW_SECTION", size, 2)[0]
    if "SERVICE_TIME_SECTION" in parts.sections:
        service = parts.table("SERVICE_TIME_SECTION", size, 1)[0][:, 0]
    elif "SERVICE_TIME" in parts.keywords:
        service[1:] = parts.whole("SERVICE_TIME", 0)
    return replace(
        raw,
        capacity=parts.whole("CAPACITY", 1),
        demands=_whole(parts.file, lines, demands[:, 0], "demand"),
        vehicles=parts.whole("VEHICLES", 1) if "VEHICLES" in parts.keywords else None,
        windows=None if windows is None else _scaled(parts.file, lines, windows, scale, "time"),
        service=_scaled(parts.file, lines, service, scale, "time"),
        lines=tuple(lines.tolist()),
    )


def read_solomon(source: SourceFile) -> RawRouting:
    """One of Solomon's tables; distances are cut off after one decimal, so that everything counts in tenths.

    Raises:
        InputError: names the line and the fix.
    """
    rows = [(k, text.split()) for k, text in enumerate(source.text.splitlines(), 1) if text.strip()]
    headings = {words[0]: k for k, (_, words) in reversed(list(enumerate(rows))) if words[0] in ("VEHICLE", "CUSTOMER")}
    if set(headings) != {"VEHICLE", "CUSTOMER"} or headings["VEHICLE"] > headings["CUSTOMER"]:
        raise InputError(source.name, "file", "it has no VEHICLE and CUSTOMER table", "give both tables, in this order")

    def cells(index: int, width: int, what: str) -> list[float]:
        if index >= len(rows):
            raise InputError(source.name, "file", f"it ends before {what}", "complete the table")
        line, words = rows[index]
        if len(words) != width:
            raise InputError(
                source.name,
                f"line {line}",
                f"it has {len(words)} fields where {width} are expected",
                f"write {what} there",
            )
        return [_number(source.name, line, word) for word in words]

    fleet = cells(headings["VEHICLE"] + 2, 2, "number and capacity of the vehicles")
    first = headings["CUSTOMER"] + 2
    what = "number, x, y, demand, ready time, due date and service time"
    table = np.array([cells(k, 7, what) for k in range(first, max(len(rows), first + 1))])
    lines = np.array([line for line, _ in rows[first:]])
    if not MIN_PLACES <= len(table) <= MAX_PLACES:
        raise InputError(
            source.name, "file", f"it has {len(table)} places", f"give {MIN_PLACES} to {MAX_PLACES} with the depot"
        )
    for k, number in enumerate(table[:, 0]):
        if number != k:
            raise InputError(
                source.name, f"line {lines[k]}", f"the place is numbered {number:g}", f"number it {k}, the depot is 0"
            )
    line = np.array([rows[headings["VEHICLE"] + 2][0]] * 2)
    vehicles, capacity = _whole(source.name, line, np.array(fleet), "number").tolist()
    if min(vehicles, capacity) < 1:
        raise InputError(
            source.name, f"line {line[0]}", "there is no vehicle or no capacity", "give at least one of each"
        )
    return RawRouting(
        file=source.name,
        distance=truncated_tenths(table[:, 1:3]),
        scale=10,
        places=table[:, 1:3],
        labels=tuple(str(k) for k in range(len(table))),
        name=" ".join(rows[0][1]),
        capacity=capacity,
        demands=_whole(source.name, lines, table[:, 3], "demand"),
        vehicles=vehicles,
        windows=_scaled(source.name, lines, table[:, 4:6], 10, "time"),
        service=_scaled(source.name, lines, table[:, 6], 10, "time"),
        lines=tuple(lines.tolist()),
    )


def _distances(parts: Sectioned, size: int, places: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Distances and their scale."""
    kind = parts.value("EDGE_WEIGHT_TYPE")
    line = parts.keywords["EDGE_WEIGHT_TYPE"][1]
    if kind in COORDINATE_TYPES:
        if places is None:
            raise parts.error(line, f"{kind} needs coordinates", "give a NODE_COORD_SECTION")
        return between(places, kind), 1
    if kind != "EXPLICIT":
        raise parts.error(
            line, f"EDGE_WEIGHT_TYPE is {kind[:40]!r}", f"use EXPLICIT or one of {', '.join(COORDINATE_TYPES)}"
        )
    form = parts.value("EDGE_WEIGHT_FORMAT")
    if form not in MATRIX_FORMATS:
        raise parts.error(
            parts.keywords["EDGE_WEIGHT_FORMAT"][1],
            f"EDGE_WEIGHT_FORMAT is {form[:40]!r}",
            f"use one of {', '.join(MATRIX_FORMATS)}",
        )
    if "EDGE_WEIGHT_SECTION" not in parts.sections:
        raise InputError(parts.file, "EDGE_WEIGHT_SECTION", "the section is missing", "give the weights")
    numbers, wanted = parts.numbers("EDGE_WEIGHT_SECTION"), weights_expected(size, form)
    heading = parts.sections["EDGE_WEIGHT_SECTION"][0]
    if len(numbers) != wanted:
        raise parts.error(
            heading,
            f"EDGE_WEIGHT_SECTION has {len(numbers)} numbers",
            f"{form} of {size} places has {wanted}: correct DIMENSION or the list",
        )
    if (numbers < 0).any():
        raise parts.error(heading, f"the weight {numbers.min():g} is negative", "weights are 0 or more")
    scale = next((s for s in (1, 10, 100, 1000) if np.array_equal(np.rint(numbers * s) / s, numbers)), None)
    if scale is None:
        raise parts.error(heading, "weights have more than three decimals", "round the weights")
    return matrix(np.rint(numbers * scale).astype(np.int64), size, form), scale


def _number(file: str, line: int, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise InputError(file, f"line {line}", f"{text[:40]!r} is not a number", "write plain numbers") from None
    if not abs(number) <= MAX_NUMBER:
        raise InputError(file, f"line {line}", f"{text[:40]!r} is out of range", f"stay within ±{MAX_NUMBER:g}")
    return number


def _whole(file: str, lines: Sequence[int] | np.ndarray, values: np.ndarray, what: str) -> np.ndarray:
    """Non-negative whole numbers as int64."""
    return _scaled(file, lines, values, 1, what)


def _scaled(file: str, lines: Sequence[int] | np.ndarray, values: np.ndarray, scale: int, what: str) -> np.ndarray:
    """Non-negative numbers as int64 in units of ``1 / scale``, by place along the first axis."""
    scaled = np.rint(values * scale)
    wrong = (values < 0) | (scaled / scale != values)
    if wrong.any():
        k = int(np.argwhere(wrong)[0][0])
        value = float(values[wrong][0])
        unit = "a whole number" if scale == 1 else f"a multiple of 1/{scale}"
        raise InputError(file, f"line {lines[k]}", f"the {what} is {value:g}", f"give {unit}, 0 or more")
    return scaled.astype(np.int64)
