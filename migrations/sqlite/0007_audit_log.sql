-- What people changed, and what Belfry changed by itself; each row stands in the transaction of its change.
CREATE TABLE audit_log (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  changed_at_ms INTEGER NOT NULL,
  changed_by    TEXT    NOT NULL,
  action        TEXT    NOT NULL,
  subject       TEXT    NOT NULL,
  detail        TEXT    NOT NULL  -- JSON
) STRICT;

CREATE TRIGGER audit_log_is_not_changed BEFORE UPDATE ON audit_log
BEGIN SELECT raise(ABORT, 'audit_log is only ever appended to'); END;
CREATE TRIGGER audit_log_is_not_cut BEFORE DELETE ON audit_log
BEGIN SELECT raise(ABORT, 'audit_log is only ever appended to'); END;
CREATE TRIGGER audit_log_is_not_replaced BEFORE INSERT ON audit_log WHEN EXISTS (SELECT 1 FROM audit_log WHERE id = NEW.id)
BEGIN SELECT raise(ABORT, 'audit_log is only ever appended to'); END;

-- What stands before was never meant for the sink.
ALTER TABLE relay ADD COLUMN began_after INTEGER NOT NULL DEFAULT 0;
