"""Circuits: Ising form, parameter schedules, templates compiled once, and the QAOA loop over them.

Not here: any backend's life cycle or job documents (``resources.backends``), or what a payload means.
"""
