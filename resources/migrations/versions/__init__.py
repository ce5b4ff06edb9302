"""One file per revision of the ledger's schema, oldest first by number."""
