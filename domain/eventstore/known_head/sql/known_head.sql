-- The newest event that a host has known, compared with the ledger.
-- Order: none, unless a statement says so.
-- Locks: none.
-- Index: events_notification_id, one entry; where that is not the event, events_pkey for the
--   streams of declared losses and of the archive, and for the gap of the event's own.

-- name: require
-- Compares: position, stream, version, command.
-- Returns: nothing of use; raises SQLSTATE SL003 where the ledger has no such event and its loss
--   was not declared (0017).
SELECT ledger.require_known(%s::bigint, %s::uuid, %s::bigint, %s::uuid);

-- name: newest
-- The same comparison, and the newest event in the same snapshot.
-- Returns: position, stream, version and command of it; no row where the ledger is empty, and then
--   nothing is compared.
-- Order: backwards, one entry.
SELECT notification_id, originator_id, originator_version, command_id,
    ledger.require_known(%s::bigint, %s::uuid, %s::bigint, %s::uuid)
FROM ledger.events ORDER BY notification_id DESC LIMIT 1;

-- name: newest_position
-- Returns: one number, 0 where the ledger is empty.
-- Order: backwards, one entry.
SELECT coalesce(max(notification_id), 0) FROM ledger.events;

-- name: skip_positions
-- No event gets a position up to this one any more.
-- Returns: nothing of use.
-- Locks: the append lock, to the end of the transaction.
-- Index: none.
SELECT ledger.skip_positions(%s);

-- name: is_late
-- Whether the first event after a position is older than an interval.
-- Returns: one boolean; no row where there is no such event.
-- Order: forwards, one entry.
SELECT at < clock_timestamp() - %s::interval FROM ledger.events
WHERE notification_id > %s ORDER BY notification_id LIMIT 1;

-- name: last_declared
-- When a loss was declared last.
-- Returns: an instant; no row where none was.
-- Order: backwards, one entry.
-- Index: events_pkey.
SELECT at FROM ledger.events WHERE originator_id = %s ORDER BY originator_version DESC LIMIT 1;

-- name: may_look_ahead
-- Returns: whether this role may look at the sequence of positions.
-- Order: one row.
-- Index: none.
SELECT has_sequence_privilege('ledger.events_notification_id_seq', 'SELECT');

-- name: behind
-- Whether the next event would get a position that is taken or passed: rows were copied, and the
-- sequence was not (`sequence_follows`, migrate.sql).
-- Returns: the next position and the last that is taken; no row where that one comes before.
-- Order: backwards, one entry.
SELECT last_value + is_called::int, newest
FROM ledger.events_notification_id_seq,
    (SELECT max(notification_id) AS newest FROM ledger.events) AS there
WHERE newest >= last_value + is_called::int;
