"""Addresses, and what programs call themselves, are taken out of events that stay."""
