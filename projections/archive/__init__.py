"""The archive: the oldest stretch of the ledger in files, and what the views make of it."""
