"""Packing: knapsacks, bins and market splits."""
