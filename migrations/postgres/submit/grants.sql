-- Who may do what, for the roles that exist: belfry_publisher submits, belfry_runtime reads and deletes. A service's own
-- role becomes a member of belfry_publisher. May be run again at any time.
DO $$
BEGIN
  -- Two at once would fail each other.
  PERFORM pg_advisory_xact_lock(7341, 'belfry.submitted'::regclass::oid::int);
  REVOKE ALL ON FUNCTION belfry.submit(text, text), belfry.submit(text, text, text),
    belfry.submit_all(text[], text), belfry.submit_all(text[], text, text) FROM PUBLIC;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'belfry_publisher') THEN
    GRANT USAGE ON SCHEMA belfry TO belfry_publisher;
    GRANT EXECUTE ON FUNCTION belfry.submit(text, text), belfry.submit(text, text, text),
      belfry.submit_all(text[], text), belfry.submit_all(text[], text, text) TO belfry_publisher;
  END IF;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'belfry_runtime') THEN
    GRANT USAGE ON SCHEMA belfry TO belfry_runtime;
    GRANT SELECT, DELETE ON belfry.submitted TO belfry_runtime;
    GRANT SELECT ON SEQUENCE belfry.submitted_id_seq TO belfry_runtime;
  END IF;
END $$;
