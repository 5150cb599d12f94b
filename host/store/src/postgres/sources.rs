//! Positions of the sources.

use sqlx::Row;

use super::Postgres;
use super::audit_log::note;
use crate::{NewChange, SourcePartition, SourcePosition, StoreError};

impl Postgres {
    pub(crate) async fn source_positions(
        &self,
        group: &str,
        topic: Option<&str>,
    ) -> Result<Vec<SourcePosition>, StoreError> {
        let rows = sqlx::query(
            "SELECT consumer_group, topic, partition, next_offset, topic_id FROM belfry.consumer_position \
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
                Ok(SourcePosition { partition, next: row.try_get(3)?, topic_id: row.try_get(4)? })
            })
            .collect()
    }

    pub(crate) async fn begin_source(&self, partition: &SourcePartition, start: i64) -> Result<i64, StoreError> {
        sqlx::query(
            "INSERT INTO belfry.consumer_position (consumer_group, topic, partition, next_offset) \
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(&partition.group)
        .bind(&partition.topic)
        .bind(partition.partition)
        .bind(start)
        .execute(&self.readers)
        .await?;
        Ok(sqlx::query_scalar(
            "SELECT next_offset FROM belfry.consumer_position \
             WHERE consumer_group = $1 AND topic = $2 AND partition = $3",
        )
        .bind(&partition.group)
        .bind(&partition.topic)
        .bind(partition.partition)
        .fetch_one(&self.readers)
        .await?)
    }

    pub(crate) async fn begin_sources(&self, starts: &[SourcePosition]) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO belfry.consumer_position (consumer_group, topic, partition, next_offset, topic_id) \
             SELECT g, t, p, n, i FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::text[]) s (g, t, p, n, i) \
             ORDER BY g, t, p ON CONFLICT DO NOTHING",
        )
        .bind(starts.iter().map(|start| start.partition.group.as_str()).collect::<Vec<_>>())
        .bind(starts.iter().map(|start| start.partition.topic.as_str()).collect::<Vec<_>>())
        .bind(starts.iter().map(|start| start.partition.partition).collect::<Vec<_>>())
        .bind(starts.iter().map(|start| start.next).collect::<Vec<_>>())
        .bind(starts.iter().map(|start| start.topic_id.as_deref()).collect::<Vec<_>>())
        .execute(&self.readers)
        .await?;
        Ok(())
    }

    pub(crate) async fn note_topic_id(&self, group: &str, topic: &str, topic_id: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE belfry.consumer_position SET topic_id = $3 \
              WHERE consumer_group = $1 AND topic = $2 AND topic_id IS NULL",
        )
        .bind(group)
        .bind(topic)
        .bind(topic_id)
        .execute(&self.readers)
        .await?;
        Ok(())
    }

    pub(crate) async fn set_source_position(
        &self,
        position: &SourcePosition,
        by: &str,
        now_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        let SourcePosition { partition, next, topic_id } = position;
        let mut transaction = self.readers.begin().await?;
        let was = sqlx::query_scalar(
            "SELECT next_offset FROM belfry.consumer_position \
              WHERE consumer_group = $1 AND topic = $2 AND partition = $3 FOR UPDATE",
        )
        .bind(&partition.group)
        .bind(&partition.topic)
        .bind(partition.partition)
        .fetch_optional(&mut *transaction)
        .await?;
        sqlx::query(
            "INSERT INTO belfry.consumer_position (consumer_group, topic, partition, next_offset, topic_id) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (consumer_group, topic, partition) \
             DO UPDATE SET next_offset = excluded.next_offset, topic_id = excluded.topic_id",
        )
        .bind(&partition.group)
        .bind(&partition.topic)
        .bind(partition.partition)
        .bind(next)
        .bind(topic_id)
        .execute(&mut *transaction)
        .await?;
        note(&mut transaction, &NewChange::position_set(partition, was, *next, by), now_ms).await?;
        transaction.commit().await?;
        Ok(was)
    }
}
