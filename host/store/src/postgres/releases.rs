//! Releases, and the signatures of their components.

use sqlx::{FromRow, Row};

use super::Postgres;
use super::audit_log::note;
use super::connections::Session;
use crate::rows::exactly;
use crate::{AddRelease, Added, ComponentSignature, NewChange, NewRelease, Release, ReleaseName, StoreError};

/// A release's columns.
macro_rules! columns {
    () => {
        "id, projector, version, digest, config, description, note, created_by, \
         (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms, admission"
    };
}

impl Postgres {
    pub(crate) async fn add_release(&self, new: &NewRelease, now_ms: i64) -> Result<AddRelease, StoreError> {
        let mut transaction = self.viewers.begin().await?;
        // Replicas that start together on an empty store add the same release.
        sqlx::query("SELECT pg_advisory_xact_lock(7341, 'belfry.release'::regclass::oid::int)")
            .execute(&mut *transaction)
            .await?;
        let same_version: Vec<Release> = sqlx::query_as(concat!(
            "SELECT ",
            columns!(),
            " FROM belfry.release WHERE projector = $1 AND version = $2"
        ))
        .bind(&new.projector)
        .bind(&new.version)
        .fetch_all(&mut *transaction)
        .await?;
        for existing in same_version {
            if existing.digest != new.digest {
                return Ok(AddRelease::OtherDigest(existing.digest));
            }
            if existing.config == new.config {
                // The release may have been added without this signature.
                if vouch(&mut transaction, new, now_ms).await? {
                    let signed = NewChange::signed(&existing, new);
                    note(&mut transaction, &signed, now_ms).await?;
                }
                transaction.commit().await?;
                return Ok(AddRelease::There(Added::Existing, existing));
            }
        }
        sqlx::query(
            "INSERT INTO belfry.component (digest, bytes, created_at) VALUES ($1, $2, to_timestamp($3 / 1000.0)) \
             ON CONFLICT DO NOTHING",
        )
        .bind(new.digest.as_slice())
        .bind(&new.component[..])
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
        vouch(&mut transaction, new, now_ms).await?;
        let release: Release = sqlx::query_as(concat!(
            "INSERT INTO belfry.release (projector, version, digest, config, description, note, created_by, created_at, \
                                         admission) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8 / 1000.0), $9) RETURNING ",
            columns!()
        ))
        .bind(&new.projector)
        .bind(&new.version)
        .bind(new.digest.as_slice())
        .bind(&new.config)
        .bind(&new.description)
        .bind(&new.note)
        .bind(&new.created_by)
        .bind(now_ms)
        .bind(&new.admission)
        .fetch_one(&mut *transaction)
        .await?;
        note(&mut transaction, &NewChange::pushed(&release), now_ms).await?;
        transaction.commit().await?;
        Ok(AddRelease::There(Added::New, release))
    }

    pub(crate) async fn releases(&self, projector: Option<&str>) -> Result<Vec<Release>, StoreError> {
        Ok(sqlx::query_as(concat!(
            "SELECT ",
            columns!(),
            " FROM belfry.release WHERE $1 IS NULL OR projector = $1 ORDER BY id"
        ))
        .bind(projector)
        .fetch_all(&self.readers)
        .await?)
    }

    pub(crate) async fn release_names(&self) -> Result<Vec<ReleaseName>, StoreError> {
        let rows = sqlx::query_as("SELECT id, projector, version FROM belfry.release").fetch_all(&self.readers).await?;
        Ok(rows.into_iter().map(|(id, projector, version)| ReleaseName { id, projector, version }).collect())
    }

    pub(crate) async fn release(&self, release_id: i64) -> Result<Option<Release>, StoreError> {
        Ok(sqlx::query_as(concat!("SELECT ", columns!(), " FROM belfry.release WHERE id = $1"))
            .bind(release_id)
            .fetch_optional(&self.readers)
            .await?)
    }

    pub(crate) async fn component(&self, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(sqlx::query_scalar("SELECT bytes FROM belfry.component WHERE digest = $1")
            .bind(digest.as_slice())
            .fetch_optional(&self.readers)
            .await?)
    }

    pub(crate) async fn component_signatures(&self) -> Result<Vec<([u8; 32], ComponentSignature)>, StoreError> {
        let rows = sqlx::query("SELECT digest, public_key, signature, signer FROM belfry.component_signature")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((exactly(row.try_get("digest")?)?, ComponentSignature::from_row(row)?))).collect()
    }
}

/// Stores the component's signature, if there is one. Returns whether it is new.
async fn vouch(transaction: &mut Session, new: &NewRelease, now_ms: i64) -> Result<bool, StoreError> {
    let Some(ComponentSignature { public_key, signature, signer }) = &new.signature else { return Ok(false) };
    let done = sqlx::query(
        "INSERT INTO belfry.component_signature (digest, public_key, signature, signer, created_at) \
         VALUES ($1, $2, $3, $4, to_timestamp($5 / 1000.0)) ON CONFLICT DO NOTHING",
    )
    .bind(new.digest.as_slice())
    .bind(public_key.as_slice())
    .bind(signature.as_slice())
    .bind(signer)
    .bind(now_ms)
    .execute(transaction)
    .await?;
    Ok(done.rows_affected() > 0)
}
