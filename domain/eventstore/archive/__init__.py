"""What leaves the ledger once it stands in files, and what is known of it afterwards."""
