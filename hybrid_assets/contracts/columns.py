"""The five kinds of column a table may have, each with exactly one pandas dtype, and the rules cells obey.

Here: column constructors and cell rules. Not here: any table. The dtypes are the ones that a Delta table gives back
unchanged: ``object`` holding ``str``, ``int64``, ``float64``, ``bool`` and ``datetime64[us, UTC]``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandera.pandas import Check, Column


def text(description: str, *, nullable: bool = False, one_of: Sequence[str] = ()) -> Column:
    """Strings; ``one_of`` lists the only values allowed."""
    check = Check.isin(list(one_of), error=f"must be one of {', '.join(one_of)}") if one_of else None
    return Column(str, check, nullable=nullable, description=description)


def json_text(description: str, *, nullable: bool = False) -> Column:
    """Strings that hold one JSON document."""
    return Column(str, _JSON, nullable=nullable, description=description)


def integer(description: str, *, at_least: int | None = 0, added: bool = False) -> Column:
    """64-bit integers, never null; ``added``: rows stored before the column was added to its table have none."""
    check = None if at_least is None else Check.ge(at_least, error=f"must be an integer of at least {at_least}")
    return Column("int64", check, nullable=added, description=description)


def real(
    description: str, *, nullable: bool = False, at_least: float | None = None, at_most: float | None = None
) -> Column:
    """Finite 64-bit floats within bounds; NaN means null."""
    low, high = -np.inf if at_least is None else at_least, np.inf if at_most is None else at_most
    bounds = "".join(
        f" {words} {limit:g}"
        for words, limit in (("of at least", at_least), ("of at most", at_most))
        if limit is not None
    )
    rule = Check(
        lambda cells: np.isfinite(cells) & (cells >= low) & (cells <= high), error=f"must be a finite number{bounds}"
    )
    return Column("float64", rule, nullable=nullable, description=description)


def share(description: str, *, nullable: bool = False) -> Column:
    """Probabilities and shares: floats in [0, 1]."""
    return real(description, nullable=nullable, at_least=0.0, at_most=1.0)


def flag(description: str, *, added: bool = False) -> Column:
    """True or false, never null; ``added``: rows stored before the column was added to its table have none."""
    return Column("bool", nullable=added, description=description)


def moment(description: str, *, nullable: bool = False) -> Column:
    """Points in time, UTC, in microseconds."""
    return Column(pd.DatetimeTZDtype("us", "UTC"), nullable=nullable, description=description)


def _parses(cell: str) -> bool:
    try:
        json.loads(cell, parse_constant=_refuse)
    except (TypeError, ValueError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_JSON = Check(_parses, element_wise=True, error="must be a JSON document")


def identity() -> dict[str, Column]:
    """The columns every table of instances starts with."""
    key = Check.str_matches(r"^[a-z0-9_-]+\.\S+$", error="must be a slug <family>.<name>")
    return {
        "instance": Column(str, key, description="Key of the instance, family.name; the partition key."),
        "family": text("Problem family."),
    }


def version() -> dict[str, Column]:
    """The column every table of instances ends with."""
    return {"data_version": text("Digest of what the instance's rows mean; equal content has an equal version.")}
