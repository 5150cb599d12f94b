//! Connections to the server, with a client-side time limit for each statement. The server's own limits do not help
//! when the network drops all packets, or when the server's machine is gone.
//!
//! The driver's own pool tests each connection that is returned, without a time limit: on a silent network that test
//! never ends, and its slot in the pool is lost. Here a connection whose last use failed is closed instead.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgQueryResult, PgRow, PgSeverity, PgStatement, PgTypeInfo};
use sqlx::{ConnectOptions, Either, Error, Execute, Executor, PgConnection, Postgres as Driver, SqlStr};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// A pool of connections for one kind of use. Cheap to clone.
///
/// As an [`Executor`], it lends a connection for each statement.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool<Connector>,
    limits: Limits,
}

/// Time limits for the use of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// To get a free connection, or to open a new one.
    pub(super) connect: Duration,
    /// For each statement. Longer than the server's own limit, which leaves the connection intact.
    pub(super) statement: Duration,
}

/// A counter of connection failures across all pools of one server. Connections that were opened before the last
/// failure are not used again, because what broke one of them has most likely broken the others.
#[derive(Clone, Default)]
pub(super) struct Breakages(Arc<AtomicU64>);

impl Breakages {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Connector {
    options: PgConnectOptions,
    breakages: Breakages,
}

/// A connection, and the number of failures at the time it was opened.
struct Opened {
    connection: PgConnection,
    breakages: u64,
}

impl Manager for Connector {
    type Type = Opened;
    type Error = Error;

    async fn create(&self) -> Result<Opened, Error> {
        let breakages = self.breakages.count();
        Ok(Opened { connection: self.options.connect().await?, breakages })
    }

    /// A connection that broke while it was idle is detected by the statement that uses it.
    async fn recycle(&self, opened: &mut Opened, _: &Metrics) -> RecycleResult<Error> {
        if opened.breakages == self.breakages.count() {
            return Ok(());
        }
        Err(RecycleError::message("opened before the last connection failure"))
    }
}

impl Connections {
    pub(super) fn new(options: PgConnectOptions, size: u32, limits: Limits, breakages: Breakages) -> Self {
        let connector = Connector { options, breakages };
        let pool = Pool::builder(connector).max_size(size as usize).build();
        // Only a pool with its own timeouts can fail to build.
        Self { pool: pool.expect("a pool without a runtime"), limits }
    }

    /// Lends a connection. Waits within the time limit for a free or a new one.
    pub(super) async fn lend(&self) -> Result<Session, Error> {
        let lent = timeout(self.limits.connect, self.pool.get()).await.map_err(|_| Error::PoolTimedOut)?;
        let object = lent.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Closed => Error::PoolClosed,
            _ => Error::PoolTimedOut,
        })?;
        Ok(Session { object: Some(object), limit: self.limits.statement, sound: true })
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<Transaction, Error> {
        let mut session = self.lend().await?;
        sqlx::raw_sql("BEGIN").execute(&mut session).await?;
        Ok(Transaction { session, open: true })
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connections").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A connection that is lent. It returns to the pool only if its last use left it intact.
pub(super) struct Session {
    /// Absent only while it is dropped.
    object: Option<Object<Connector>>,
    limit: Duration,
    /// False while a statement is running, so that cancelling the statement closes the connection.
    sound: bool,
}

impl Session {
    /// Returns the connection itself, for a use with its own time limit.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.sound = false;
        &mut self.object.as_mut().expect("present until the session is dropped").connection
    }

    fn settle<T>(&mut self, outcome: Result<Result<T, Error>, Elapsed>) -> Result<T, Error> {
        let silent =
            |_| Error::Io(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {:?}", self.limit)));
        let result = outcome.map_err(silent).flatten();
        self.sound = match &result {
            Ok(_) => true,
            Err(error) => !is_fatal(error),
        };
        if !self.sound
            && let Some(pool) = self.object.as_ref().and_then(Object::pool)
        {
            pool.manager().breakages.note();
        }
        result
    }

    async fn run<'q, E: Execute<'q, Driver> + 'q>(
        &mut self,
        query: E,
    ) -> Result<Vec<Either<PgQueryResult, PgRow>>, Error> {
        let limit = self.limit;
        let outcome = timeout(limit, self.connection().fetch_many(query).try_collect()).await;
        self.settle(outcome)
    }

    async fn run_for_one<'q, E: Execute<'q, Driver> + 'q>(&mut self, query: E) -> Result<Option<PgRow>, Error> {
        let limit = self.limit;
        let outcome = timeout(limit, self.connection().fetch_optional(query)).await;
        self.settle(outcome)
    }

    async fn prepare_limited(&mut self, sql: SqlStr, parameters: &[PgTypeInfo]) -> Result<PgStatement, Error> {
        let limit = self.limit;
        let outcome = timeout(limit, self.connection().prepare_with(sql, parameters)).await;
        self.settle(outcome)
    }
}

/// Returns whether an error leaves the connection unusable, or in an unknown state.
fn is_fatal(error: &Error) -> bool {
    match error {
        Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_none_or(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)),
        Error::RowNotFound | Error::ColumnDecode { .. } | Error::ColumnNotFound(_) | Error::Decode(_) => false,
        _ => true,
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.sound
            && let Some(object) = self.object.take()
        {
            // The server rolls back the open transaction, if any.
            drop(Object::take(object));
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").field("sound", &self.sound).finish_non_exhaustive()
    }
}

/// A transaction. Unless it is committed or rolled back, its connection is closed, and the server rolls it back.
#[derive(Debug)]
pub(super) struct Transaction {
    session: Session,
    open: bool,
}

impl Transaction {
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        sqlx::raw_sql("COMMIT").execute(&mut self.session).await?;
        self.open = false;
        Ok(())
    }

    pub(super) async fn roll_back(mut self) -> Result<(), Error> {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.session).await?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.session.sound &= !self.open;
    }
}

impl Deref for Transaction {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// All steps of a statement, once the last one has arrived: the time limit applies to the whole statement.
type Steps<'e> = BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>;

fn steps<'e>(run: impl Future<Output = Result<Vec<Either<PgQueryResult, PgRow>>, Error>> + Send + 'e) -> Steps<'e> {
    stream::once(run).map_ok(|steps| stream::iter(steps.into_iter().map(Ok))).try_flatten().boxed()
}

impl<'c> Executor<'c> for &'c mut Session {
    type Database = Driver;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Steps<'e>
    where
        'c: 'e,
        E: 'q + Execute<'q, Driver>,
    {
        steps(self.run(query))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Driver>,
    {
        Box::pin(self.run_for_one(query))
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        Box::pin(self.prepare_limited(sql, parameters))
    }
}

impl<'c> Executor<'c> for &'_ Connections {
    type Database = Driver;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Steps<'e>
    where
        'c: 'e,
        E: 'q + Execute<'q, Driver>,
    {
        let connections = self.clone();
        steps(async move { connections.lend().await?.run(query).await })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Driver>,
    {
        let connections = self.clone();
        Box::pin(async move { connections.lend().await?.run_for_one(query).await })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        let connections = self.clone();
        Box::pin(async move { connections.lend().await?.prepare_limited(sql, parameters).await })
    }
}
