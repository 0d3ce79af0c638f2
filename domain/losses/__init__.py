"""What the ledger knows it has lost."""
