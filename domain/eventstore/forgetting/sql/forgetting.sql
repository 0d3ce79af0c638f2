-- Events that tell an address, or what a program calls itself; of a repair that kept some as they
-- were, these, too. By the owner, in one transaction that holds the append lock.
-- Locks: none but those of the rows that it writes.

-- name: told
-- Through a cursor of the server.
-- Returns: position, 0, topic and state of each.
-- Order: none.
-- Index: none; reads every event.
SELECT notification_id, 0::bigint, topic, state FROM ledger.events
WHERE position('"source"'::bytea IN state) > 0 OR position('"user_agent"'::bytea IN state) > 0;

-- name: kept
-- Through a cursor of the server.
-- Returns: position, repair, topic and state of each.
-- Order: none.
-- Index: none; reads every event that a repair has kept.
SELECT notification_id, repair_id, topic, state FROM ledger.repaired_events;

-- name: rewrite
-- Beside the repair of ledger time the only statement that changes an event.
-- Parameters: position, repair, topic and state, a column each.
-- Returns: the stream of each.
-- Order: none.
-- Index: events_notification_id.
UPDATE ledger.events e SET topic = r.topic, state = r.state
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bytea[]) AS r (id, repair, topic, state)
WHERE e.notification_id = r.id RETURNING e.originator_id;

-- name: rewrite_kept
-- Parameters: position, repair, topic and state, a column each.
-- Returns: nothing.
-- Order: none.
-- Index: repaired_events_pkey.
UPDATE ledger.repaired_events e SET topic = r.topic, state = r.state
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bytea[]) AS r (id, repair, topic, state)
WHERE e.notification_id = r.id AND e.repair_id = r.repair;
