"""Networks and addresses, whoever stands in them."""
