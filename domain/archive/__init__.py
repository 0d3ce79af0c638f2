"""What of the ledger stands in files alone."""
