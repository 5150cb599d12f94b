-- A standby that lagged behind and takes over brings back an old position, and leases that were never given back. Whoever
-- took its lease from the database before must not go on here: what it has read is not what this log holds.
ALTER TABLE belfry.relay ADD COLUMN incarnation text; -- where the lease was taken; null: by a version before this one

-- Which server this is, and which history of it: changes when a standby takes over or a backup is restored. The control
-- file learns of a new timeline only with the next checkpoint, so a primary is asked where it writes now.
CREATE OR REPLACE FUNCTION belfry.incarnation() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ SELECT (pg_control_system()).system_identifier || '/' ||
          CASE WHEN pg_is_in_recovery() THEN (pg_control_checkpoint()).timeline_id
               ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END $$;
