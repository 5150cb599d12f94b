//! Write transactions.
//!
//! After some errors, such as a full disk, SQLite rolls back automatically. The driver's own transactions do not detect
//! this: the next one would be nested in one that is no longer open, and so would all later ones. Here a transaction
//! that is not committed closes its connection, and the next one begins on a new connection.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{Sqlite as Driver, SqliteConnection};

use super::Sqlite;
use crate::StoreError;

/// A transaction that holds the order lock until it ends.
pub(super) struct Transaction {
    connection: PoolConnection<Driver>,
    open: bool,
}

impl Sqlite {
    /// Begins a transaction that may write.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        self.file.check()?;
        let mut transaction = Transaction { connection: self.writer.acquire().await?, open: true };
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *transaction).await?;
        Ok(transaction)
    }
}

impl Transaction {
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("COMMIT").execute(&mut *self).await?;
        self.open = false;
        Ok(())
    }

    pub(super) async fn roll_back(mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("ROLLBACK").execute(&mut *self).await?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.open {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Transaction {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}
