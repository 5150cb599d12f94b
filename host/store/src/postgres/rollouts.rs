//! Which releases serve, and what is paused.
//!
//! Replicas detect a change by the highest number of these rows. Changes are therefore made one at a time, under a lock
//! that is taken before a number is drawn: a number that was drawn earlier and committed later would go unnoticed.

use sqlx::Row;
use uuid::Uuid;

use super::Postgres;
use super::audit_log::note;
use super::connections::Session;
use crate::{NewChange, Pause, Paused, Release, Rollout, StoreError, TrialChange};

/// The last release before the current one that has not been suspended since.
macro_rules! before {
    () => {
        "(SELECT before.release_id FROM belfry.rollout AS before \
           WHERE before.projector = now.projector AND before.id < now.id AND before.release_id <> now.release_id \
             AND NOT EXISTS (SELECT FROM belfry.rollout AS out WHERE out.projector = now.projector \
                              AND out.suspended_release_id = before.release_id AND out.id >= before.id) \
           ORDER BY before.id DESC LIMIT 1)"
    };
}

/// A query for rollouts.
macro_rules! select_rollouts {
    ($condition:literal) => {
        concat!(
            "SELECT id, projector, release_id, created_by, (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms, ",
            before!(),
            " AS previous_release_id, suspended_release_id, reason, candidate_id, candidate_share, candidate_plan, candidate_step, retired \
             FROM belfry.rollout AS now ",
            $condition
        )
    };
}

async fn one_at_a_time(transaction: &mut Session) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(7341, 'belfry.rollout'::regclass::oid::int)")
        .execute(transaction)
        .await?;
    Ok(())
}

