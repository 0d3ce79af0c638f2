"""API tokens at the command line: the verbs, and the first token of a new ledger."""
