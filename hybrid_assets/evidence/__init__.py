"""Evidence: what a result is worth. Confidence, gaps, the comparison at an equal budget and the decision, as pure
functions of plain rows; definitions in ``docs/evidence.md``. No Dagster, no storage, no solving."""
