//! Which releases serve, and what is at a halt.

use sqlx::Row;

use super::Sqlite;
use crate::{Pause, Paused, Release, Rollout, StoreError};

impl Sqlite {
    pub(crate) async fn activate(
        &self,
        releases: &[&Release],
        created_by: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for release in releases {
            sqlx::query(
                "INSERT INTO rollout (projector, release_id, created_by, created_at_ms) VALUES ($1, $2, $3, $4)",
            )
            .bind(&release.projector)
            .bind(release.id)
            .bind(created_by)
            .bind(now_ms)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(crate) async fn activate_first(
        &self,
        release: &Release,
        created_by: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO rollout (projector, release_id, created_by, created_at_ms) \
             SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM rollout)",
        )
        .bind(&release.projector)
        .bind(release.id)
        .bind(created_by)
        .bind(now_ms)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    pub(crate) async fn suspend(&self, release: &Release, reason: &str, now_ms: i64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO rollout (projector, release_id, suspended_release_id, reason, created_by, created_at_ms) \
             SELECT now.projector, \
                    coalesce((SELECT before.release_id FROM rollout AS before \
                               WHERE before.projector = now.projector AND before.id < now.id \
                                 AND before.release_id <> now.release_id \
                                 AND NOT EXISTS (SELECT 1 FROM rollout AS out WHERE out.projector = now.projector \
                                                  AND out.suspended_release_id = before.release_id AND out.id >= before.id) \
                               ORDER BY before.id DESC LIMIT 1), now.release_id), \
                    now.release_id, $3, 'belfry', $4 \
               FROM rollout AS now \
              WHERE now.id = (SELECT max(id) FROM rollout WHERE projector = $1) AND now.release_id = $2 \
                AND now.suspended_release_id IS NOT now.release_id",
        )
        .bind(&release.projector)
        .bind(release.id)
        .bind(reason)
        .bind(now_ms)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    pub(crate) async fn rollouts(&self) -> Result<Vec<Rollout>, StoreError> {
        let rows = sqlx::query(
            "SELECT projector, release_id, created_by, created_at_ms, \
                    (SELECT before.release_id FROM rollout AS before \
                      WHERE before.projector = now.projector AND before.id < now.id AND before.release_id <> now.release_id \
                        AND NOT EXISTS (SELECT 1 FROM rollout AS out WHERE out.projector = now.projector \
                                         AND out.suspended_release_id = before.release_id AND out.id >= before.id) \
                      ORDER BY before.id DESC LIMIT 1), \
                    suspended_release_id, reason \
             FROM rollout AS now \
             WHERE id = (SELECT max(id) FROM rollout AS latest WHERE latest.projector = now.projector) ORDER BY projector",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Rollout {
                    projector: row.try_get(0)?,
                    release_id: row.try_get(1)?,
                    created_by: row.try_get(2)?,
                    created_at_ms: row.try_get(3)?,
                    previous_release_id: row.try_get(4)?,
                    suspended_release_id: row.try_get(5)?,
                    reason: row.try_get(6)?,
                })
            })
            .collect()
    }

    pub(crate) async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        let rows = sqlx::query(
            "SELECT kind, name, reason, created_by, created_at_ms FROM pause AS now \
              WHERE reason IS NOT NULL AND id = (SELECT max(id) FROM pause AS latest \
                                                  WHERE latest.kind = now.kind AND latest.name = now.name) \
              ORDER BY kind, name",
        )
        .fetch_all(&self.readers)
        .await?;
        let mut pauses = Vec::with_capacity(rows.len());
        for row in rows {
            let kind: String = row.try_get(0)?;
            let Some(what) = Paused::of(&kind, row.try_get(1)?) else { continue };
            let (reason, created_by) = (row.try_get(2)?, row.try_get(3)?);
            pauses.push(Pause { what, reason, created_by, created_at_ms: row.try_get(4)? });
        }
        Ok(pauses)
    }

    pub(crate) async fn pause(
        &self,
        what: &Paused,
        reason: Option<&str>,
        created_by: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO pause (kind, name, reason, created_by, created_at_ms) VALUES ($1, $2, $3, $4, $5)")
            .bind(what.kind())
            .bind(what.name())
            .bind(reason)
            .bind(created_by)
            .bind(now_ms)
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}
