"""Assignment: facilities to locations."""
