//! Registered sinks. Sources hold leases in the same table. Their names contain a colon.

use std::time::Duration;

use sqlx::Row;

use super::Sqlite;
use super::audit_log::note;
use crate::clock::now_ms;
use crate::{NewChange, Sink, StoreError};

impl Sqlite {
    pub(crate) async fn sinks(&self) -> Result<Vec<Sink>, StoreError> {
        let rows = sqlx::query(
            "SELECT r.sink, r.position, \
                    (SELECT max($1 - o.created_at_ms, 0) FROM outbox o WHERE o.id > r.position ORDER BY o.id LIMIT 1), \
                    max(coalesce((SELECT min(id) FROM outbox) - 1, \
                                 (SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0) - r.position, 0), \
                    (SELECT count(*) FROM parked p WHERE p.sink = r.sink) \
               FROM relay r WHERE instr(r.sink, ':') = 0 ORDER BY r.sink",
        )
        .bind(now_ms())
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let unread_ms: Option<i64> = row.try_get(2)?;
                Ok(Sink {
                    name: row.try_get(0)?,
                    position: row.try_get(1)?,
                    unread_for: unread_ms.map(|ms| Duration::from_millis(ms as u64)),
                    missing: row.try_get(3)?,
                    parked: row.try_get(4)?,
                })
            })
            .collect()
    }

    pub(crate) async fn forget_sink(&self, name: &str, change: &NewChange, now_ms: i64) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        for statement in [
            "DELETE FROM relay WHERE sink = $1",
            "DELETE FROM relay_checkpoint WHERE sink = $1",
            "DELETE FROM parked WHERE sink = $1",
            "DELETE FROM held_topic WHERE sink = $1",
            "DELETE FROM unparked WHERE sink = $1",
        ] {
            sqlx::query(statement).bind(name).execute(&mut *transaction).await?;
        }
        note(&mut transaction, change, now_ms).await?;
        transaction.commit().await?;
        Ok(true)
    }

    pub(crate) async fn skip_gap(
        &self,
        name: &str,
        position: i64,
        change: &NewChange,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "UPDATE relay SET position = max(position, $2), epoch = epoch + 1, lease_until_ms = 0 WHERE sink = $1",
        )
        .bind(name)
        .bind(position)
        .execute(&mut *transaction)
        .await?;
        note(&mut transaction, change, now_ms).await?;
        transaction.commit().await
    }
}
