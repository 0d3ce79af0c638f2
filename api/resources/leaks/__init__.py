"""Leaked secrets, as those who find them report them."""
