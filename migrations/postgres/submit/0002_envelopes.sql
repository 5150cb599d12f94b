-- submit refuses what Belfry would refuse later, as far as that can be said without a schema: one rule for every way in.

-- The two that follow are called by submit alone, which fixes the search path for them: to do that once more for each
-- would take longer than they do.

-- What is wrong with a time, or null. All of the years 1 to 9999 in UTC, any offset, and a fraction of any length.
CREATE FUNCTION belfry.submit_time_problem(event_time text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  days int[] := '{31,28,31,30,31,30,31,31,30,31,30,31}';
  year int;
  month int;
  day int;
  minutes int;
  zone text;
BEGIN
  IF event_time !~ ('^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]+)?)?'
                    '([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?)?$') THEN
    RETURN 'event_timestamp is not a date and time as in RFC 3339; leave it out to have it filled in';
  END IF;
  year := left(event_time, 4);
  month := substr(event_time, 6, 2);
  day := substr(event_time, 9, 2);
  IF month = 2 AND (year % 4 = 0 AND year % 100 <> 0 OR year % 400 = 0) THEN
    days[2] := 29;
  END IF;
  -- Of a month that there is not, there are no days.
  IF year = 0 OR day NOT BETWEEN 1 AND coalesce(days[month], 0) THEN
    RETURN 'event_timestamp is out of range: there is no such day in the years 1 to 9999';
  END IF;
  zone := substring(event_time FROM '([+-][0-9]{2}:[0-9]{2})$');
  IF zone IS NOT NULL AND substr(event_time, 1, 10) IN ('0001-01-01', '9999-12-31') THEN
    -- Minutes of that day in UTC.
    minutes := substr(event_time, 12, 2)::int * 60 + substr(event_time, 15, 2)::int
             - (left(zone, 1) || '1')::int * (substr(zone, 2, 2)::int * 60 + right(zone, 2)::int);
    IF (year = 1 AND minutes < 0) OR (year = 9999 AND minutes >= 1440) THEN
      RETURN 'event_timestamp is out of range: in UTC it is not within the years 1 to 9999';
    END IF;
  END IF;
  RETURN NULL;
END $$;

-- What is wrong with an envelope that is a JSON object with so many names, or null. `nul` is what the copy has in the place of U+0000.
CREATE FUNCTION belfry.submit_problem(fields jsonb, envelope text, names bigint, nul text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  a_uuid text := '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
  written_otherwise text := '^(urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}'
                            '|\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\})$';
  event_type text := fields ->> 'event_type';
  event_id text := fields ->> 'event_id';
  correlation_id text := fields ->> 'correlation_id';
  data jsonb := fields -> 'data';
  version jsonb := fields -> 'schema_version';
BEGIN
  -- A type that is null is that of a field that is missing; 'null' that of one that is null.
  RETURN CASE
    WHEN jsonb_typeof(fields -> 'event_type') IS DISTINCT FROM 'string'
      OR event_type !~ '^[a-zA-Z0-9._-]+$' OR event_type IN ('.', '..') OR length(event_type) > 249
      THEN 'event_type is missing or no name of a topic'
    WHEN jsonb_typeof(fields -> 'source_service') IS DISTINCT FROM 'string'
      THEN 'source_service is missing or no string'
    WHEN data IS NULL
      THEN 'data is missing'
    WHEN jsonb_typeof(fields -> 'event_id') <> 'string' OR (event_id !~* a_uuid AND event_id !~* written_otherwise)
      THEN 'event_id is not a UUID; leave it out to have one made'
    WHEN jsonb_typeof(fields -> 'correlation_id') NOT IN ('string', 'null')
      OR (correlation_id !~* a_uuid AND correlation_id !~* written_otherwise)
      THEN 'correlation_id is not a UUID; leave it out if there is none'
    WHEN jsonb_typeof(fields -> 'event_timestamp') <> 'string'
      THEN 'event_timestamp is not a date and time as in RFC 3339; leave it out to have it filled in'
    WHEN jsonb_typeof(version) <> 'null' AND (jsonb_typeof(version) <> 'number'
      OR jsonb_path_exists(version, '$ ? (@ < 0 || @ > 4294967295 || @.floor() != @)'))
      THEN 'schema_version is not an integer from 0 to 4294967295; leave it out if there is none'
    WHEN jsonb_typeof(fields -> 'metadata') NOT IN ('object', 'null')
      THEN 'metadata is not an object'
    WHEN jsonb_typeof(fields -> 'data_schema_uri') NOT IN ('string', 'null')
      THEN 'data_schema_uri is not a string'
    WHEN jsonb_typeof(fields -> 'metadata' -> 'partition_key') NOT IN ('string', 'number', 'null')
      THEN 'metadata.partition_key is not a string or a number'
    WHEN jsonb_typeof(data -> 'batch_id') NOT IN ('string', 'number', 'null')
      THEN 'data.batch_id is not a string or a number'
    WHEN strpos(data ->> 'batch_id', nul) > 0
      THEN 'data.batch_id has the character U+0000, which no id may have'
    WHEN jsonb_typeof(data -> 'user_id') = 'string' AND strpos(data ->> 'user_id', nul) > 0
      THEN 'data.user_id has the character U+0000, which no id may have'
    WHEN names + (NOT fields ? 'event_id')::int + (NOT fields ? 'event_timestamp')::int > 256
      THEN 'the envelope has more than 256 fields, which is the limit'
    WHEN jsonb_path_exists(fields, 'strict $.**{128} ? (@.type() == "array" || @.type() == "object")')
      THEN 'a field is nested more than 127 levels deep, which is the limit'
    -- The smallest number that 64-bit floating point rounds to infinity. Most envelopes have none that comes near it.
    WHEN envelope ~ '[0-9]{30}|[:,[:space:][][-]?[0-9.]+[eE][+]?[0-9]{3}' AND jsonb_path_exists(fields, 'strict $.** ? (@.type() == "number" && @.abs() >= 179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880177904174497792)')
      THEN 'a number is beyond the limit of ±1.7976931348623157e308, that of 64-bit floating point'
    ELSE belfry.submit_time_problem(fields ->> 'event_timestamp')
  END;
END $$;

REVOKE ALL ON FUNCTION belfry.submit_time_problem, belfry.submit_problem FROM PUBLIC;

-- Submit an event: an envelope as JSON. It is published if the transaction commits, and only then. A missing event_id or
-- event_timestamp is filled in; not a byte of the rest is changed. Returns the event's id.
--
-- Runs with its owner's rights, so that those who submit need none on the table.
CREATE OR REPLACE FUNCTION belfry.submit(envelope text, event_key text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  copy text := envelope;
  nul text;
  names bigint;
  fields jsonb;
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

  -- PostgreSQL cannot take apart what has an escaped U+0000 in it, so it looks at a copy that has none. What is there
  -- instead occurs in no text by accident, and the escape in front keeps an escaped backslash before it what it is.
  IF strpos(envelope, '\u0000') > 0 THEN
    nul := md5(envelope);
    copy := replace(envelope, '\u0000', '\ufffd' || nul);
    nul := chr(65533) || nul;
  END IF;
  BEGIN
    fields := copy;
  EXCEPTION
    WHEN numeric_value_out_of_range THEN
      -- PostgreSQL keeps 16,383 decimal places and cannot read more. They make no number too large.
      copy := regexp_replace(copy, '("(?:[^"\\]|\\.)*")|(\.[0-9]{250})[0-9]+|([eE]-0*[0-9]{3})[0-9]+', '\1\2\3', 'g');
      BEGIN
        fields := copy;
      EXCEPTION WHEN numeric_value_out_of_range THEN
        reason := 'a number is beyond the limit of ±1.7976931348623157e308, that of 64-bit floating point';
      END;
    WHEN statement_too_complex THEN
      reason := 'a field is nested more than 127 levels deep, which is the limit';
    WHEN invalid_text_representation OR untranslatable_character THEN
      GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
      RAISE EXCEPTION 'belfry.submit: the envelope is not valid JSON'
        USING ERRCODE = 'invalid_parameter_value', DETAIL = reason,
              HINT = 'Write it with a JSON library; text put together by hand breaks at the first quotation mark.';
  END;
  IF reason IS NULL AND jsonb_typeof(fields) <> 'object' THEN
    RAISE EXCEPTION 'belfry.submit: the envelope is JSON, but not an object'
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'An envelope looks like {"event_type": "…", "source_service": "…", "data": {…}}.';
  END IF;

  -- Report it to the caller, who can still correct it.
  IF reason IS NULL THEN
    -- jsonb keeps one of the fields that have the same name.
    SELECT count(*) INTO names FROM json_object_keys(copy::json);
    IF names <> (SELECT count(*) FROM jsonb_object_keys(fields)) THEN
      reason := 'a field occurs twice';
    ELSE
      reason := belfry.submit_problem(fields, envelope, names, nul);
    END IF;
  END IF;
  IF reason IS NOT NULL THEN
    RAISE EXCEPTION 'belfry.submit: %', reason
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'An envelope needs event_type (the topic), source_service and data; event_id, event_timestamp, '
                   'correlation_id, schema_version and metadata are optional.';
  END IF;

  IF fields ? 'event_id' THEN
    new_id := regexp_replace(fields ->> 'event_id', '^urn:uuid:', '', 'i');
  ELSE
    new_id := gen_random_uuid();
    filled := format('"event_id":"%s",', new_id);
  END IF;
  IF NOT fields ? 'event_timestamp' THEN
    filled := filled || to_char(clock_timestamp() AT TIME ZONE 'UTC',
                                '"\"event_timestamp\":\""YYYY-MM-DD"T"HH24:MI:SS.US"Z\","');
  END IF;
  IF filled <> '' THEN
    envelope := overlay(envelope PLACING '{' || filled FROM position('{' IN envelope) FOR 1);
  END IF;

  -- Before the row's id is drawn, so that a transaction that has drawn one is among those of a snapshot: that is how the
  -- reader knows below which id nothing can appear any more.
  PERFORM pg_current_xact_id();
  INSERT INTO belfry.submitted (event_id, envelope, event_key) VALUES (new_id, envelope, event_key);
  RETURN new_id;
END $$;
