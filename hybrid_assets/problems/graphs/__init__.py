"""Graphs: maximum cut and independent sets."""
