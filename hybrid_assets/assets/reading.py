"""What several stages read back: the instance, the request and the prepared program behind a partition."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from hybrid_assets import registry
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.proposals.prepared import Prepared, again
from hybrid_assets.proposals.trips import Plan, Walking
from hybrid_assets.request import Resolved
from resources.artifacts import ArtifactStore
from resources.failures import InvariantError


def instance_in(inputs: pd.DataFrame, artifacts: ArtifactStore) -> tuple[ProblemFamily, Instance, Resolved]:
    """Family, instance and request behind a row of ``normalized_inputs``."""
    row = inputs.iloc[0]
    instance = Instance.from_bytes(artifacts.get(row["payload_ref"]))
    return registry.family(row["family"]), instance, Resolved.model_validate_json(row["options"])


def prepared_in(
    encoded: pd.DataFrame, family: ProblemFamily, instance: Instance, artifacts: ArtifactStore
) -> tuple[Prepared, Walking | None]:
    """The prepared program behind a row of ``encoded_problems``: modelled again, narrowed as recorded.

    Returns:
        the program, or the first trip of a walk, and the walk standing there.

    Raises:
        InvariantError: the encoding made now is not the one that was stored.
    """
    row = encoded.iloc[0]
    record = json.loads(row["narrowing"])
    if "walk" in record:
        walking = Walking(family, instance, Plan(**record["walk"]))
        if walking.prepared is not None:
            return _as_stored(walking.prepared, row), walking
        raise InvariantError(f"{row['instance']}: its walk has no first trip; materialize encoded_problems again")
    if record:
        kept, fixed = (np.array(json.loads(artifacts.get(record["assignment_ref"]))[k]) for k in ("kept", "fixed"))
    else:
        kept, fixed = np.arange(row["program_variables"]), np.zeros(row["program_variables"])
    prepared = again(family.model(instance), kept.astype(np.int64), fixed.astype(np.int8), str(row["encoding"]))
    return _as_stored(prepared, row), None


def _as_stored(prepared: Prepared, row: pd.Series) -> Prepared:
    if prepared.encoded.digest != row["encoding_digest"]:
        raise InvariantError(
            f"{row['instance']}: the program encodes to {prepared.encoded.digest} now, stored is "
            f"{row['encoding_digest']}; materialize encoded_problems again"
        )
    return prepared


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The frame's rows as plain mappings."""
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def known(cell: float | None) -> float | None:
    """A nullable number of a frame: ``None`` for NaN."""
    return None if cell is None or np.isnan(cell) else float(cell)
