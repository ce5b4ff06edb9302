"""What may be asked of a portfolio, and what is refused of it.

Here: ``PortfolioOptions``, the settings and arrays that they become, contradictions. Not here: the family
(``portfolio``), the rules at work (``portfolio_rules``, ``portfolio_ruled``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from hybrid_assets.problems.base import FamilyOptions, Instance
from hybrid_assets.problems.portfolio_ruled import infeasible, least_turnover
from hybrid_assets.problems.portfolio_rules import TOLERANCE, Rules
from resources.failures import InfeasibleError, InputError

Share = Annotated[float, Field(ge=0, le=1)]


class PortfolioOptions(FamilyOptions):
    """What may be asked of a portfolio.

    Attributes:
        cardinality: K, exactly as many assets are held (default: 10, or all of fewer).
        risk_aversion: λ from 0 (return alone) to 1 (risk alone).
        min_weight, max_weight: bounds of the weight of every asset held.
        sectors: asset → sector; assets that are left out belong to none.
        sector_limits: sector → largest sum of weights; sectors that are left out have no limit.
        previous: asset → weight held before; assets that are left out were not held.
        turnover: the most that Σ|w − previous| may be, from 0 to 2.
        lots: every weight is a multiple of this share.
        start, end: first and last date of a history that are used.
    """

    cardinality: int | None = Field(default=None, ge=1)
    risk_aversion: float = Field(default=0.5, ge=0, le=1)
    min_weight: float = Field(default=0.01, ge=0, le=1)
    max_weight: float = Field(default=1.0, gt=0, le=1)
    sectors: dict[str, str] | None = None
    sector_limits: dict[str, Share] | None = None
    previous: dict[str, Share] | None = None
    turnover: float | None = Field(default=None, ge=0, le=2)
    lots: float | None = Field(default=None, gt=0, le=1)
    start: date | None = None
    end: date | None = None

    @field_validator("sectors", "sector_limits", "previous", mode="before")
    @classmethod
    def _names_as_text(cls, value: Any) -> Any:
        # an asset called 1 comes as a number from YAML
        return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value


def settings_of(file: str, options: PortfolioOptions, size: int) -> dict[str, Any]:
    """All options in force, JSON-able; contradictions are refused."""
    count, low, high = options.cardinality, options.min_weight, options.max_weight
    if count is None:
        count = min(10, size)
    if count > size:
        raise InputError(file, "cardinality", f"{count} assets are to be held, there are {size}", f"use at most {size}")
    if low > high:
        raise InputError(file, "min_weight", f"{low:g} is larger than max_weight {high:g}", "exchange them")
    if count * low > 1 + 1e-12:
        raise InputError(
            file,
            "min_weight",
            f"{count} assets of at least {low:g} make more than 1",
            f"use at most {1 / count:.6g}, or fewer assets",
        )
    if count * high < 1 - 1e-12:
        raise InputError(
            file,
            "max_weight",
            f"{count} assets of at most {high:g} make less than 1",
            f"use at least {1 / count:.6g}, or more assets",
        )
    settings = {"cardinality": count, "risk_aversion": options.risk_aversion, "min_weight": low, "max_weight": high}
    for key in ("sectors", "sector_limits", "previous", "turnover", "lots"):
        if (value := getattr(options, key)) is not None:
            settings[key] = value
    if (options.turnover is None) != (options.previous is None):
        known, missing = ("turnover", "previous") if options.previous is None else ("previous", "turnover")
        raise InputError(file, known, f"it means nothing without {missing}", f"give {missing} too, or neither")
    if options.sector_limits is not None and (
        odd := set(options.sector_limits) - set((options.sectors or {}).values())
    ):
        raise InputError(
            file,
            "sector_limits",
            f"no asset is in sector {sorted(odd)[0]!r}",
            "correct its name, or name it in sectors",
        )
    if options.lots is not None and abs(1.0 / options.lots - round(1.0 / options.lots)) > TOLERANCE:
        raise InfeasibleError(
            file, "lots", f"no multiples of {options.lots:g} make exactly 1", "use 1 over a whole number"
        )
    dates = {"start": options.start, "end": options.end}
    return settings | {k: v.isoformat() for k, v in dates.items() if v is not None}


def ruled_arrays(file: str, settings: Mapping[str, Any], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """``sector`` and ``previous`` of every asset, where a rule needs them; other names are refused."""
    place = {label: k for k, label in enumerate(labels)}
    for key in ("sectors", "previous"):
        if odd := [name for name in settings.get(key, {}) if name not in place]:
            raise InputError(
                file, key, f"there is no asset {odd[0]!r} among those in use", "correct or leave out its name"
            )
    arrays = {}
    if "sector_limits" in settings:
        limited = {name: k for k, name in enumerate(sorted(settings["sector_limits"]))}
        sectors = settings["sectors"]
        arrays["sector"] = np.array([limited.get(sectors.get(label), -1) for label in labels], dtype=np.int64)
    if "previous" in settings:
        arrays["previous"] = np.array([settings["previous"].get(label, 0.0) for label in labels], dtype=np.float64)
    return arrays


def refuse_infeasible(file: str, instance: Instance) -> None:
    """Raise ``InfeasibleError`` where it is proven that no portfolio satisfies all rules."""
    rules = Rules.of(instance)
    if rules.plain:
        return
    if infeasible(replace(rules, turnover=np.inf)):
        keys = [key for key in ("sector_limits", "lots") if key in instance.settings]
        count = rules.cardinality
        raise InfeasibleError(
            file,
            ", ".join(keys),
            f"no {count} assets with weights from {rules.low:g} to {rules.high:g} make 1 within the limits",
            "raise limits or change the number of assets",
        )
    if rules.turnover < np.inf and (least := least_turnover(rules)) > rules.turnover + TOLERANCE:
        raise InfeasibleError(
            file, "turnover", f"{rules.turnover:g} is less than any portfolio needs", f"allow at least {least:.6g}"
        )
