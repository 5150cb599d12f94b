mod loading;
mod missing;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use belfry_model::JsonObject;
use belfry_sandbox::{Digest, NotAdmitted, Reason, Sandbox, digest};
use belfry_store::{AddRelease, Added, NewRelease, Release, ReleaseName, Store, StoreError, now_ms};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::signature::{Signature, TrustedKeys};
use super::{ReleaseError, Serving};
use crate::redis::PeerSignals;
use loading::Lanes;
use missing::Wanted;

pub(in crate::releases) use loading::Lane;
pub(crate) use missing::keep_loaded;

/// A release to create.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The component's bytes.
    pub component: Bytes,
    /// Its settings.
    pub config: JsonObject,
    /// Why it is created.
    pub note: String,
    /// Who creates it.
    pub created_by: String,
    /// A signature of the component, if there is one.
    pub signature: Option<Signature>,
}

/// The settings of a registry, and what it depends on.
pub(crate) struct RegistrySettings {
    pub(crate) store: Store,
    pub(crate) sandbox: Sandbox,
    /// Notified of changes.
    pub(crate) others: PeerSignals,
    pub(crate) trusted: TrustedKeys,
    /// Maximum age of the replay that a release needs before it serves; `None`: it needs none.
    pub(crate) replay_within: Option<Duration>,
    /// The component that comes with Belfry: it serves an empty store, and needs no signature.
    pub(crate) default: &'static [u8],
}

/// A release that was created, or existed already.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The release.
    pub release: Release,
    /// Whether it is new.
    pub new: bool,
}

/// A change of the serving release.
#[derive(Clone, Debug)]
pub struct RolledOut {
    /// The release that serves now.
    pub release: Release,
    /// The release that served before, if there was one.
    pub previous_release_id: Option<i64>,
}

/// The names of a release.
#[derive(Clone, Debug)]
pub struct Named {
    /// The projector.
    pub projector: String,
    /// The display name: `name@version#id`.
    pub label: String,
}

/// The releases. The serving set is swapped as a whole, so each event sees one consistent set; events in flight keep
/// theirs. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) sandbox: Sandbox,
    pub(super) others: PeerSignals,
    pub(super) trusted: TrustedKeys,
    pub(super) replay_within: Option<Duration>,
    /// The digest of the component that comes with Belfry.
    pub(super) default: Digest,
    pub(super) serving: ArcSwap<Serving>,
    names: ArcSwap<HashMap<i64, Named>>,
    pub(super) muted: AtomicBool,
    /// Serializes changes. Nothing is loaded while this is held: a pause must not wait for the compiler.
    pub(super) change: Mutex<()>,
    pub(super) lanes: Lanes,
    /// Why releases that should be loaded cannot be, by their ids.
    pub(super) not_loaded: StdMutex<HashMap<i64, String>>,
    pub(super) wanted: Wanted,
}

/// The largest configuration of a release, in bytes.
const MAX_CONFIG_BYTES: usize = 64 << 10;

impl Registry {
    /// Loads the serving releases. On an empty store, the component that comes with Belfry becomes the first release. A
    /// release that cannot be loaded disables its projector, and nothing else.
    pub(crate) async fn open(settings: RegistrySettings) -> Result<Self, ReleaseError> {
        let RegistrySettings { store, sandbox, others, trusted, replay_within, default } = settings;
        let shared = Shared {
            store,
            sandbox,
            others,
            trusted,
            replay_within,
            default: digest(default),
            serving: ArcSwap::default(),
            names: ArcSwap::default(),
            muted: AtomicBool::new(false),
            change: Mutex::default(),
            lanes: Lanes::default(),
            not_loaded: StdMutex::default(),
            wanted: Wanted::default(),
        };
        let registry = Self { shared: Arc::new(shared) };
        if registry.shared.store.rollouts().await?.is_empty() {
            let upload = Upload {
                component: Bytes::from_static(default),
                config: JsonObject::default(),
                note: "comes with belfry".into(),
                created_by: "belfry".into(),
                signature: None,
            };
            let pushed = registry.push(upload).await?;
            // Another replica may have been first, and operators may have changed the rollout since.
            registry.shared.store.activate_first(&pushed.release, "belfry", now_ms()).await?;
        }
        registry.refresh().await?;
        registry.load_what_serves().await?;
        Ok(registry)
    }

