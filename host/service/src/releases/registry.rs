use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use belfry_model::Outcome;
use belfry_sandbox::{Digest, Projector, Sandbox, digest};
use belfry_store::{
    AddRelease, Added, ComponentSignature, NewRelease, Pause, Paused, Release, Rollout, Store, StoreError,
};
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Semaphore};

use super::signature::{Signature, TrustedKeys};
use super::{Active, Halt, Health, ReleaseError, label};
use crate::clock::now_ms;
use crate::redis::Others;

/// A release to be made.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The component's bytes.
    pub component: Bytes,
    /// Its settings.
    pub config: Map<String, Value>,
    /// Why it is made.
    pub note: String,
    /// Who makes it.
    pub created_by: String,
    /// A signature of the component.
    pub signature: Option<Signature>,
}

/// What the registry works with.
pub(crate) struct RegistrySettings {
    pub(crate) store: Store,
    pub(crate) sandbox: Sandbox,
    /// Told of changes.
    pub(crate) others: Others,
    pub(crate) trusted: TrustedKeys,
    /// The component that comes along: it serves an empty store, and nobody has to vouch for it.
    pub(crate) default: &'static [u8],
}

/// A release that was made, or was there.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The release.
    pub release: Release,
    /// Whether it is new.
    pub new: bool,
}

/// A change of the release that serves.
#[derive(Clone, Debug)]
pub struct RolledOut {
    /// The one that serves now.
    pub release: Release,
    /// The one before.
    pub previous_release_id: Option<i64>,
}

/// What a release is called.
#[derive(Clone, Debug)]
pub struct Named {
    /// The projector.
    pub projector: String,
    /// As people know it.
    pub label: String,
}

/// The releases. What serves is swapped as a whole, so each event sees one consistent set; events under way keep theirs.
/// Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    sandbox: Sandbox,
    others: Others,
    trusted: TrustedKeys,
    /// The digest of the component that comes along.
    default: Digest,
    active: ArcSwap<Vec<Arc<Active>>>,
    names: ArcSwap<HashMap<i64, Named>>,
    muted: AtomicBool,
    /// Changes come one after another.
    change: Mutex<()>,
    /// Loading uses the same pools as events do, and must leave room there.
    loading: Semaphore,
}

/// Components that are loaded at the same time.
const LOADING: usize = 2;

impl Registry {
    /// Load what serves. On an empty store, the component that comes along becomes the first release.
    pub(crate) async fn open(settings: RegistrySettings) -> Result<Self, ReleaseError> {
        let RegistrySettings { store, sandbox, others, trusted, default } = settings;
        let shared = Shared {
            store,
            sandbox,
            others,
            trusted,
            default: digest(default),
            active: ArcSwap::default(),
            names: ArcSwap::default(),
            muted: AtomicBool::new(false),
            change: Mutex::default(),
            loading: Semaphore::new(LOADING),
        };
        let registry = Self { shared: Arc::new(shared) };
        if registry.shared.store.rollouts().await?.is_empty() {
            let upload = Upload {
                component: Bytes::from_static(default),
                config: Map::new(),
                note: "comes with belfry".into(),
                created_by: "belfry".into(),
                signature: None,
            };
            let pushed = registry.push(upload).await?;
            // Another replica may have come first, and its operators may have changed it already.
            registry.shared.store.activate_first(&pushed.release, "belfry", now_ms()).await?;
        }
        registry.refresh().await?;
        Ok(registry)
    }

