"""Problem families: one file each behind the seam in ``base``; found through the entry points
``hybrid_assets.families``. No Dagster, no SDKs, no solvers at module level."""
