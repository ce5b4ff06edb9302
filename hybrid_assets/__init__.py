"""Hybrid Assets."""
