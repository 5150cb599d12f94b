//! Access control: tokens and their roles.
//!
//! Tokens come from two places. The tokens file belongs to the configuration and is read once, at the start. Tokens in the
//! database are created and revoked while the service runs, and are valid on every replica. A replica caches the valid ones
//! in memory. It reads them again when the heartbeat sees a change, and when a request has a token and the cache is older
//! than 900 ms. A revocation therefore takes effect within about a second, even if the replica is not notified.

mod denials;
mod issue;
mod role;
mod secret;
mod tokens_file;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use belfry_store::{Store, StoreError, now_ms};
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

pub(crate) use denials::Denials;
pub(crate) use issue::is_name;
pub use issue::{IssueError, Issued, NewAccess, issue, list, revoke};
pub use role::{Role, UnknownRole};
pub use secret::{Secret, TOKEN_PREFIX};
pub use tokens_file::{Tokens, TokensError};
pub use view::TokenView;

use crate::heartbeat::Seen;

/// Maximum age of the cache to accept a token in it, and to reject a token that is not in it, which may be new.
const FRESH: Duration = Duration::from_millis(900);
const NEW: Duration = Duration::from_millis(200);
/// Maximum age of the cache while the database does not answer.
const STALE: Duration = Duration::from_secs(30);
/// Time limit for a request to wait for the tokens to be read.
const WAIT: Duration = Duration::from_secs(2);
/// Once a read has taken this long, requests no longer wait for it as long as the cache is younger than [`STALE`].
const HANGS: Duration = Duration::from_millis(500);
/// Time limit of a read. After that, another is started.
const READ: Duration = Duration::from_secs(10);
/// Minimum pause between a failed read and the next.
const RETRY: Duration = Duration::from_millis(200);
/// Minimum interval between two records of a token's use.
const USE_NOTED: Duration = Duration::from_secs(60);

/// The caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The name in releases and in the audit log.
    pub(crate) name: String,
    pub(crate) role: Role,
    /// The id of a token in the database; `None` for a token of the file, and without a token.
    token: Option<i64>,
}

/// Why the caller of a request cannot be identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The request has no token, but needs one.
    Missing,
    /// The token is unknown, expired or revoked.
    Unknown,
    /// The tokens cannot be read, and the cache is too old.
    Unavailable,
}

/// The valid tokens. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    file: Option<Tokens>,
    /// Whether a request needs a token.
    required: bool,
    denials: Denials,
    kept: ArcSwap<CachedTokens>,
    reading: StdMutex<Reading>,
    /// Number of reads that have ended, successfully or not.
    ended: watch::Sender<u64>,
    /// When the use of each token was last recorded.
    used: StdMutex<HashMap<i64, Instant>>,
    /// Number of successful reads.
    reads: watch::Sender<u64>,
}

/// The state of reading. At most one read is in progress, and all requests wait for the same one.
#[derive(Default)]
struct Reading {
    /// When the read in progress began.
    since: Option<Instant>,
    failed_at: Option<Instant>,
}

/// The tokens cannot be read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("cannot read the tokens from the database")]
pub(crate) struct NotRead;

/// The cached valid tokens of the database, by their hashes.
struct CachedTokens {
    tokens: HashMap<[u8; 32], Granted>,
    read_at: Instant,
}

#[derive(Clone)]
struct Granted {
    id: i64,
    name: String,
    role: Role,
    expires_at_ms: Option<i64>,
}

impl Granted {
    fn counts(&self) -> bool {
        self.expires_at_ms.is_none_or(|expires_at_ms| now_ms() < expires_at_ms)
    }
}

