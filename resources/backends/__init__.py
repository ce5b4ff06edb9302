"""Backends: one file per vendor or SDK behind the seam in ``base``; found through the entry points
``hybrid_assets.backends``. The suite that each must pass is ``conformance``."""
