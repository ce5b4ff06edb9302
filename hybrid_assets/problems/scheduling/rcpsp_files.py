"""Project files: PSPLIB's single-mode ``.sm`` and Patterson's ``.rcp``.

Here: parsing, with line numbers. Not here: what a project with limited resources is (``rcpsp``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

#: Largest number of activities.
MAX_ACTIVITIES = 5_000

_WHOLE = re.compile(r"\d{1,9}")


@dataclass(frozen=True)
class RawProject:
    """A project as its file gives it; activities are numbered from 1 in the file, from 0 here.

    Attributes:
        file: name of the file.
        durations: one per activity, the first and last (dummies) included.
        demands: per activity, one per resource.
        successors: per activity, numbers from 0.
        capacities: one per resource.
        places: where each activity's successors stand, for messages.
        demand_places: where each activity's demands stand.
        resources: names of the resources.
    """

    file: str
    durations: Sequence[int]
    demands: Sequence[Sequence[int]]
    successors: Sequence[Sequence[int]]
    capacities: Sequence[int]
    places: Sequence[str]
    demand_places: Sequence[str]
    resources: Sequence[str]


@dataclass(frozen=True)
class _Lines:
    """Stripped lines of a file; line k has number k + 1."""

    file: str
    lines: Sequence[str]

    def error(self, at: int, problem: str, fix: str) -> InputError:
        return InputError(self.file, f"line {at + 1}", problem, fix)

    def find(self, title: str, start: int = 0) -> int:
        """The line that begins with ``title``."""
        for k in range(start, len(self.lines)):
            if self.lines[k].upper().startswith(title):
                return k
        raise InputError(
            self.file, "file", f"the section {title!r} is missing", "give a complete PSPLIB single-mode file"
        )

    def numbers(self, at: int, what: str) -> list[int]:
        """Whole numbers of a line."""
        if at >= len(self.lines):
            raise InputError(self.file, "file", f"it ends where {what} are expected", "complete it")
        words = self.lines[at].split()
        for word in words:
            if not _WHOLE.fullmatch(word):
                raise self.error(at, f"{word[:40]!r} is not a whole number from 0 up", f"give {what}")
        return [int(word) for word in words]

    def after_colon(self, title: str) -> tuple[int, int]:
        """The line that begins with ``title``, and the first number after its colon."""
        at = self.find(title)
        words = self.lines[at].partition(":")[2].split()
        if not words or not _WHOLE.fullmatch(words[0]):
            raise self.error(at, "there is no whole number after the colon", f"write '{title.lower()} : number'")
        return at, int(words[0])

    def successors(self, at: int, numbers: Sequence[int], announced: int, count: int) -> list[int]:
        """Successor numbers from 0, checked."""
        if len(numbers) != announced:
            raise self.error(
                at, f"it announces {announced} successors and lists {len(numbers)}", "list as many as announced"
            )
        for number in numbers:
            if not 1 <= number <= count:
                raise self.error(at, f"successor {number} is no activity", f"use numbers from 1 to {count}")
        if len(set(numbers)) < len(numbers):
            raise self.error(at, "it lists a successor twice", "list each one once")
        return [number - 1 for number in numbers]


def is_project(source: SourceFile) -> bool:
    """Whether the content is PSPLIB's by its section titles, or Patterson's by its header and first activity."""
    if source.is_binary:
        return False
    head = source.head
    if "RESOURCES" in head and "PRECEDENCE RELATIONS" in head:
        return True
    rows = [line.split() for line in head.splitlines() if line.strip()][:3]
    if len(rows) < 3 or not all(_WHOLE.fullmatch(word) for row in rows for word in row):
        return False
    header, capacities, first = ([int(word) for word in row] for row in rows)
    if len(header) != 2 or len(capacities) != header[1]:
        return False
    # the first activity is a dummy: no time, no demand
    return (
        len(first) > header[1] + 2
        and not any(first[: header[1] + 1])
        and first[header[1] + 1] == len(first) - header[1] - 2
    )


def read_project(source: SourceFile) -> RawProject:
    """Parse one project.

    Raises:
        InputError: the first thing that is wrong, several modes, or resources that are not renewable.
    """
    text = source.text
    lines = _Lines(source.name, [line.strip() for line in text.splitlines()])
    return _psplib(lines) if "PRECEDENCE RELATIONS" in text.upper() else _patterson(lines)


def _sized(lines: _Lines, at: int, count: int) -> int:
    if not 3 <= count <= MAX_ACTIVITIES:
        raise lines.error(
            at,
            f"it announces {count} activities",
            f"there must be 3 to {MAX_ACTIVITIES}, the dummies at both ends included",
        )
    return count


def _psplib(lines: _Lines) -> RawProject:
    count = _sized(lines, *lines.after_colon("JOBS"))
    kinds = lines.after_colon("- RENEWABLE")[1]
    for kind in ("- NONRENEWABLE", "- DOUBLY CONSTRAINED"):
        at, number = lines.after_colon(kind)
        if number:
            raise lines.error(
                at,
                f"it has {number} resources that are {kind[2:].lower()}",
                "give a single-mode project (.sm), whose resources are all renewable",
            )
    top = lines.find("PRECEDENCE RELATIONS") + 2
    successors, places = [], []
    for activity in range(count):
        row = lines.numbers(top + activity, "'activity modes successors …'")
        _numbered(lines, top + activity, row, activity, 3)
        if row[1] != 1:
            raise lines.error(
                top + activity,
                f"activity {activity + 1} has {row[1]} modes",
                "give a single-mode project (.sm); several modes are not supported",
            )
        successors.append(lines.successors(top + activity, row[3:], row[2], count))
        places.append(f"line {top + activity + 1}")
    top = lines.find("REQUESTS/DURATIONS", top + count) + 3
    durations, demands, demand_places = [], [], []
    for activity in range(count):
        row = lines.numbers(top + activity, "'activity mode duration demands …'")
        _numbered(lines, top + activity, row, activity, 3 + kinds, 3 + kinds)
        durations.append(row[2])
        demands.append(row[3:])
        demand_places.append(f"line {top + activity + 1}")
    at = lines.find("RESOURCEAVAILABILITIES", top + count) + 2
    capacities = lines.numbers(at, "capacities")
    if len(capacities) != kinds:
        raise lines.error(at, f"it has {len(capacities)} capacities for {kinds} resources", "give one per resource")
    names = [f"R {k + 1}" for k in range(kinds)]
    return RawProject(lines.file, durations, demands, successors, capacities, places, demand_places, names)


def _numbered(lines: _Lines, at: int, row: Sequence[int], activity: int, least: int, most: int | None = None) -> None:
    if len(row) < least or (most is not None and len(row) > most):
        raise lines.error(
            at, f"it has {len(row)} numbers where {least}{'' if most else ' or more'} are expected", "complete the line"
        )
    if row[0] != activity + 1:
        raise lines.error(at, f"activity {row[0]} stands where {activity + 1} is expected", "list them in order")


def _patterson(lines: _Lines) -> RawProject:
    filled = [k for k, line in enumerate(lines.lines) if line]
    if len(filled) < 2:
        raise InputError(
            lines.file, "file", "it is no project", "give a PSPLIB single-mode file (.sm) or Patterson's (.rcp)"
        )
    header = lines.numbers(filled[0], "'activities resources'")
    if len(header) != 2:
        raise lines.error(filled[0], f"the header has {len(header)} numbers", "write 'activities resources' there")
    count, kinds = _sized(lines, filled[0], header[0]), header[1]
    # the rest is one stream of numbers: long lines may be broken anywhere
    stream = [(k, number) for k in filled[1:] for number in lines.numbers(k, "whole numbers")]
    at = 0

    def take(many: int, what: str) -> list[int]:
        nonlocal at
        if at + many > len(stream):
            raise InputError(lines.file, "file", f"it ends where {what} are expected", "complete it")
        at += many
        return [number for _, number in stream[at - many : at]]

    capacities = take(kinds, "capacities")
    durations, demands, successors, places = [], [], [], []
    for _ in range(count):
        row = take(kinds + 2, "duration, demands and number of successors")
        where = stream[at - 1][0]
        durations.append(row[0])
        demands.append(row[1:-1])
        successors.append(lines.successors(where, take(row[-1], "successors"), row[-1], count))
        places.append(f"line {where + 1}")
    if at < len(stream):
        raise lines.error(stream[at][0], "it goes on after the last activity", "correct the number of activities")
    names = [f"R {k + 1}" for k in range(kinds)]
    return RawProject(lines.file, durations, demands, successors, capacities, places, places, names)
