"""Anything that is written as a mathematical program."""
