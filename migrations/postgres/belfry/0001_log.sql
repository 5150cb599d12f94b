-- Everything lives in the schema belfry, which is there before the first migration. Names are qualified in every
-- statement, so no search path matters.

-- The log. Rows are only appended. Ids are drawn after the order lock was taken, so a visible id means that all lower
-- ones are decided. CACHE 1 is an invariant: a session that cached ids would let them become visible out of order.
CREATE SEQUENCE belfry.outbox_id AS bigint CACHE 1;
CREATE TABLE belfry.outbox (
  id              bigint      NOT NULL,
  event_id        uuid        NOT NULL,
  event_type      text        NOT NULL,
  aggregate_type  text        NOT NULL,
  aggregate_id    text        NOT NULL,
  topic           text,                  -- null: recorded only, never published
  event_key       text        NOT NULL,  -- '' = none
  payload         bytea       NOT NULL,
  headers         bytea       NOT NULL,
  source_event_id uuid,                  -- of a notification
  release_id      bigint,                -- of a notification
  projections     bytea,                 -- of an event: what each projector made of it, silence included
  expires_at      timestamptz,           -- of a notification: not sent after this
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (id)
) PARTITION BY RANGE (id);               -- no DEFAULT partition: attaching beside one would have to scan it
CREATE INDEX outbox_event_id ON belfry.outbox (event_id);
CREATE INDEX outbox_source ON belfry.outbox (source_event_id) WHERE source_event_id IS NOT NULL;
CREATE INDEX outbox_created_at ON belfry.outbox USING brin (created_at);

-- What was retired with its partition. One row.
CREATE TABLE belfry.retired (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  up_to    bigint  NOT NULL DEFAULT 0
);
INSERT INTO belfry.retired DEFAULT VALUES;

