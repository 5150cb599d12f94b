//! Who may do what.
//!
//! There are two places for tokens. The file is for whoever configures the service, and read at the start. The database is
//! for everything else: its tokens are made and revoked while the service runs, and count on every replica. A replica
//! keeps those that count in memory. It reads them again when the heartbeat sees a change, and when a request brings a
//! token and the last look is more than a moment ago; so a revocation takes effect within about a second, however the
//! replica hears of it.

mod denials;
mod issue;
mod role;
mod secret;
mod view;

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use belfry_store::{Store, StoreError};
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

pub(crate) use denials::Denials;
pub(crate) use issue::is_name;
pub use issue::{IssueError, Issued, NewAccess, issue, list, revoke};
pub use role::{Role, UnknownRole};
pub use secret::{Secret, TOKEN_PREFIX};
pub use view::TokenView;

use crate::clock::now_ms;
use crate::config::Tokens;
use crate::heartbeat::Seen;

/// How old the tokens in memory may be when one of them is used, and when one is not among them: it may be new.
const FRESH: Duration = Duration::from_millis(900);
const NEW: Duration = Duration::from_millis(200);
/// How long they count while the database does not answer.
const STALE: Duration = Duration::from_secs(30);
/// How long a request waits for the tokens to be read.
const WAIT: Duration = Duration::from_secs(2);
/// A read that has taken this long is waited for by no further request, as long as older tokens count.
const HANGS: Duration = Duration::from_millis(500);
/// How long a read may take; then another is begun.
const READ: Duration = Duration::from_secs(10);
/// How soon after a failed read another is begun.
const RETRY: Duration = Duration::from_millis(200);
/// How often the use of a token is written down.
const USE_NOTED: Duration = Duration::from_secs(60);

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// As releases and audits name them.
    pub(crate) name: String,
    pub(crate) role: Role,
    /// The number of a token in the database; none for others.
    token: Option<i64>,
}

/// Why a request is not known to be anybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It has no token, and needs one.
    Missing,
    /// Its token is nobody's, or does not count any more.
    Unknown,
    /// The database cannot say.
    Unavailable,
}

/// The tokens that count. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    file: Option<Tokens>,
    /// Whether a request without a token is anybody's.
    required: bool,
    denials: Denials,
    kept: ArcSwap<Kept>,
    reading: StdMutex<Reading>,
    /// Counts how many reads have ended, well or not.
    ended: watch::Sender<u64>,
    /// When the use of each token was written down last.
    used: StdMutex<HashMap<i64, Instant>>,
    /// Counts how often the tokens were read.
    reads: watch::Sender<u64>,
}

/// One read is under way at most, and all who need it wait for the same one.
#[derive(Default)]
struct Reading {
    /// Since when.
    since: Option<Instant>,
    failed_at: Option<Instant>,
}

/// The tokens cannot be read now.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the database does not say which tokens count")]
pub(crate) struct NotRead;

/// The tokens of the database that count, by their hashes.
struct Kept {
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
    /// Read the tokens of the database. With `required` or a tokens file no request is let in without one.
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

    /// Whether nobody is let in without a token.
    pub(crate) fn required(&self) -> bool {
        self.shared.required
    }

    /// Requests that were denied.
    pub(crate) fn denials(&self) -> &Denials {
        &self.shared.denials
    }

    /// Whose request it is that brings this token. Without one it is the machine's own user, where that is enough.
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
        // What cannot be a token of the database costs it nothing.
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

    /// The tokens as they were not longer ago than this, read again if need be; or older ones while the database does not
    /// answer.
    async fn fresh(&self, age: Duration) -> Result<Arc<Kept>, Denied> {
        let now = Instant::now();
        let since = now.checked_sub(age).unwrap_or(now);
        if self.read_since(since, now + WAIT, true).await.is_err() {
            tracing::debug!("tokens cannot be read now");
        }
        let kept = self.shared.kept.load_full();
        if kept.read_at.elapsed() <= STALE { Ok(kept) } else { Err(Denied::Unavailable) }
    }

    /// Read the tokens again, for somebody who changed them.
    pub(crate) async fn refresh(&self) -> Result<(), NotRead> {
        let now = Instant::now();
        self.read_since(now, now + READ, false).await
    }

    /// Wait for tokens that were read since then. Everybody waits for the same read, until it ends or time is over. With
    /// `older_do` a read that hangs is not waited for.
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
            // The service lives longer than its requests, so the other end is there.
            if timeout_at(until.into(), ended.changed()).await.is_err() {
                return Err(NotRead);
            }
        }
    }

    /// Begin to read, unless a read is under way. Returns since when it is; none if the last one failed just now.
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
                tracing::warn!(error, seconds, "tokens cannot be read; those that were read so many seconds ago count");
            }
            let failed_at = error.map(|_| Instant::now());
            *shared.reading.lock().unwrap_or_else(PoisonError::into_inner) = Reading { since: None, failed_at };
            shared.ended.send_modify(|ended| *ended += 1);
        });
        Some(now)
    }

    /// Write down that a token was used, in the background and not every time.
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
                Ok(Err(error)) => tracing::debug!(%error, "the use of a token is not noted"),
                Err(_) => tracing::debug!("the use of a token is not noted in time"),
            }
        });
    }

    /// Wait until the caller's token does not count any more. For ever, if it is none of the database's.
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

    /// Read the tokens again whenever the heartbeat sees a change, until the service stops.
    pub(crate) async fn follow(self, mut seen: watch::Receiver<Seen>, mut stopping: watch::Receiver<bool>) {
        // They may have changed between the first look and the first read: once too often does no harm.
        let mut known = None;
        loop {
            let changes = seen.borrow_and_update().beat.access;
            if known != Some(changes) {
                match self.refresh().await {
                    Ok(()) => known = Some(changes),
                    Err(error) => tracing::warn!(%error, "tokens changed and cannot be read; it is tried again"),
                }
            }
            tokio::select! {
                Ok(()) = seen.changed() => {}
                () = tokio::time::sleep(FRESH), if known != Some(changes) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }
}

async fn read(store: &Store) -> Result<Kept, StoreError> {
    // From before the look: what changes meanwhile must not count as seen.
    let read_at = Instant::now();
    let tokens = store.tokens().await?.into_iter().filter(|token| token.revoked_at_ms.is_none());
    let granted = tokens.filter_map(|token| {
        let role = token.role.parse().ok()?;
        Some((token.sha256, Granted { id: token.id, name: token.name, role, expires_at_ms: token.expires_at_ms }))
    });
    Ok(Kept { tokens: granted.collect(), read_at })
}
