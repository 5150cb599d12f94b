-- Who may do what. Applied after each migration, for the roles that exist: belfry_runtime serves, belfry_reader looks.
-- The owner is whoever migrates. Nobody else may change tables; the log is only ever appended to.
DO $$
BEGIN
  -- Replicas that start together would change the same rows of the catalogue.
  PERFORM pg_advisory_xact_lock(7341, 'belfry.release'::regclass::oid::int);
  REVOKE ALL ON ALL FUNCTIONS IN SCHEMA belfry FROM PUBLIC;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'belfry_runtime') THEN
    GRANT USAGE ON SCHEMA belfry TO belfry_runtime;
    GRANT SELECT, INSERT ON belfry.outbox, belfry.component, belfry.release, belfry.rollout,
                            belfry.component_signature, belfry.pause, belfry.audit_log TO belfry_runtime;
    GRANT SELECT, INSERT, DELETE ON belfry.inbox, belfry.issued, belfry.withheld, belfry.unparked TO belfry_runtime;
    GRANT SELECT, INSERT, UPDATE, DELETE ON belfry.dead_letter TO belfry_runtime;
    GRANT SELECT, INSERT, UPDATE ON belfry.consumer_position TO belfry_runtime;
    GRANT SELECT, INSERT, UPDATE, DELETE ON belfry.relay TO belfry_runtime;
    GRANT SELECT, INSERT, UPDATE ON belfry.access_token TO belfry_runtime;
    GRANT SELECT, INSERT, DELETE ON belfry.relay_checkpoint TO belfry_runtime;
    GRANT SELECT, INSERT ON belfry.discarded TO belfry_runtime;
    GRANT SELECT, INSERT, UPDATE, DELETE ON belfry.parked, belfry.held_topic, belfry.trial_tally TO belfry_runtime;
    GRANT SELECT ON belfry.retired, belfry.event_outbox, belfry._sqlx_migrations TO belfry_runtime;
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA belfry TO belfry_runtime;
    GRANT EXECUTE ON FUNCTION belfry.extend_log, belfry.retire_log, belfry.incarnation TO belfry_runtime;
  END IF;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'belfry_reader') THEN
    GRANT USAGE ON SCHEMA belfry TO belfry_reader;
    GRANT SELECT ON ALL TABLES IN SCHEMA belfry TO belfry_reader;
    REVOKE ALL ON belfry.access_token FROM belfry_reader;
  END IF;
END $$;