impl Access {
    /// Reads the tokens of the database. With `required` or a tokens file, every request needs a token.
    pub(crate) async fn open(
        store: Store,
        file: Option<Tokens>,
        required: bool,
        denials: Denials,
    ) -> Result<Self, StoreError> {
        let kept = ArcSwap::from_pointee(read(&store).await?);
        let required = required || file.is_some();
        let shared = Shared {
            store,
            file,
            required,
            denials,
            kept,
            reading: StdMutex::default(),
            ended: watch::Sender::new(0),
            used: StdMutex::default(),
            reads: watch::Sender::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns whether every request needs a token.
    pub(crate) fn required(&self) -> bool {
        self.shared.required
    }

    /// Returns the counts of denied requests.
    pub(crate) fn denials(&self) -> &Denials {
        &self.shared.denials
    }

    /// Identifies the caller that sent a token. Without a token, it is the admin `local` unless tokens are required.
    ///
    /// # Errors
    ///
    /// Returns why the caller cannot be identified.
    pub(crate) async fn identify(&self, token: Option<&str>) -> Result<Caller, Denied> {
        let Some(token) = token else {
            return if self.shared.required {
                Err(Denied::Missing)
            } else {
                Ok(Caller { name: "local".into(), role: Role::Admin, token: None })
            };
        };
        if let Some((name, role)) = self.shared.file.as_ref().and_then(|file| file.find(token)) {
            return Ok(Caller { name: name.to_owned(), role, token: None });
        }
        // Anything without the prefix is not a token of the database, so do not read it.
        if !token.starts_with(TOKEN_PREFIX) {
            return Err(Denied::Unknown);
        }
        let hash = secret::hash(token);
        let kept = self.fresh(FRESH).await?;
        let granted = match kept.tokens.get(&hash).cloned() {
            Some(granted) => Some(granted),
            None => self.fresh(NEW).await?.tokens.get(&hash).cloned(),
        };
        let granted = granted.filter(Granted::counts).ok_or(Denied::Unknown)?;
        self.note_use(granted.id);
        Ok(Caller { name: granted.name, role: granted.role, token: Some(granted.id) })
    }

    /// Returns the tokens, read at most `age` ago. While the database does not answer, they may be as old as [`STALE`].
    async fn fresh(&self, age: Duration) -> Result<Arc<CachedTokens>, Denied> {
        let now = Instant::now();
        let since = now.checked_sub(age).unwrap_or(now);
        if self.read_since(since, now + WAIT, true).await.is_err() {
            tracing::debug!("cannot read the tokens");
        }
        let kept = self.shared.kept.load_full();
        if kept.read_at.elapsed() <= STALE { Ok(kept) } else { Err(Denied::Unavailable) }
    }

    /// Reads the tokens again after a change.
    pub(crate) async fn refresh(&self) -> Result<(), NotRead> {
        let now = Instant::now();
        self.read_since(now, now + READ, false).await
    }

    /// Waits for a read that began at `since` or later, until the time `until`. All callers wait for the same read. With
    /// `older_do`, the caller accepts older tokens and does not wait for a read that hangs.
    async fn read_since(&self, since: Instant, until: Instant, older_do: bool) -> Result<(), NotRead> {
        let shared = &self.shared;
        let mut ended = shared.ended.subscribe();
        loop {
            ended.mark_unchanged();
            let kept = shared.kept.load_full();
            if kept.read_at >= since {
                return Ok(());
            }
            let under_way = self.begin_read().ok_or(NotRead)?;
            if older_do && under_way.elapsed() > HANGS && kept.read_at.elapsed() <= STALE {
                return Err(NotRead);
            }
            // `self` holds the sender, so an error can only be the timeout.
            if timeout_at(until.into(), ended.changed()).await.is_err() {
                return Err(NotRead);
            }
        }
    }

    /// Starts a read unless one is in progress. Returns when it began, or `None` if the last read has just failed.
    fn begin_read(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut reading = self.shared.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = reading.since {
            return Some(since);
        }
        if reading.failed_at.is_some_and(|at| at.elapsed() < RETRY) {
            return None;
        }
        reading.since = Some(now);
        drop(reading);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let error = match timeout(READ, read(&shared.store)).await {
                Ok(Ok(kept)) => {
                    shared.kept.store(Arc::new(kept));
                    shared.reads.send_modify(|reads| *reads += 1);
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {} seconds", READ.as_secs())),
            };
            if let Some(error) = &error {
                let seconds = shared.kept.load().read_at.elapsed().as_secs();
                tracing::warn!(error, seconds, "cannot read the tokens; using those read this number of seconds ago");
            }
            let failed_at = error.map(|_| Instant::now());
            *shared.reading.lock().unwrap_or_else(PoisonError::into_inner) = Reading { since: None, failed_at };
            shared.ended.send_modify(|ended| *ended += 1);
        });
        Some(now)
    }

    /// Records the use of a token, in the background and at most once per [`USE_NOTED`].
    fn note_use(&self, id: i64) {
        let mut used = self.shared.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.get(&id).is_some_and(|at| at.elapsed() < USE_NOTED) {
            return;
        }
        used.insert(id, Instant::now());
        drop(used);
        let store = self.shared.store.clone();
        tokio::spawn(async move {
            match timeout(READ, store.note_token_used(id, now_ms())).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "cannot record the use of a token"),
                Err(_) => tracing::debug!("recording the use of a token timed out"),
            }
        });
    }

    /// Waits until the caller's token expires or is revoked. Never returns if it is not a token of the database.
    pub(crate) async fn ended(self, caller: Caller) {
        let Some(id) = caller.token else { return std::future::pending().await };
        let mut reads = self.shared.reads.subscribe();
        loop {
            reads.mark_unchanged();
            let kept = self.shared.kept.load_full();
            let Some(granted) = kept.tokens.values().find(|granted| granted.id == id).filter(|it| it.counts()) else {
                return;
            };
            let left_ms =
                granted.expires_at_ms.map_or(i64::MAX, |expires_at_ms| expires_at_ms.saturating_sub(now_ms()));
            let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).min(Duration::from_secs(3600));
            tokio::select! {
                Ok(()) = reads.changed() => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// Reads the tokens again whenever the heartbeat sees a change, until the service stops.
    pub(crate) async fn follow(self, mut seen: watch::Receiver<Seen>, stopping: CancellationToken) {
        // Always read once: the tokens may have changed between the first heartbeat and the first read.
        let mut known = None;
        loop {
            let changes = seen.borrow_and_update().beat.access;
            if known != Some(changes) {
                match self.refresh().await {
                    Ok(()) => known = Some(changes),
                    Err(error) => tracing::warn!(%error, "cannot read the changed tokens; retrying"),
                }
            }
            tokio::select! {
                Ok(()) = seen.changed() => {}
                () = tokio::time::sleep(FRESH), if known != Some(changes) => {}
                () = stopping.cancelled() => return,
            }
        }
    }
}

async fn read(store: &Store) -> Result<CachedTokens, StoreError> {
    // Taken before the query, so that changes made during the query do not count as seen.
    let read_at = Instant::now();
    let tokens = store.tokens().await?.into_iter().filter(|token| token.revoked_at_ms.is_none());
    let granted = tokens.filter_map(|token| {
        let role = token.role.parse().ok()?;
        Some((token.sha256, Granted { id: token.id, name: token.name, role, expires_at_ms: token.expires_at_ms }))
    });
    Ok(CachedTokens { tokens: granted.collect(), read_at })
}
