"""The keys of the pepper, as far as the ledger records what became of them."""
