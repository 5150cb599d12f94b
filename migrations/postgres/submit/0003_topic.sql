-- An event may be published to another topic than that of its type.

ALTER TABLE belfry.submitted ADD COLUMN topic text;   -- null: the topic of the event's type

-- As submit(envelope, event_key), and the event is published to this topic; null is that of its type. A function of its own:
-- one with a default would have to take the place of the other, and fail those who are just calling that.
CREATE FUNCTION belfry.submit(envelope text, event_key text, topic text) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  new_id uuid;
BEGIN
  IF topic !~ '^[a-zA-Z0-9._-]+$' OR topic IN ('.', '..') OR length(topic) > 249 THEN
    RAISE EXCEPTION 'belfry.submit: % is not a name that a topic can have', quote_literal(left(topic, 249))
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Use up to 249 letters, digits, dots, underscores and hyphens, or null for the topic of the event''s type.';
  END IF;
  new_id := belfry.submit(envelope, event_key);
  IF topic IS NOT NULL THEN
    UPDATE belfry.submitted s SET topic = submit.topic WHERE s.id = currval('belfry.submitted_id_seq');
  END IF;
  RETURN new_id;
END $$;

-- As submit_all(envelopes, event_key), and the events are published to this topic.
CREATE FUNCTION belfry.submit_all(envelopes text[], event_key text, topic text) RETURNS uuid[]
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
    ids := ids || belfry.submit(envelope, event_key, topic);
  END LOOP;
  RETURN ids;
END $$;

REVOKE ALL ON FUNCTION belfry.submit(text, text, text), belfry.submit_all(text[], text, text) FROM PUBLIC;
