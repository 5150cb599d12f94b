-- What a service calls to submit events within its own transaction. Installed in the service's database; there the
-- schema belfry holds nothing else, unless Belfry's own log is in the same database.

DO $$
BEGIN
  IF getdatabaseencoding() <> 'UTF8' THEN
    RAISE EXCEPTION 'the database is encoded in %, and events are UTF-8', getdatabaseencoding()
      USING HINT = 'Events can be submitted from databases with the encoding UTF8 only.';
  END IF;
END $$;

-- Events on their way to Belfry: added by submit, read in the order of ids and deleted by Belfry. There is no mark of how
-- far it has read: a transaction that commits late makes lower ids visible, and they are read all the same.
CREATE TABLE belfry.submitted (
  id           bigint      GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  event_id     uuid        NOT NULL,
  envelope     text        NOT NULL,     -- text, for jsonb has no place for U+0000 and changes what it stores
  event_key    text,
  submitted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT submitted_envelope_size CHECK (octet_length(envelope) <= 1048576)
) WITH (
  -- Every row is soon deleted, so the number of dead rows is no matter of the table's size. Shrinking the file would
  -- take a lock that those who submit have to wait for.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, vacuum_truncate = false,
  toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 1000, toast.vacuum_truncate = false
);

-- Submit an event: an envelope as JSON. It is published if the transaction commits, and only then. A missing event_id or
-- event_timestamp is filled in; not a byte of the rest is changed. Gives the event's id.
--
-- Runs with its owner's rights, so that those who submit need none on the table.
CREATE FUNCTION belfry.submit(envelope text, event_key text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  fields json;
  given record;
  event_time timestamptz;
  new_id uuid;
  filled text := '';
  reason text;
BEGIN
  IF envelope IS NULL OR octet_length(envelope) > 1048576 THEN
    RAISE EXCEPTION 'belfry.submit: the envelope has % bytes, 1 to 1048576 are taken', coalesce(octet_length(envelope), 0)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Put large data into storage and submit a reference to it.';
  END IF;
  IF octet_length(event_key) > 1024 THEN
    RAISE EXCEPTION 'belfry.submit: the event key has % bytes, at most 1024 are taken', octet_length(event_key)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Use the id of what the event is about, such as its batch.';
  END IF;

  BEGIN
    -- PostgreSQL cannot take apart what has an escaped U+0000 in it, so it looks at a copy that has none.
    fields := replace(envelope, '\u0000', '\ufffd');
    IF json_typeof(fields) <> 'object' THEN
      RAISE EXCEPTION 'belfry.submit: the envelope is JSON, but not an object'
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'An envelope looks like {"event_type": "…", "source_service": "…", "data": {…}}.';
    END IF;
    SELECT count(*) AS names, count(DISTINCT f.key) AS different,
           min(f.value #>> '{}') FILTER (WHERE f.key = 'event_id') AS event_id,
           min(json_typeof(f.value)) FILTER (WHERE f.key = 'event_id') AS event_id_is,
           min(f.value #>> '{}') FILTER (WHERE f.key = 'event_timestamp') AS event_timestamp,
           min(json_typeof(f.value)) FILTER (WHERE f.key = 'event_timestamp') AS event_timestamp_is,
           min(f.value #>> '{}') FILTER (WHERE f.key = 'correlation_id') AS correlation_id,
           min(json_typeof(f.value)) FILTER (WHERE f.key = 'correlation_id') AS correlation_id_is,
           min(f.value #>> '{}') FILTER (WHERE f.key = 'event_type') AS event_type,
           min(json_typeof(f.value)) FILTER (WHERE f.key = 'event_type') AS event_type_is,
           min(json_typeof(f.value)) FILTER (WHERE f.key = 'source_service') AS source_service_is,
           count(*) FILTER (WHERE f.key = 'data') AS data
      INTO given FROM json_each(fields) f;
  EXCEPTION WHEN invalid_text_representation OR untranslatable_character THEN
    GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION 'belfry.submit: the envelope is not valid JSON'
      USING ERRCODE = 'invalid_parameter_value', DETAIL = reason,
            HINT = 'Write it with a JSON library; text put together by hand breaks at the first quotation mark.';
  END;

  -- What is wrong is told to whoever submits, while it can still be mended.
  IF given.names <> given.different THEN
    reason := 'a field occurs twice';
  ELSIF given.event_type_is IS DISTINCT FROM 'string' OR given.event_type !~ '^[a-zA-Z0-9._-]{1,249}$' THEN
    reason := 'event_type is missing or no name of a topic';
  ELSIF given.source_service_is IS DISTINCT FROM 'string' THEN
    reason := 'source_service is missing or no string';
  ELSIF given.data = 0 THEN
    reason := 'data is missing';
  ELSIF given.event_id_is IS NOT NULL AND (given.event_id_is <> 'string' OR given.event_id !~
      '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$') THEN
    reason := 'event_id is not a UUID; leave it out to have one made';
  ELSIF given.correlation_id_is IS NOT NULL AND (given.correlation_id_is <> 'string' OR given.correlation_id !~
      '^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$') THEN
    reason := 'correlation_id is not a UUID; leave it out if there is none';
  ELSIF given.event_timestamp_is IS NOT NULL AND (given.event_timestamp_is <> 'string' OR given.event_timestamp !~
      '^\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?)?$') THEN
    reason := 'event_timestamp is not a date and time as in RFC 3339; leave it out to have it filled in';
  END IF;
  IF reason IS NOT NULL THEN
    RAISE EXCEPTION 'belfry.submit: %', reason
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'An envelope needs event_type (the topic), source_service and data; event_id, event_timestamp, '
                   'correlation_id, schema_version and metadata are optional.';
  END IF;
  -- A day that no month has fails here, in PostgreSQL's own words.
  event_time := given.event_timestamp;

  new_id := coalesce(given.event_id::uuid, gen_random_uuid());
  IF given.event_id_is IS NULL THEN
    filled := format('"event_id":"%s",', new_id);
  END IF;
  IF event_time IS NULL THEN
    filled := filled || to_char(clock_timestamp() AT TIME ZONE 'UTC',
                                '"\"event_timestamp\":\""YYYY-MM-DD"T"HH24:MI:SS.US"Z\","');
  END IF;
  IF filled <> '' THEN
    envelope := overlay(envelope PLACING '{' || filled FROM position('{' IN envelope) FOR 1);
  END IF;

  -- Before the row's id is drawn, so that whoever has drawn one is among the transactions of a snapshot: that is how the
  -- reader knows below which id nothing can appear any more.
  PERFORM pg_current_xact_id();
  INSERT INTO belfry.submitted (event_id, envelope, event_key) VALUES (new_id, envelope, event_key);
  RETURN new_id;
END $$;

-- Submit events that belong together, in this order: all of them, or none. Gives their ids in the same order.
CREATE FUNCTION belfry.submit_all(envelopes text[], event_key text DEFAULT NULL) RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  envelope text;
  ids uuid[] := '{}';
BEGIN
  IF cardinality(envelopes) > 1000 THEN
    RAISE EXCEPTION 'belfry.submit_all: % envelopes, at most 1000 are taken at once', cardinality(envelopes)
      USING ERRCODE = 'invalid_parameter_value', HINT = 'Submit those that belong together, and the others by another call.';
  END IF;
  FOREACH envelope IN ARRAY coalesce(envelopes, '{}') LOOP
    ids := ids || belfry.submit(envelope, event_key);
  END LOOP;
  RETURN ids;
END $$;

REVOKE ALL ON FUNCTION belfry.submit, belfry.submit_all FROM PUBLIC;
