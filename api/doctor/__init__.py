"""`scim-ledger doctor`: find faults of the installation and say how to fix each."""
