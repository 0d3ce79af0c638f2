"""The archive, as the domain has it."""
