"""Quantum proposals: from an instance to jobs, and from samples to scored candidates."""