    /// Returns whether all notifications are withheld.
    pub(crate) fn is_muted(&self) -> bool {
        self.shared.muted.load(Ordering::Relaxed)
    }

    /// Returns the serving releases, and those on trial.
    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.shared.serving.load_full()
    }

    /// Returns the names of a release.
    pub fn name(&self, release_id: i64) -> Option<Named> {
        self.shared.names.load().get(&release_id).cloned()
    }

    /// Reads the names of these releases if some are unknown: another replica may have created them.
    pub(crate) async fn learn(&self, release_ids: impl IntoIterator<Item = i64>) -> Result<(), StoreError> {
        let known = self.shared.names.load_full();
        if release_ids.into_iter().all(|release_id| known.contains_key(&release_id)) {
            return Ok(());
        }
        self.read_names().await
    }

    /// Checks a component and its configuration, and creates a release of them. It does not serve yet.
    pub async fn push(&self, upload: Upload) -> Result<Pushed, ReleaseError> {
        let Upload { component, config, note, created_by, signature } = upload;
        let settings_text = config.as_str().to_owned();
        if settings_text.len() > MAX_CONFIG_BYTES {
            let detail = format!(
                "config: {} bytes as JSON; the limit for a release's settings is {MAX_CONFIG_BYTES}",
                settings_text.len()
            );
            return Err(NotAdmitted { reason: Reason::OverLimit, detail }.into());
        }
        let component_digest = digest(&component);
        // Checked first, before any time is spent on the component.
        let signature = match (component_digest == self.shared.default, &signature) {
            (true, None) => None,
            (_, signature) => {
                self.shared.trusted.check(&component_digest, signature.as_ref()).map_err(ReleaseError::NotVouchedFor)?
            }
        };
        let bytes = component.clone();
        let (projector, report) = self
            .blocking(Lane::Trying, move |sandbox| {
                let projector = sandbox.load(&bytes)?;
                let configuration = Arc::new(projector.configure(&config)?);
                let report = projector.try_out(&configuration)?;
                Ok((projector, report))
            })
            .await?;
        let description = projector.description();
        let new = NewRelease {
            projector: description.name.clone(),
            version: description.version.clone(),
            digest: projector.digest().0,
            component,
            // The text is canonical: the same settings in another order or spacing make the same release.
            config: settings_text,
            description: serde_json::to_string(description).expect("a description is always valid JSON"),
            note,
            created_by,
            admission: serde_json::to_string(&report).expect("a report is always valid JSON"),
            signature,
        };
        match self.shared.store.add_release(&new, now_ms()).await? {
            AddRelease::There(added, release) => {
                self.read_names().await?;
                tracing::info!(release = release.label(), new = added == Added::New, "release created");
                Ok(Pushed { release, new: added == Added::New })
            }
            AddRelease::OtherDigest(digest) => Err(ReleaseError::VersionTaken {
                name: new.projector,
                version: new.version,
                digest: Digest(digest).to_string(),
            }),
        }
    }

    pub(super) async fn release(&self, release_id: i64) -> Result<Release, ReleaseError> {
        self.shared.store.release(release_id).await?.ok_or_else(|| {
            ReleaseError::Unknown(format!("there is no release {release_id}; see `belfry release list`"))
        })
    }

    pub(super) async fn read_names(&self) -> Result<(), StoreError> {
        let releases = self.shared.store.release_names().await?;
        let named = |release: ReleaseName| {
            let label = release.label();
            (release.id, Named { projector: release.projector, label })
        };
        self.shared.names.store(Arc::new(releases.into_iter().map(named).collect()));
        Ok(())
    }
}
