"""Encodings: program → QUBO/Ising and back, with an audit; one file each behind the seam in ``base``; found through
the entry points ``hybrid_assets.encodings``."""
