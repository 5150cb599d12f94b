//! How far each source has been read.

use sqlx::Row;

use super::Sqlite;
use super::changes::note;
use crate::{NewChange, SourcePartition, StoreError};

impl Sqlite {
    pub(crate) async fn source_positions(
        &self,
        group: &str,
        topic: Option<&str>,
    ) -> Result<Vec<(SourcePartition, i64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT consumer_group, topic, partition, next_offset FROM consumer_position \
             WHERE consumer_group = $1 AND ($2 IS NULL OR topic = $2) ORDER BY topic, partition",
        )
        .bind(group)
        .bind(topic)
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let partition =
                    SourcePartition { group: row.try_get(0)?, topic: row.try_get(1)?, partition: row.try_get(2)? };
                Ok((partition, row.try_get(3)?))
            })
            .collect()
    }

    pub(crate) async fn begin_source(&self, partition: &SourcePartition, start: i64) -> Result<i64, StoreError> {
        sqlx::query(
            "INSERT INTO consumer_position (consumer_group, topic, partition, next_offset) \
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(&partition.group)
        .bind(&partition.topic)
        .bind(partition.partition)
        .bind(start)
        .execute(&self.writer)
        .await?;
        Ok(sqlx::query_scalar(
            "SELECT next_offset FROM consumer_position \
             WHERE consumer_group = $1 AND topic = $2 AND partition = $3",
        )
        .bind(&partition.group)
        .bind(&partition.topic)
        .bind(partition.partition)
        .fetch_one(&self.readers)
        .await?)
    }

    pub(crate) async fn begin_sources(&self, starts: &[(SourcePartition, i64)]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for (partition, start) in starts {
            sqlx::query(
                "INSERT INTO consumer_position (consumer_group, topic, partition, next_offset) \
                 VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(&partition.group)
            .bind(&partition.topic)
            .bind(partition.partition)
            .bind(start)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(crate) async fn set_source_position(
        &self,
        partition: &SourcePartition,
        next: i64,
        by: &str,
        now_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        let mut transaction = self.begin().await?;
        let was = sqlx::query_scalar(
            "SELECT next_offset FROM consumer_position WHERE consumer_group = $1 AND topic = $2 AND partition = $3",
        )
        .bind(&partition.group)
        .bind(&partition.topic)
        .bind(partition.partition)
        .fetch_optional(&mut *transaction)
        .await?;
        sqlx::query(
            "INSERT INTO consumer_position (consumer_group, topic, partition, next_offset) \
             VALUES ($1, $2, $3, $4) \
             ON CONFLICT (consumer_group, topic, partition) DO UPDATE SET next_offset = excluded.next_offset",
        )
        .bind(&partition.group)
        .bind(&partition.topic)
        .bind(partition.partition)
        .bind(next)
        .execute(&mut *transaction)
        .await?;
        note(&mut transaction, &NewChange::position_set(partition, was, next, by), now_ms).await?;
        transaction.commit().await?;
        Ok(was)
    }
}
