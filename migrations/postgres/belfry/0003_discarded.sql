-- Entries that somebody decided never to send, with who, when and why: an audit does not miss them. Rows are only
-- appended, and leave with their entries.
CREATE TABLE belfry.discarded (
  sink         text        NOT NULL,
  id           bigint      NOT NULL,
  topic        text        NOT NULL,
  event_key    text        NOT NULL,
  error        text        NOT NULL,  -- why the sink had refused it
  discarded_by text,                  -- null: asked for through a version before this one
  reason       text,
  discarded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (sink, id)
);

-- Who asked for what is to become of a parked entry, and why.
ALTER TABLE belfry.parked ADD COLUMN requested_by text, ADD COLUMN reason text;

-- What was discarded was not published, and never will be.
CREATE OR REPLACE VIEW belfry.event_outbox AS
SELECT o.id, o.event_id, o.aggregate_type, o.aggregate_id, o.event_type,
       convert_from(o.payload, 'UTF8') AS event_data, o.event_key, o.topic,
       CASE
         WHEN o.topic IS NULL THEN 'recorded'
         WHEN EXISTS (SELECT FROM belfry.parked p WHERE p.sink = 'kafka' AND p.id = o.id) THEN 'parked'
         WHEN EXISTS (SELECT FROM belfry.discarded d WHERE d.sink = 'kafka' AND d.id = o.id) THEN 'discarded'
         WHEN o.id <= (SELECT r.position FROM belfry.relay r WHERE r.sink = 'kafka') THEN 'published'
         ELSE 'pending'
       END AS status,
       o.created_at,
       CASE WHEN o.topic IS NULL
              OR EXISTS (SELECT FROM belfry.parked p WHERE p.sink = 'kafka' AND p.id = o.id)
              OR EXISTS (SELECT FROM belfry.discarded d WHERE d.sink = 'kafka' AND d.id = o.id) THEN NULL
         ELSE (SELECT c.acked_at FROM belfry.relay_checkpoint c
                WHERE c.sink = 'kafka' AND c.upto_id >= o.id ORDER BY c.upto_id LIMIT 1)
       END AS published_at
  FROM belfry.outbox o;

-- As before, and what was discarded leaves with its range.
CREATE OR REPLACE FUNCTION belfry.retire_log(up_to bigint, before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
  oldest record;
  young bigint;
BEGIN
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
  DELETE FROM belfry.relay_checkpoint WHERE upto_id < oldest.beyond;
  DELETE FROM belfry.discarded WHERE id < oldest.beyond;
  RETURN oldest.beyond - oldest.first;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
  RETURN 0;
END $$;