-- Both make repetition harmless. Uniqueness depends on no clock; rows leave by the time of receipt.
CREATE TABLE belfry.inbox (
  event_id     uuid        PRIMARY KEY,
  content_hash bytea       NOT NULL,
  received_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE belfry.issued (
  notification_id uuid        PRIMARY KEY,
  received_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX inbox_received_at ON belfry.inbox USING brin (received_at);
CREATE INDEX issued_received_at ON belfry.issued USING brin (received_at);

-- Notifications deliberately not sent, with the reason.
CREATE TABLE belfry.withheld (
  id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  notification_id uuid        NOT NULL,
  source_event_id uuid        NOT NULL,
  release_id      bigint      NOT NULL,
  recipient       text        NOT NULL,
  reason          text        NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX withheld_notification ON belfry.withheld (notification_id);
CREATE INDEX withheld_source ON belfry.withheld (source_event_id);

-- Events that a projector could not project, and records of sources that are no events.
CREATE TABLE belfry.dead_letter (
  id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_id         uuid,
  projector        text,                 -- null: no projector saw it
  release_id       bigint,
  cause            text        NOT NULL,
  detail           text        NOT NULL,
  source_topic     text,                 -- of a record: where it came from
  source_partition int,
  source_offset    bigint,
  payload          bytea,                -- of a record: its value
  created_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX dead_letter_event ON belfry.dead_letter (event_id);

CREATE TABLE belfry.component (
  digest     bytea       PRIMARY KEY,    -- SHA-256 of the bytes
  bytes      bytea       NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A release is a component and a configuration. Immutable.
CREATE TABLE belfry.release (
  id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  projector   text        NOT NULL,
  version     text        NOT NULL,
  digest      bytea       NOT NULL REFERENCES belfry.component (digest),
  config      text        NOT NULL,      -- canonical JSON object
  description text        NOT NULL,      -- what the component says of itself, as JSON
  note        text        NOT NULL,
  created_by  text        NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX release_identity ON belfry.release (projector, version, md5(config));

-- Which release serves a projector: the last row of each projector counts, the rest is history.
CREATE TABLE belfry.rollout (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  projector  text        NOT NULL,
  release_id bigint      NOT NULL REFERENCES belfry.release (id),
  created_by text        NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX rollout_projector ON belfry.rollout (projector, id);

-- How far each source has been read. The database is the truth; what a broker remembers is for its own tools.
CREATE TABLE belfry.consumer_position (
  consumer_group text   NOT NULL,
  topic          text   NOT NULL,
  partition      int    NOT NULL,
  next_offset    bigint NOT NULL,
  PRIMARY KEY (consumer_group, topic, partition)
);

-- How far each sink has been served, and who may serve it. Its rows are updated often and never move.
CREATE TABLE belfry.relay (
  sink        text        PRIMARY KEY,
  owner       uuid,
  epoch       bigint      NOT NULL DEFAULT 0,
  lease_until timestamptz NOT NULL DEFAULT '-infinity',
  position    bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

-- When a sink had acknowledged what: an upper bound of each entry's time of publication.
CREATE TABLE belfry.relay_checkpoint (
  sink     text        NOT NULL,
  epoch    bigint      NOT NULL,
  upto_id  bigint      NOT NULL,
  acked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (sink, upto_id)
);

-- Entries that a sink refused, and those of their key behind them.
CREATE TABLE belfry.parked (
  sink       text        NOT NULL,
  topic      text        NOT NULL,
  event_key  text        NOT NULL,
  id         bigint      NOT NULL,
  error      text        NOT NULL,
  request    text        CHECK (request IN ('unpark', 'discard')),
  parked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (sink, topic, event_key, id)
);
CREATE INDEX parked_id ON belfry.parked (id);
CREATE SEQUENCE belfry.parked_request;

-- What operators look at: the log with the columns the platform knows.
CREATE VIEW belfry.event_outbox AS
SELECT o.id, o.event_id, o.aggregate_type, o.aggregate_id, o.event_type,
       convert_from(o.payload, 'UTF8') AS event_data, o.event_key, o.topic,
       CASE
         WHEN o.topic IS NULL THEN 'recorded'
         WHEN EXISTS (SELECT FROM belfry.parked p WHERE p.sink = 'kafka' AND p.id = o.id) THEN 'parked'
         WHEN o.id <= (SELECT r.position FROM belfry.relay r WHERE r.sink = 'kafka') THEN 'published'
         ELSE 'pending'
       END AS status,
       o.created_at,
       CASE WHEN o.topic IS NULL OR EXISTS (SELECT FROM belfry.parked p WHERE p.sink = 'kafka' AND p.id = o.id) THEN NULL
         ELSE (SELECT c.acked_at FROM belfry.relay_checkpoint c
                WHERE c.sink = 'kafka' AND c.upto_id >= o.id ORDER BY c.upto_id LIMIT 1)
       END AS published_at
  FROM belfry.outbox o;

-- Have at least `ahead` empty ranges after the last position. A table is made first and attached then: that blocks no
-- writer, as creating it in place would. Gives the highest position that has a place. Runs with its owner's rights, so
-- that those who write the log need none to change tables.
CREATE FUNCTION belfry.extend_log(entries bigint, ahead int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
  top bigint;
  used bigint;
  bound text;
BEGIN
  -- One at a time; the others find the work done.
  PERFORM pg_advisory_xact_lock(7341, 'belfry.outbox_id'::regclass::oid::int);
  LOOP
    SELECT coalesce(max(substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO \('?(\d+)'?\)$re$)::bigint), 1) INTO top
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'belfry.outbox'::regclass;
    SELECT last_value INTO used FROM belfry.outbox_id;
    EXIT WHEN top > used + ahead * entries;
    bound := 'outbox_' || top;
    EXECUTE format('CREATE TABLE belfry.%I (LIKE belfry.outbox INCLUDING DEFAULTS INCLUDING STORAGE)', bound);
    EXECUTE format('ALTER TABLE belfry.outbox ATTACH PARTITION belfry.%I FOR VALUES FROM (%s) TO (%s)',
                   bound, top, top + entries);
  END LOOP;
  RETURN top - 1;
END $$;

-- Retire the oldest range if all of it stands at or below `up_to` and is older than `before`. Waits a tenth of a second
-- for those who read it, and then gives way: whoever queues behind a waiting lock would be blocked as well. Gives the
-- number of retired positions, 0 if there is nothing to retire now.
CREATE FUNCTION belfry.retire_log(up_to bigint, before timestamptz) RETURNS bigint
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
  RETURN oldest.beyond - oldest.first;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
  RETURN 0;
END $$;

-- Which server this is, and which history of it: changes when a standby takes over or a backup is restored.
CREATE FUNCTION belfry.incarnation() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT (pg_control_system()).system_identifier || '/' || (pg_control_checkpoint()).timeline_id $$;