impl Postgres {
    /// Activates releases, each with its change for the audit log.
    pub(crate) async fn serve(&self, changes: &[(&Release, NewChange)], now_ms: i64) -> Result<(), StoreError> {
        let mut transaction = self.readers.begin().await?;
        one_at_a_time(&mut transaction).await?;
        for (release, change) in changes {
            sqlx::query(
                "INSERT INTO belfry.rollout (projector, release_id, created_by, created_at) \
                 VALUES ($1, $2, $3, to_timestamp($4 / 1000.0))",
            )
            .bind(&release.projector)
            .bind(release.id)
            .bind(&change.by)
            .bind(now_ms)
            .execute(&mut *transaction)
            .await?;
            note(&mut transaction, change, now_ms).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(crate) async fn activate_first(
        &self,
        release: &Release,
        created_by: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.readers.begin().await?;
        // Replicas that start together on an empty store all do this.
        one_at_a_time(&mut transaction).await?;
        let done = sqlx::query(
            "INSERT INTO belfry.rollout (projector, release_id, created_by, created_at) \
             SELECT $1, $2, $3, to_timestamp($4 / 1000.0) WHERE NOT EXISTS (SELECT FROM belfry.rollout)",
        )
        .bind(&release.projector)
        .bind(release.id)
        .bind(created_by)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() > 0 {
            note(&mut transaction, &NewChange::activated(release, created_by), now_ms).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(crate) async fn suspend(&self, release: &Release, reason: &str, now_ms: i64) -> Result<bool, StoreError> {
        let mut transaction = self.readers.begin().await?;
        // Several replicas may detect the same failure at once; the first one suspends the release.
        one_at_a_time(&mut transaction).await?;
        let done = sqlx::query(concat!(
            "INSERT INTO belfry.rollout (projector, release_id, suspended_release_id, reason, created_by, created_at) \
             SELECT now.projector, coalesce(",
            before!(),
            ", now.release_id), now.release_id, $3, 'belfry', to_timestamp($4 / 1000.0) \
               FROM belfry.rollout AS now \
              WHERE now.id = (SELECT max(id) FROM belfry.rollout WHERE projector = $1) AND now.release_id = $2 \
                AND now.suspended_release_id IS DISTINCT FROM now.release_id AND NOT now.retired"
        ))
        .bind(&release.projector)
        .bind(release.id)
        .bind(reason)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() > 0 {
            note(&mut transaction, &NewChange::suspended(release, reason), now_ms).await?;
        }
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    pub(crate) async fn retire_projector(
        &self,
        rollout: &Rollout,
        reason: &str,
        created_by: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.readers.begin().await?;
        one_at_a_time(&mut transaction).await?;
        let done = sqlx::query(
            "INSERT INTO belfry.rollout (projector, release_id, suspended_release_id, retired, reason, created_by, created_at) \
             SELECT now.projector, now.release_id, \
                    CASE WHEN now.suspended_release_id = now.release_id THEN now.release_id END, \
                    true, $3, $4, to_timestamp($5 / 1000.0) \
               FROM belfry.rollout AS now \
              WHERE now.id = $2 AND now.id = (SELECT max(id) FROM belfry.rollout WHERE projector = $1)",
        )
        .bind(&rollout.projector)
        .bind(rollout.id)
        .bind(reason)
        .bind(created_by)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() > 0 {
            note(&mut transaction, &NewChange::retired(rollout, reason, created_by), now_ms).await?;
        }
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    pub(crate) async fn rollouts(&self) -> Result<Vec<Rollout>, StoreError> {
        Ok(sqlx::query_as(select_rollouts!(
            "WHERE id IN (SELECT max(id) FROM belfry.rollout GROUP BY projector) ORDER BY projector"
        ))
        .fetch_all(&self.readers)
        .await?)
    }

    pub(crate) async fn change_trial(&self, change: &TrialChange<'_>, now_ms: i64) -> Result<bool, StoreError> {
        let TrialChange { projector, after, release_id, candidate, suspended_release_id, reason, created_by, .. } =
            *change;
        let mut transaction = self.readers.begin().await?;
        one_at_a_time(&mut transaction).await?;
        // A suspended release without a release to return to stays suspended.
        let done = sqlx::query(
            "INSERT INTO belfry.rollout (projector, release_id, suspended_release_id, candidate_id, candidate_share, \
                                         candidate_plan, candidate_step, reason, created_by, created_at) \
             SELECT now.projector, $3, \
                    coalesce($4, CASE WHEN now.suspended_release_id = $3 THEN now.suspended_release_id END), \
                    $5, $6, $7, $8, $9, $10, to_timestamp($11 / 1000.0) \
               FROM belfry.rollout AS now \
              WHERE now.id = $2 AND now.id = (SELECT max(id) FROM belfry.rollout WHERE projector = $1)",
        )
        .bind(projector)
        .bind(after)
        .bind(release_id)
        .bind(suspended_release_id)
        .bind(candidate.map(|candidate| candidate.release_id))
        .bind(candidate.and_then(|candidate| candidate.share).map(u32::cast_signed))
        .bind(candidate.and_then(|candidate| candidate.plan.as_deref()))
        .bind(candidate.and_then(|candidate| candidate.step).map(u32::cast_signed))
        .bind(reason)
        .bind(created_by)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() > 0 {
            note(&mut transaction, &NewChange::of_trial(change), now_ms).await?;
        }
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    pub(crate) async fn keep_tally(
        &self,
        rollout_id: i64,
        replica: Uuid,
        tally: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO belfry.trial_tally (rollout_id, replica, tally, updated_at) \
             VALUES ($1, $2, $3, to_timestamp($4 / 1000.0)) \
             ON CONFLICT (rollout_id, replica) DO UPDATE SET tally = excluded.tally, updated_at = excluded.updated_at",
        )
        .bind(rollout_id)
        .bind(replica)
        .bind(tally)
        .bind(now_ms)
        .execute(&self.readers)
        .await?;
        Ok(())
    }

    pub(crate) async fn trial(&self, projector: &str) -> Result<(Vec<Rollout>, Vec<(i64, String)>), StoreError> {
        let rollouts: Vec<Rollout> = sqlx::query_as(select_rollouts!(
            "WHERE projector = $1 AND id > coalesce( \
               (SELECT max(other.id) FROM belfry.rollout AS other, \
                       (SELECT id, candidate_id FROM belfry.rollout WHERE projector = $1 AND candidate_id IS NOT NULL \
                         ORDER BY id DESC LIMIT 1) AS last \
                 WHERE other.projector = $1 AND other.id < last.id \
                   AND other.candidate_id IS DISTINCT FROM last.candidate_id), 0) \
             ORDER BY id"
        ))
        .bind(projector)
        .fetch_all(&self.readers)
        .await?;
        let ids: Vec<i64> = rollouts.iter().map(|rollout| rollout.id).collect();
        let tallies = sqlx::query_as("SELECT rollout_id, tally FROM belfry.trial_tally WHERE rollout_id = ANY ($1)")
            .bind(&ids)
            .fetch_all(&self.readers)
            .await?;
        Ok((rollouts, tallies))
    }

    pub(crate) async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        let rows = sqlx::query(
            "SELECT kind, name, reason, created_by, (extract(epoch FROM created_at) * 1000)::bigint FROM belfry.pause AS now \
              WHERE reason IS NOT NULL AND id = (SELECT max(id) FROM belfry.pause AS latest \
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
        let mut transaction = self.readers.begin().await?;
        one_at_a_time(&mut transaction).await?;
        sqlx::query(
            "INSERT INTO belfry.pause (kind, name, reason, created_by, created_at) \
             VALUES ($1, $2, $3, $4, to_timestamp($5 / 1000.0))",
        )
        .bind(what.kind())
        .bind(what.name())
        .bind(reason)
        .bind(created_by)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
        note(&mut transaction, &NewChange::paused(what, reason, created_by), now_ms).await?;
        Ok(transaction.commit().await?)
    }
}
