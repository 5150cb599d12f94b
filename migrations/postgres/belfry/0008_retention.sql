-- Retention keeps what a known sink has not read, whichever replica retires and whatever sinks that replica has. A replica
-- of an earlier version passes the position of its own sinks only; the least of all positions counts.
--
-- Checkpoints are deleted by a statement of their own now, for there are many: here the lock on the log is held, and no one can write.
CREATE OR REPLACE FUNCTION belfry.retire_log(up_to bigint, before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
  oldest record;
  young bigint;
  -- Sources hold leases in the same table; their names have a colon.
  read_by_all bigint := (SELECT min(r.position) FROM belfry.relay r WHERE strpos(r.sink, ':') = 0);
BEGIN
  up_to := least(up_to, read_by_all);
  SELECT c.oid, c.relname,
         substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$FROM \('?(\d+)'?\)$re$)::bigint AS first,
         substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO \('?(\d+)'?\)$re$)::bigint AS beyond INTO oldest
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'belfry.outbox'::regclass
   ORDER BY 3 LIMIT 1;
  -- The range in which the next position falls is never retired.
  IF oldest IS NULL OR oldest.beyond - 1 > up_to OR oldest.beyond > (SELECT last_value FROM belfry.outbox_id) THEN
    RETURN 0;
  END IF;
  EXECUTE format('SELECT count(*) FROM (SELECT FROM belfry.%I WHERE created_at >= $1 LIMIT 1) t', oldest.relname)
     INTO young USING before;
  IF young > 0 THEN
    RETURN 0;
  END IF;
  EXECUTE format('DROP TABLE belfry.%I', oldest.relname);
  UPDATE belfry.retired SET up_to = oldest.beyond - 1;
  DELETE FROM belfry.discarded WHERE id < oldest.beyond;
  RETURN oldest.beyond - oldest.first;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
  RETURN 0;
END $$;

-- Rows leave by their time of receipt. A block range index finds none of them once new rows fill the gaps that old ones
-- left. Times grow, so a B-tree gets its entries at its end.
DROP INDEX belfry.inbox_received_at;
DROP INDEX belfry.issued_received_at;
CREATE INDEX inbox_received_at ON belfry.inbox (received_at);
CREATE INDEX issued_received_at ON belfry.issued (received_at);
