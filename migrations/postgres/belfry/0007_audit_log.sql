-- What people changed, and what Belfry changed by itself; each row stands in the transaction of its change.
CREATE TABLE belfry.audit_log (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  changed_at timestamptz NOT NULL,
  changed_by text        NOT NULL,
  action     text        NOT NULL,
  subject    text        NOT NULL,
  detail     text        NOT NULL  -- JSON
);

CREATE FUNCTION belfry.only_appended_to() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%.% is only ever appended to', TG_TABLE_SCHEMA, TG_TABLE_NAME;
END $$;
CREATE TRIGGER only_appended_to BEFORE UPDATE OR DELETE OR TRUNCATE ON belfry.audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION belfry.only_appended_to();

-- Parked entries that a sink took later than those behind them: by when an entry was acknowledged follows from
-- relay_checkpoint, and of these it does not.
CREATE TABLE belfry.unparked (
  sink    text        NOT NULL,
  id      bigint      NOT NULL,
  sent_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (sink, id)
);
