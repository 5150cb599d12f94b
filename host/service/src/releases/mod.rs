//! The releases that serve the projectors, and how they are changed.

mod activation;
mod follow;
mod gates;
mod health;
mod registry;
mod retiring;
mod serving;
pub mod signature;
pub(crate) mod trial;

use std::sync::Arc;

use belfry_model::{Envelope, Outcome};
use belfry_sandbox::{Configuration, Description, NotAdmitted, Projector};
use belfry_store::StoreError;

pub(crate) use follow::follow;
pub(crate) use health::Health;
pub(crate) use registry::RegistrySettings;
pub(crate) use registry::keep_loaded;
pub use registry::{Named, Pushed, Registry, RolledOut, Upload};
pub(crate) use serving::Serving;
pub(crate) use signature::TrustedKeys;

/// The author of changes that Belfry makes automatically.
const BELFRY: &str = "belfry";

/// A release that projects events.
pub struct LoadedRelease {
    /// Its number.
    pub release_id: i64,
    /// The projector's name.
    pub name: String,
    /// The display name: `name@version#id`.
    pub label: String,
    pub(crate) description: Description,
    /// `None` if it cannot be loaded; then it is not called.
    pub(crate) projector: Option<Projector>,
    pub(crate) configuration: Arc<Configuration>,
    /// Why it is not called, if it is not.
    pub(crate) halt: Option<Halt>,
    pub(crate) health: Health,
}

/// Why a release is not called although it is its projector's active one: events become dead letters with this cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Halt {
    pub(crate) cause: Outcome,
    pub(crate) detail: String,
}

impl LoadedRelease {
    /// Returns the same release, halted or resumed, with a new health.
    fn with(&self, halt: Option<Halt>) -> Self {
        Self {
            release_id: self.release_id,
            name: self.name.clone(),
            label: self.label.clone(),
            description: self.description.clone(),
            projector: self.projector.clone(),
            configuration: self.configuration.clone(),
            halt,
            health: Health::default(),
        }
    }

    /// Returns whether it subscribes to the event's type.
    pub fn wants(&self, envelope: &Envelope) -> bool {
        self.description.subscriptions.iter().any(|wanted| wanted.event_type == envelope.event_type)
    }

    /// Returns the JSON Pointer (RFC 6901) to the subject in the data of an event of this type.
    pub(crate) fn subject_pointer(&self, event_type: &str) -> Option<&str> {
        self.description.subscriptions.iter().find(|wanted| wanted.event_type == event_type)?.subject.as_deref()
    }

    /// Returns the event types that it subscribes to.
    pub fn event_types(&self) -> impl Iterator<Item = &str> {
        self.description.subscriptions.iter().map(|wanted| wanted.event_type.as_str())
    }
}

/// Why a release cannot be created or activated.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The component or its configuration is rejected.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// Name and version belong to another component.
    #[error("{name} {version} exists with another component (sha256 {digest}); a version names one build: raise it")]
    VersionTaken {
        /// The projector.
        name: String,
        /// The version.
        version: String,
        /// The other component's digest.
        digest: String,
    },
    /// No trusted key has signed the component.
    #[error("{0}")]
    NotVouchedFor(String),
    /// The stored release differs from what was pushed.
    #[error("{0}")]
    Changed(String),
    /// Two releases of one projector cannot both serve.
    #[error("{0} and {1} belong to the same projector; name one release for each projector")]
    Twice(String, String),
    /// It conflicts with the current rollout.
    #[error("{0}")]
    Refused(String),
    /// The release, the projector, or a release to roll back to does not exist.
    #[error("{0}")]
    Unknown(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReleaseError {
    fn of_another(release_id: i64, projector: &str, wanted: &str) -> Self {
        Self::Unknown(format!(
            "release {release_id} belongs to {projector}, not to {wanted}; see `belfry release list`"
        ))
    }
}
