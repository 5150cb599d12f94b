//! Access tokens of the API.

use super::Sqlite;
use super::audit_log::note;
use crate::{NewChange, NewToken, StoreError, Token};

impl Sqlite {
    pub(crate) async fn add_token(&self, new: &NewToken, now_ms: i64) -> Result<Option<Token>, StoreError> {
        let mut transaction = self.begin().await?;
        let token = sqlx::query_as(
            "INSERT INTO access_token (name, role, sha256, created_by, created_at_ms, expires_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING \
             RETURNING id, name, role, sha256, created_by, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms, \
                       revoked_by",
        )
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
        Ok(sqlx::query_as(
            "SELECT id, name, role, sha256, created_by, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms, \
                    revoked_by FROM access_token ORDER BY id",
        )
        .fetch_all(&self.readers)
        .await?)
    }

    pub(crate) async fn revoke_token(&self, name: &str, by: &str, now_ms: i64) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE access_token SET revoked_at_ms = $3, revoked_by = $2 WHERE name = $1 AND revoked_at_ms IS NULL",
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
            "UPDATE access_token SET last_used_at_ms = $2 \
              WHERE id = $1 AND (last_used_at_ms IS NULL OR last_used_at_ms <= $2 - 60000)",
        )
        .bind(id)
        .bind(now_ms)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
