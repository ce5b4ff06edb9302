"""Execution plane and storage."""
