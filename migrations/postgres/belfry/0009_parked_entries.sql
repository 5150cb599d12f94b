-- A parked entry outlives its row in the log: it carries all that its sink needs. Rows that a version before this one parks
-- have nulls, and are sent from the log as long as that has them.
ALTER TABLE belfry.parked
  ADD COLUMN event_id        uuid,
  ADD COLUMN payload         bytea,
  ADD COLUMN headers         bytea,
  ADD COLUMN source_event_id uuid,                 -- of a notification
  ADD COLUMN expires_at      timestamptz,          -- of a notification: not sent after this
  ADD COLUMN recorded_at     timestamptz,
  -- What is blocked: its key only, or its topic, of which the sink takes nothing.
  ADD COLUMN scope           text NOT NULL DEFAULT 'key' CHECK (scope IN ('key', 'topic'));
UPDATE belfry.parked p
   SET event_id = o.event_id, payload = o.payload, headers = o.headers, source_event_id = o.source_event_id,
       expires_at = o.expires_at, recorded_at = o.created_at
  FROM belfry.outbox o WHERE o.id = p.id;
-- A key may be longer than a row of an index takes: then its entries could not be parked, and the sink would never go on.
ALTER TABLE belfry.parked DROP CONSTRAINT parked_pkey, ADD PRIMARY KEY (sink, id);
CREATE INDEX parked_by_key ON belfry.parked (sink, md5(topic), md5(event_key), id);
CREATE INDEX parked_by_topic ON belfry.parked (sink, md5(topic), id) WHERE scope = 'topic';
CREATE INDEX parked_blocking ON belfry.parked (sink) WHERE scope = 'key';
CREATE INDEX parked_asked_for ON belfry.parked (sink, request) WHERE request IS NOT NULL;

-- Topics of which a sink takes nothing: their entries are parked, in order, until it does.
CREATE TABLE belfry.held_topic (
  sink   text        NOT NULL,
  topic  text        NOT NULL,
  reason text        NOT NULL,
  since  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX held_topic_identity ON belfry.held_topic (sink, md5(topic));

-- Beside entries that were sent later than those behind them, entries that were never sent, with the reason. Of neither it
-- follows from relay_checkpoint what became of it.
ALTER TABLE belfry.unparked ADD COLUMN withheld text;

-- Since when no replica serves the sink: set when its lease was given back in good order, and null while one does.
ALTER TABLE belfry.relay ADD COLUMN off_since timestamptz;

CREATE OR REPLACE VIEW belfry.event_outbox AS
SELECT o.id, o.event_id, o.aggregate_type, o.aggregate_id, o.event_type,
       convert_from(o.payload, 'UTF8') AS event_data, o.event_key, o.topic,
       CASE
         WHEN o.topic IS NULL THEN 'recorded'
         WHEN EXISTS (SELECT FROM belfry.parked p WHERE p.sink = 'kafka' AND p.id = o.id) THEN 'parked'
         WHEN EXISTS (SELECT FROM belfry.discarded d WHERE d.sink = 'kafka' AND d.id = o.id) THEN 'discarded'
         WHEN EXISTS (SELECT FROM belfry.unparked u WHERE u.sink = 'kafka' AND u.id = o.id AND u.withheld IS NOT NULL)
           THEN 'withheld'
         WHEN o.id <= (SELECT r.position FROM belfry.relay r WHERE r.sink = 'kafka') THEN 'published'
         ELSE 'pending'
       END AS status,
       o.created_at,
       CASE WHEN o.topic IS NULL
              OR EXISTS (SELECT FROM belfry.parked p WHERE p.sink = 'kafka' AND p.id = o.id)
              OR EXISTS (SELECT FROM belfry.discarded d WHERE d.sink = 'kafka' AND d.id = o.id)
              OR EXISTS (SELECT FROM belfry.unparked u
                          WHERE u.sink = 'kafka' AND u.id = o.id AND u.withheld IS NOT NULL) THEN NULL
         ELSE coalesce((SELECT u.sent_at FROM belfry.unparked u WHERE u.sink = 'kafka' AND u.id = o.id),
                       (SELECT c.acked_at FROM belfry.relay_checkpoint c
                         WHERE c.sink = 'kafka' AND c.upto_id >= o.id ORDER BY c.upto_id LIMIT 1))
       END AS published_at
  FROM belfry.outbox o;
