"""Routing: one tour, and fleets with capacities and time windows."""
