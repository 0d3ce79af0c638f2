-- Who holds a secret, SCIM and API tokens alike; reads, outside of any append.

-- name: holders
-- The tokens that have, or had, the secrets of some digests.
-- Returns: digest, token; one row for each digest that is stored.
-- Order: none.
-- Locks: none.
-- Index: secrets_pkey.
SELECT digest, originator_id FROM ledger.secrets WHERE digest = ANY(%s);
