//! Access tokens of the API.

use super::Postgres;
use super::audit_log::note;
use crate::{NewChange, NewToken, StoreError, Token};

/// A token's columns.
macro_rules! columns {
    () => {
        "id, name, role, sha256, created_by, (extract(epoch FROM created_at) * 1000)::bigint AS created_at_ms, \
         (extract(epoch FROM expires_at) * 1000)::bigint AS expires_at_ms, \
         (extract(epoch FROM last_used_at) * 1000)::bigint AS last_used_at_ms, \
         (extract(epoch FROM revoked_at) * 1000)::bigint AS revoked_at_ms, revoked_by"
    };
}

impl Postgres {
    pub(crate) async fn add_token(&self, new: &NewToken, now_ms: i64) -> Result<Option<Token>, StoreError> {
        let mut transaction = self.readers.begin().await?;
        let token = sqlx::query_as(concat!(
            "INSERT INTO belfry.access_token (name, role, sha256, created_by, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, to_timestamp($5 / 1000.0), to_timestamp($6 / 1000.0)) ON CONFLICT DO NOTHING RETURNING ",
            columns!()
        ))
        .bind(&new.name)
        .bind(&new.role)
        .bind(new.sha256.as_slice())
        .bind(&new.created_by)
        .bind(now_ms)
        .bind(new.expires_at_ms)
        .fetch_optional(&mut *transaction)
        .await?;
        if token.is_some() {
            note(&mut transaction, &NewChange::token_made(new), now_ms).await?;
        }
        transaction.commit().await?;
        Ok(token)
    }

    pub(crate) async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        Ok(sqlx::query_as(concat!("SELECT ", columns!(), " FROM belfry.access_token ORDER BY id"))
            .fetch_all(&self.readers)
            .await?)
    }

    pub(crate) async fn revoke_token(&self, name: &str, by: &str, now_ms: i64) -> Result<bool, StoreError> {
        let mut transaction = self.readers.begin().await?;
        let done = sqlx::query(
            "UPDATE belfry.access_token SET revoked_at = to_timestamp($3 / 1000.0), revoked_by = $2 \
              WHERE name = $1 AND revoked_at IS NULL",
        )
        .bind(name)
        .bind(by)
        .bind(now_ms)
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() > 0 {
            note(&mut transaction, &NewChange::token_revoked(name, by), now_ms).await?;
        }
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    pub(crate) async fn note_token_used(&self, id: i64, now_ms: i64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE belfry.access_token SET last_used_at = to_timestamp($2 / 1000.0) \
              WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= to_timestamp($2 / 1000.0) - interval '1 minute')",
        )
        .bind(id)
        .bind(now_ms)
        .execute(&self.readers)
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
