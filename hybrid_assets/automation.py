"""Automation of stage 10: publish when decisions changed, once per burst.

Here: the condition, and the sensor that evaluates it. Not here: stages 2 to 9, which only sensors and people ask for
(``quantum_jobs`` never has a condition).
"""

from __future__ import annotations

import dagster as dg

_changed = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
_quiet = ~dg.AutomationCondition.any_deps_in_progress()
#: A burst is waited for, but never longer than to the second tick of this clock.
_long_enough = dg.AutomationCondition.cron_tick_passed("*/10 * * * *").since_last_handled()

#: On a change of any upstream data version since the last publish, when nothing upstream is in progress; ``eager()``
#: would ask again on unchanged versions and wait for ever while one instance is missing.
on_change = (
    _changed.since_last_handled() & (_quiet | _long_enough) & ~dg.AutomationCondition.in_progress()
).with_label("a decision changed and nothing is in progress")

#: The publication follows as one: each asset right after the one before it, in the same run.
with_upstream = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested())
    & ~dg.AutomationCondition.in_progress()
).with_label("its upstream is about to be published")


def build(run_by_default: bool) -> list[dg.SensorDefinition]:
    """The sensor that evaluates the conditions."""
    status = dg.DefaultSensorStatus.RUNNING if run_by_default else dg.DefaultSensorStatus.STOPPED
    return [
        dg.AutomationConditionSensorDefinition(
            "publish_on_change", target=dg.AssetSelection.groups("5_publication"), default_status=status,
            minimum_interval_seconds=30,
        )
    ]
