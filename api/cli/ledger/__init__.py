"""The ledger as a whole: whether it is what it was."""
