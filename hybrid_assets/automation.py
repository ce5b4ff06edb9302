"""Automation of stage 10: publish when a stage's answer changed, whole, once per burst.

Here: the conditions, and the sensor that evaluates them. Not here: stages 2 to 9, which only sensors and people ask
for (``quantum_jobs`` never has a condition). What exists before the sensor's first tick is never asked for: ``hybrid
run`` or ``hybrid publish`` does it. ``AutomationCondition.eager()`` would ask again on unchanged versions and wait for
ever while one instance is missing.
"""

from __future__ import annotations

import dagster as dg
from dagster import AutomationCondition as AC

_changed = AC.any_deps_match(AC.data_version_changed())
_idle = ~AC.asset_matches("published_warehouse", AC.in_progress())
_published = AC.asset_matches("published_warehouse", AC.newly_updated())
#: A publication has begun since the tick before: asked for here, or by somebody else, perhaps finished by now.
_begun = AC.newly_requested() | (~_idle).newly_true() | (_published & _idle & ~_idle.newly_true())
#: A publication answers the changes seen before it began. One of the same moment, or during it, is for the next one.
_unpublished = _changed.since((_begun & ~_changed) | AC.initial_evaluation())
_quiet = ~AC.any_deps_in_progress()
#: A burst is waited for, at most until this clock ticks after its first change.
_long_enough = AC.cron_tick_passed("*/10 * * * *").since(~_unpublished | _unpublished.newly_true())

on_change = (_unpublished & (_quiet | _long_enough) & _idle).with_label("an answer changed and nothing is in progress")

#: The rest of the publication goes with it, in the same run.
with_upstream = AC.any_deps_match(AC.will_be_requested()).with_label("its upstream is about to be published")

#: Runs with this tag go one at a time (``dagster.yaml``).
ONE_AT_A_TIME = {"hybrid/publication": "one"}


def build(run_by_default: bool) -> list[dg.SensorDefinition]:
    """The sensor that evaluates the conditions."""
    status = dg.DefaultSensorStatus.RUNNING if run_by_default else dg.DefaultSensorStatus.STOPPED
    return [
        dg.AutomationConditionSensorDefinition(
            "publish_on_change",
            target=dg.AssetSelection.groups("5_publication"),
            default_status=status,
            minimum_interval_seconds=30,
            run_tags=ONE_AT_A_TIME,
        )
    ]
