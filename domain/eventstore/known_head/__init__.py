"""What a host knows of the ledger's head, outside of the database."""
