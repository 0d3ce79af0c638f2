"""The archive: what leaves the ledger, and what stays as it was."""
