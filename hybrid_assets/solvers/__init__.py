"""Classical baselines: one file per solver behind the seam in ``base``; found through the entry points
``hybrid_assets.solvers``. Solver packages are imported inside the functions that need them."""
