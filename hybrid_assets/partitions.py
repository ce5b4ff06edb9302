"""The one partitions definition: a dynamic key ``<family>.<slug>`` per instance."""

import dagster as dg

instances = dg.DynamicPartitionsDefinition(name="instances")
