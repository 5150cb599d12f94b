//! Which release serves which projector, now and for the next event.

mod changes;
mod follow;
mod health;
mod loading;
mod missing;
mod registry;
mod replayed;
mod retiring;
mod serving;
pub mod signature;
pub(crate) mod trial;
mod trials;
mod vouching;

use std::sync::Arc;

use belfry_model::{Envelope, Outcome};
use belfry_sandbox::{Configuration, Description, NotAdmitted, Projector};
use belfry_store::StoreError;

pub(crate) use follow::follow;
pub(crate) use health::Health;
pub(crate) use missing::keep_loaded;
pub(crate) use registry::RegistrySettings;
pub use registry::{Named, Pushed, Registry, RolledOut, Upload};
pub(crate) use serving::Serving;
pub(crate) use signature::TrustedKeys;

/// Who decides what no person decides.
const BELFRY: &str = "belfry";

/// A release that serves.
pub struct Active {
    /// Its number.
    pub release_id: i64,
    /// The projector's name.
    pub name: String,
    /// As people know it: `name@version#id`.
    pub label: String,
    pub(crate) description: Description,
    /// None: it cannot be loaded, and is not asked.
    pub(crate) projector: Option<Projector>,
    pub(crate) configuration: Arc<Configuration>,
    /// Why it is not asked, if it is not.
    pub(crate) halt: Option<Halt>,
    pub(crate) health: Health,
}

/// Why a release is not asked although it is its projector's: events become dead letters of this cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Halt {
    pub(crate) cause: Outcome,
    pub(crate) detail: String,
}

impl Active {
    /// The same release, brought to a halt or let go on.
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

    /// Whether it subscribes to the event's type.
    pub fn wants(&self, envelope: &Envelope) -> bool {
        self.description.subscriptions.iter().any(|wanted| wanted.event_type == envelope.event_type)
    }

    /// Where the data of an event of this type says whom it is about, as RFC 6901.
    pub(crate) fn subject_pointer(&self, event_type: &str) -> Option<&str> {
        self.description.subscriptions.iter().find(|wanted| wanted.event_type == event_type)?.subject.as_deref()
    }

    /// The event types that it subscribes to.
    pub fn event_types(&self) -> impl Iterator<Item = &str> {
        self.description.subscriptions.iter().map(|wanted| wanted.event_type.as_str())
    }
}

/// Why a release cannot be made or serve.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The component or its configuration is refused.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// Name and version are those of another component.
    #[error("{name} {version} exists with another component (sha256 {digest}); a version names one build: raise it")]
    VersionTaken {
        /// The projector.
        name: String,
        /// The version.
        version: String,
        /// The other component's digest.
        digest: String,
    },
    /// Nobody who is trusted vouches for the component.
    #[error("{0}")]
    NotVouchedFor(String),
    /// What the store has of a release is not what was pushed.
    #[error("{0}")]
    Changed(String),
    /// Two releases of one projector cannot both serve.
    #[error("{0} and {1} are of one projector; name one release of each")]
    Twice(String, String),
    /// It does not go with what serves now.
    #[error("{0}")]
    Refused(String),
    /// There is no such release, or projector, or nothing to go back to.
    #[error("{0}")]
    Unknown(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReleaseError {
    fn of_another(release_id: i64, projector: &str, wanted: &str) -> Self {
        Self::Unknown(format!("release {release_id} is one of {projector}, not of {wanted}; see `belfry release list`"))
    }
}
