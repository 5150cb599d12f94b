//! Releases, and the signatures of their components.

use sqlx::{FromRow, Row, SqliteConnection};

use super::Sqlite;
use super::audit_log::note;
use crate::rows::exactly;
use crate::{AddRelease, Added, ComponentSignature, NewChange, NewRelease, Release, ReleaseName, StoreError};

impl Sqlite {
    pub(crate) async fn add_release(&self, new: &NewRelease, now_ms: i64) -> Result<AddRelease, StoreError> {
        let mut transaction = self.begin().await?;
        let same_version: Vec<Release> = sqlx::query_as(
            "SELECT id, projector, version, digest, config, description, note, created_by, created_at_ms, admission FROM release \
             WHERE projector = $1 AND version = $2",
        )
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
        sqlx::query("INSERT INTO component (digest, bytes, created_at_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(new.digest.as_slice())
            .bind(&new.component[..])
            .bind(now_ms)
            .execute(&mut *transaction)
            .await?;
        vouch(&mut transaction, new, now_ms).await?;
        let release: Release = sqlx::query_as(
            "INSERT INTO release (projector, version, digest, config, description, note, created_by, created_at_ms, \
                                  admission) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             RETURNING id, projector, version, digest, config, description, note, created_by, created_at_ms, admission",
        )
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
        Ok(sqlx::query_as(
            "SELECT id, projector, version, digest, config, description, note, created_by, created_at_ms, admission FROM release \
             WHERE $1 IS NULL OR projector = $1 ORDER BY id",
        )
        .bind(projector)
        .fetch_all(&self.readers)
        .await?)
    }

    pub(crate) async fn release_names(&self) -> Result<Vec<ReleaseName>, StoreError> {
        let rows = sqlx::query_as("SELECT id, projector, version FROM release").fetch_all(&self.readers).await?;
        Ok(rows.into_iter().map(|(id, projector, version)| ReleaseName { id, projector, version }).collect())
    }

    pub(crate) async fn release(&self, release_id: i64) -> Result<Option<Release>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, projector, version, digest, config, description, note, created_by, created_at_ms, admission FROM release \
             WHERE id = $1",
        )
        .bind(release_id)
        .fetch_optional(&self.readers)
        .await?)
    }

    pub(crate) async fn component(&self, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(sqlx::query_scalar("SELECT bytes FROM component WHERE digest = $1")
            .bind(digest.as_slice())
            .fetch_optional(&self.readers)
            .await?)
    }

    pub(crate) async fn component_signatures(&self) -> Result<Vec<([u8; 32], ComponentSignature)>, StoreError> {
        let rows = sqlx::query("SELECT digest, public_key, signature, signer FROM component_signature")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((exactly(row.try_get("digest")?)?, ComponentSignature::from_row(row)?))).collect()
    }
}

/// Stores the component's signature, if there is one. Returns whether it is new.
async fn vouch(transaction: &mut SqliteConnection, new: &NewRelease, now_ms: i64) -> Result<bool, StoreError> {
    let Some(ComponentSignature { public_key, signature, signer }) = &new.signature else { return Ok(false) };
    let done = sqlx::query(
        "INSERT INTO component_signature (digest, public_key, signature, signer, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
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
