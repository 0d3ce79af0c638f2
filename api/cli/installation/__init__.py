"""Commands about an installation: they need no ledger."""