    /// Serve what the store says, which another replica may have changed. A release that cannot be loaded leaves the one
    /// before of its projector in place; the others change all the same.
    pub async fn refresh(&self) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        self.take_over(Vec::new()).await
    }

    /// The same, with what was loaded for it before.
    async fn take_over(&self, mut loaded: Vec<Active>) -> Result<(), ReleaseError> {
        self.read_names().await?;
        let current = self.active();
        let pauses = self.shared.store.pauses().await?;
        self.shared.muted.store(pauses.iter().any(|pause| pause.what == Paused::Notifications), Ordering::Relaxed);
        let mut active = Vec::with_capacity(current.len());
        let mut failed = Ok(());
        for rollout in self.shared.store.rollouts().await? {
            let halt = halt(&rollout, &pauses);
            let serving = current.iter().find(|active| active.name == rollout.projector);
            if let Some(serving) = serving.filter(|serving| serving.release_id == rollout.release_id) {
                active.push(if serving.halt == halt { serving.clone() } else { Arc::new(serving.with(halt)) });
                continue;
            }
            let found = match loaded.iter().position(|active| active.release_id == rollout.release_id) {
                Some(place) => Ok(loaded.swap_remove(place)),
                None => self.load_by_id(rollout.release_id).await,
            };
            match found {
                Ok(found) => {
                    tracing::info!(release = found.label, "release serves");
                    active.push(Arc::new(found.with(halt)));
                }
                Err(error) => {
                    failed = Err(error);
                    active.extend(serving.cloned());
                }
            }
        }
        active.sort_by(|one, other| one.name.cmp(&other.name));
        self.shared.active.store(Arc::new(active));
        failed
    }

    /// Whether all notifications are withheld.
    pub(crate) fn is_muted(&self) -> bool {
        self.shared.muted.load(Ordering::Relaxed)
    }

    /// Take a release out that fails. Gives what serves its projector now. Whoever comes second finds it done.
    pub(crate) async fn suspend(&self, failing: &Active) -> Result<Option<Arc<Active>>, ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let serving = || self.active().iter().find(|active| active.name == failing.name).cloned();
        let still =
            serving().is_some_and(|active| active.release_id == failing.release_id && active.health.is_failing());
        if !still {
            return Ok(serving());
        }
        let release = self.release(failing.release_id).await?;
        let reason = failing.health.finding().unwrap_or_else(|| "it failed".into());
        if self.shared.store.suspend(&release, &reason, now_ms()).await? {
            metrics::counter!("belfry_suspensions_total", "projector" => failing.name.clone()).increment(1);
            tracing::error!(release = failing.label, reason, "release suspended");
            self.shared.others.rollout_changed();
        }
        if let Err(error) = self.take_over(Vec::new()).await {
            // Events must go on: what fails becomes a dead letter meanwhile.
            tracing::error!(%error, "what should serve instead cannot be loaded");
            return Ok(None);
        }
        Ok(serving())
    }

    /// Bring something to a halt with a reason, or let it go on.
    pub async fn pause(&self, what: &Paused, reason: Option<&str>, by: &str) -> Result<(), ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        self.shared.store.pause(what, reason, by, now_ms()).await?;
        tracing::info!(?what, reason, by, "{}", if reason.is_some() { "brought to a halt" } else { "goes on" });
        self.shared.others.rollout_changed();
        self.take_over(Vec::new()).await
    }

    /// What serves, by projector's name.
    pub fn active(&self) -> Arc<Vec<Arc<Active>>> {
        self.shared.active.load_full()
    }

    /// What a release is called.
    pub fn name(&self, release_id: i64) -> Option<Named> {
        self.shared.names.load().get(&release_id).cloned()
    }

    /// Learn what these releases are called; some may be new, and from another replica.
    pub(crate) async fn learn(&self, release_ids: impl IntoIterator<Item = i64>) -> Result<(), StoreError> {
        let known = self.shared.names.load_full();
        if release_ids.into_iter().all(|release_id| known.contains_key(&release_id)) {
            return Ok(());
        }
        self.read_names().await
    }

    /// Check a component and its configuration, and make a release of them. It does not serve yet.
    pub async fn push(&self, upload: Upload) -> Result<Pushed, ReleaseError> {
        let Upload { component, config, note, created_by, signature } = upload;
        let component_digest = digest(&component);
        // Before any time is spent on it.
        let signature = match (component_digest == self.shared.default, &signature) {
            (true, None) => None,
            (_, signature) => {
                self.shared.trusted.check(&component_digest, signature.as_ref()).map_err(ReleaseError::NotVouchedFor)?
            }
        };
        let bytes = component.clone();
        let settings = config.clone();
        let (projector, report) = self
            .blocking(move |sandbox| {
                let projector = sandbox.load(&bytes)?;
                let configuration = Arc::new(projector.configure(&settings)?);
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
            config: canonical(&config),
            description: serde_json::to_string(description).expect("a description is texts and lists"),
            note,
            created_by,
            admission: serde_json::to_string(&report).expect("a report is texts and numbers"),
            signature,
        };
        let _one_at_a_time = self.shared.change.lock().await;
        match self.shared.store.add_release(&new, now_ms()).await? {
            AddRelease::There(added, release) => {
                self.read_names().await?;
                tracing::info!(release = label(&release), new = added == Added::New, "release made");
                Ok(Pushed { release, new: added == Added::New })
            }
            AddRelease::OtherDigest(digest) => Err(ReleaseError::VersionTaken {
                name: new.projector,
                version: new.version,
                digest: Digest(digest).to_string(),
            }),
        }
    }

    /// Let a release serve its projector from the next event on. `projector`, if given, must be the release's.
    pub async fn activate(
        &self,
        release_id: i64,
        projector: Option<&str>,
        by: &str,
    ) -> Result<RolledOut, ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let release = self.release(release_id).await?;
        if let Some(projector) = projector.filter(|projector| *projector != release.projector) {
            return Err(ReleaseError::Unknown(format!(
                "release {release_id} is one of {}, not of {projector}; see `belfry release list`",
                release.projector
            )));
        }
        self.serve(vec![release], by).await.map(|mut rolled_out| rolled_out.remove(0))
    }

    /// Let several releases serve their projectors from the same event on: all of them, or none.
    pub async fn activate_all(&self, release_ids: &[i64], by: &str) -> Result<Vec<RolledOut>, ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let mut releases: Vec<Release> = Vec::with_capacity(release_ids.len());
        for release_id in release_ids {
            let release = self.release(*release_id).await?;
            if let Some(other) = releases.iter().find(|other| other.projector == release.projector) {
                return Err(ReleaseError::Twice(label(other), label(&release)));
            }
            releases.push(release);
        }
        self.serve(releases, by).await
    }

    /// Let the release serve again that served before.
    pub async fn roll_back(&self, projector: &str, by: &str) -> Result<RolledOut, ReleaseError> {
        let _one_at_a_time = self.shared.change.lock().await;
        let rollouts = self.shared.store.rollouts().await?;
        let Some(rollout) = rollouts.into_iter().find(|rollout| rollout.projector == projector) else {
            return Err(ReleaseError::Unknown(format!("there is no projector {projector}; see `belfry release list`")));
        };
        let Some(previous) = rollout.previous_release_id else {
            return Err(ReleaseError::Unknown(format!(
                "{projector} has had one release only: there is none to go back to"
            )));
        };
        let release = self.release(previous).await?;
        self.serve(vec![release], by).await.map(|mut rolled_out| rolled_out.remove(0))
    }

    /// Nothing is changed unless all of them can be loaded.
    async fn serve(&self, releases: Vec<Release>, by: &str) -> Result<Vec<RolledOut>, ReleaseError> {
        let current = self.active();
        let mut loaded = Vec::with_capacity(releases.len());
        for release in &releases {
            self.ensure_vouched_for(release).await?;
            loaded.push(self.load(release).await?);
        }
        self.shared.store.activate(&releases.iter().collect::<Vec<_>>(), by, now_ms()).await?;
        self.shared.others.rollout_changed();
        self.take_over(loaded).await?;
        let rolled_out = |release: Release| {
            let previous =
                current.iter().find(|active| active.name == release.projector).map(|active| active.release_id);
            tracing::info!(release = label(&release), previous, by, "release activated");
            let previous_release_id = previous.filter(|previous| *previous != release.id);
            RolledOut { release, previous_release_id }
        };
        Ok(releases.into_iter().map(rolled_out).collect())
    }

    /// Signatures are asked for at the upload, and again here: keys come and go.
    async fn ensure_vouched_for(&self, release: &Release) -> Result<(), ReleaseError> {
        let component = Digest(release.digest);
        if !self.shared.trusted.required() || component == self.shared.default {
            return Ok(());
        }
        if self.signers().await?.contains_key(&release.digest) {
            return Ok(());
        }
        Err(ReleaseError::NotVouchedFor(format!(
            "nobody who is trusted now has signed the component of {}; sign it with `belfry plugin sign` and push it again \
             with --signature",
            label(release)
        )))
    }

    /// The owners of trusted keys that components were signed with, by the components' digests.
    pub(crate) async fn signers(&self) -> Result<HashMap<[u8; 32], String>, StoreError> {
        let mut kept: HashMap<[u8; 32], Vec<ComponentSignature>> = HashMap::new();
        for (component, signature) in self.shared.store.component_signatures().await? {
            kept.entry(component).or_default().push(signature);
        }
        let trusted = &self.shared.trusted;
        let signer = |(component, signatures): ([u8; 32], Vec<_>)| {
            Some((component, trusted.signer(&Digest(component), &signatures)?))
        };
        Ok(kept.into_iter().filter_map(signer).collect())
    }

    /// A release to try out: the one that serves, or any other of the projector, loaded beside it.
    pub(crate) async fn loaded(&self, release_id: i64, projector: &str) -> Result<Arc<Active>, ReleaseError> {
        let serving = self.active().iter().find(|active| active.release_id == release_id).cloned();
        let active = match serving {
            Some(serving) => serving,
            None => Arc::new(self.load_by_id(release_id).await?),
        };
        if active.name == projector {
            return Ok(active);
        }
        Err(ReleaseError::Unknown(format!(
            "release {release_id} is one of {}, not of {projector}; see `belfry release list`",
            active.name
        )))
    }

    async fn load_by_id(&self, release_id: i64) -> Result<Active, ReleaseError> {
        let release = self.release(release_id).await?;
        self.load(&release).await
    }

    async fn load(&self, release: &Release) -> Result<Active, ReleaseError> {
        let component = self.shared.store.component(&release.digest).await?.ok_or_else(|| {
            ReleaseError::Unknown(format!(
                "the component of release {} is missing from the store; upload it again",
                release.id
            ))
        })?;
        let config: Map<String, Value> = serde_json::from_str(&release.config).unwrap_or_default();
        let (projector, configuration) = self
            .blocking(move |sandbox| {
                let projector: Projector = sandbox.load(&component)?;
                let configuration = projector.configure(&config)?;
                Ok((projector, configuration))
            })
            .await?;
        Ok(Active {
            release_id: release.id,
            name: release.projector.clone(),
            label: label(release),
            projector,
            configuration: Arc::new(configuration),
            halt: None,
            health: Health::default(),
        })
    }

    async fn release(&self, release_id: i64) -> Result<Release, ReleaseError> {
        self.shared.store.release(release_id).await?.ok_or_else(|| {
            ReleaseError::Unknown(format!("there is no release {release_id}; see `belfry release list`"))
        })
    }

    async fn read_names(&self) -> Result<(), StoreError> {
        let releases = self.shared.store.releases(None).await?;
        let named =
            |release: &Release| (release.id, Named { projector: release.projector.clone(), label: label(release) });
        self.shared.names.store(Arc::new(releases.iter().map(named).collect()));
        Ok(())
    }

    /// Compiling takes up to seconds, so it happens where that holds up nobody.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sandbox) -> Result<T, belfry_sandbox::NotAdmitted> + Send + 'static,
    ) -> Result<T, ReleaseError> {
        let _room = self.shared.loading.acquire().await.map_err(|_| ReleaseError::Unknown("stopping".into()))?;
        let sandbox = self.shared.sandbox.clone();
        let done = tokio::task::spawn_blocking(move || work(&sandbox)).await;
        Ok(done.map_err(|error| ReleaseError::Unknown(format!("loading the component was cut off: {error}")))??)
    }
}

/// Why the release that is its projector's is not asked.
fn halt(rollout: &Rollout, pauses: &[Pause]) -> Option<Halt> {
    let projector = Paused::Projector(rollout.projector.clone());
    if let Some(pause) = pauses.iter().find(|pause| pause.what == projector) {
        let detail = format!(
            "paused by {}: {}; it is not projected until somebody gives it another try",
            pause.created_by, pause.reason
        );
        return Some(Halt { cause: Outcome::Paused, detail });
    }
    if rollout.suspended_release_id != Some(rollout.release_id) {
        return None;
    }
    let reason = rollout.reason.as_deref().unwrap_or("it failed");
    let detail = format!("the release was suspended, and there is none to go back to: {reason}");
    Some(Halt { cause: Outcome::Suspended, detail })
}

/// Two releases with the same settings in another order or spacing are the same.
fn canonical(config: &Map<String, Value>) -> String {
    serde_json_canonicalizer::to_string(config).expect("values from JSON have string keys and finite numbers")
}
