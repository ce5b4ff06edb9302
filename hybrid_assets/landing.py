"""Landing: a file becomes one or more instances with stable keys, its bytes kept content-addressed.

Here: recognising a file's family, slugs, validation before anything is stored, the scan of the inbox. Not here:
Dagster (``sensors`` and ``cli`` call this) or formats (the families).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hybrid_assets import registry
from hybrid_assets.problems.base import FamilyOptions, Instance, ProblemFamily
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.request import Request, parse, read_sidecar, sidecar_of
from resources.artifacts import ArtifactStore
from resources.documents import input_error
from resources.failures import InputError
from resources.ledger import Conflict, Landing, Ledger

#: Names that are never data: YAML beside data, hidden files, half-copied files of common tools.
IGNORED = re.compile(
    r"(^\.)|(^#.*#$)|(\.(ya?ml|md|tmp|temp|(file)?part|partial|(cr)?download|swp)$)|(~$)", re.IGNORECASE
)


def slug(name: str) -> str:
    """A file name as part of a key: lower case, without suffixes, dashes for everything unusual."""
    # only suffixes of letters: "pm1s_80.1" and "pm1s_80.2" are two instances
    stem = re.sub(r"(\.[a-z][a-z0-9]{0,8}){1,2}$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:60].strip("-") or "instance"


def recognise(source: SourceFile) -> str:
    """The one family whose format this content is.

    Raises:
        InputError: none or several; the candidates are named.
    """
    candidates = [name for name in registry.names("families") if registry.family(name).recognises(source)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise InputError(
            source.name,
            "format",
            f"it can be read as {' or as '.join(candidates)}",
            f"say which with --family {' or --family '.join(candidates)}",
        )
    known = ", ".join(registry.names("families"))
    raise InputError(
        source.name,
        "format",
        "its content is no format that any family reads",
        f"give a file of one of: {known}; with --family its reader says what is wrong",
    )


def options_of(family: ProblemFamily, constraints: Mapping[str, Any], file: str) -> FamilyOptions:
    """The family's validated options.

    Raises:
        InputError: unknown or wrong keys.
    """
    try:
        return family.options.model_validate(dict(constraints))
    except ValidationError as error:
        raise input_error(file, error, family.options) from None


def normalized(family: ProblemFamily, source: SourceFile, member: int, request: Request, name: str) -> Instance:
    """Read and normalize one instance of a file.

    Args:
        member: 0 for the only instance of a file, else 1-based.

    Raises:
        InputError: anything wrong with file, member or options.
    """
    raws = _read(family, source)
    if member == 0 and len(raws) > 1:
        raise InputError(
            source.name,
            "file",
            f"it holds {len(raws)} instances",
            f"name one, e.g. {source.name}#1 … {source.name}#{len(raws)}",
        )
    if member > len(raws):
        raise InputError(
            source.name, f"#{member}", f"it holds {len(raws)} instance(s)", f"use a number from 1 to {len(raws)}"
        )
    options = options_of(family, request.constraints, f"options of {source.name}")
    return family.normalize(raws[max(member, 1) - 1], options, name)


def _read(family: ProblemFamily, source: SourceFile) -> Sequence[Any]:
    raws = family.read(source)
    if not raws:
        raise InputError(source.name, "content", "it holds no instance", f"give a {family.name} file with data in it")
    return raws


@dataclass(frozen=True)
class Address:
    """``FILE`` or ``FILE#3``."""

    path: Path
    member: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Split an address; a real file whose name holds ``#`` wins.

        Raises:
            InputError: the part after ``#`` is no positive number.
        """
        base, mark, member = text.rpartition("#")
        if not mark or os.path.exists(text):
            return cls(Path(text), 0)
        if not re.fullmatch(r"0*[1-9][0-9]{0,8}", member):
            raise InputError(
                Path(base).name,
                f"#{member}",
                "the instance number is not a positive integer",
                "write FILE#1 for the first instance",
            )
        return cls(Path(base), int(member))


def check_file(address: Address, family_name: str | None, request: Request) -> tuple[str, SourceFile, Instance]:
    """Validate a file completely without storing anything.

    Raises:
        InputError: one clear sentence about what is wrong.
    """
    source = SourceFile.open(address.path)
    family = registry.family(family_name or recognise(source))
    return family.name, source, normalized(family, source, address.member, request, slug(source.name))


def key_of(family: str, source: SourceFile, member: int) -> str:
    """The key that an instance gets: ``<family>.<slug>``, with its number where the file holds several."""
    return f"{family}.{slug(source.name)}" + (f"-{member}" if member else "")


def land(
    ledger: Ledger, artifacts: ArtifactStore, path: Path, family: str, source: SourceFile, member: int, request: Request
) -> Landing:
    """Keep the file's bytes and record the instance under a stable key.

    Two different files with the same name get different keys: the second one's ends in its path's digest.
    """
    landing = Landing(
        instance=key_of(family, source, member),
        family=family,
        name=source.name,
        path=str(path.resolve()),
        member=member,
        source_digest=source.digest,
        content_ref=artifacts.put(source.content),
        options=request.stored(),
    )
    if ledger.landing(landing.instance) == landing:
        return landing
    try:
        ledger.land(landing)
    except Conflict:
        place = hashlib.sha256(landing.path.encode()).hexdigest()
        landing = replace(landing, instance=f"{landing.instance}-{place[:6]}")
        if ledger.landing(landing.instance) != landing:
            ledger.land(landing)
    return landing


def instance_of(landing: Landing, artifacts: ArtifactStore) -> Instance:
    """The normalized instance behind a landing, from the bytes that were kept.

    Raises:
        InputError: the file or its options are wrong.
    """
    source = SourceFile(landing.name, artifacts.get(landing.content_ref), landing.source_digest)
    family = registry.family(landing.family)
    return normalized(family, source, landing.member, parse(landing.options, landing.name), slug(landing.name))


# --- the inbox ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A data file in the inbox with its size and time, and those of the YAML beside it."""

    path: Path
    family: str
    stamp: str


def scan(inbox: Path) -> list[Found]:
    """The data files under ``inbox/<family>/``, by path."""
    found = []
    for family in registry.names("families"):
        folder = inbox / family
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if IGNORED.search(path.name) or not path.is_file():
                continue
            try:
                stamps = [_stamp(p) for p in (path, sidecar_of(path)) if p is not None]
            except FileNotFoundError:
                # it went away between two looks
                continue
            found.append(Found(path, family, "|".join(stamps)))
    return found


def _stamp(path: Path) -> str:
    state = path.stat()
    return f"{path.name}:{state.st_size}:{state.st_mtime_ns}"


def land_found(ledger: Ledger, artifacts: ArtifactStore, found: Found) -> list[Landing]:
    """Land every instance of an inbox file.

    An instance that was retired comes back only with another content or request; one that the file no longer holds is
    marked as deleted.

    Raises:
        InputError: the file cannot be opened or parsed; its later failures are those of normalization.
    """
    source = SourceFile.open(found.path)
    request = read_sidecar(found.path)
    count = len(_read(registry.family(found.family), source))
    members = [0] if count == 1 else list(range(1, count + 1))
    asked = (source.digest, request.stored())
    retired = set()
    for known in ledger.landings(path=str(found.path.resolve())):
        if known.family != found.family:
            continue
        if known.state == "retired" and (known.source_digest, known.options) == asked:
            retired.add(known.member)
        elif known.state == "present" and known.member not in members:
            ledger.mark_landing(known.instance, "deleted")
    return [
        land(ledger, artifacts, found.path, found.family, source, member, request)
        for member in members
        if member not in retired
    ]
