use bytes::Bytes;

use crate::Candidate;

/// A release to be added.
#[derive(Clone, Debug)]
pub struct NewRelease {
    /// The projector's name.
    pub projector: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: [u8; 32],
    /// The component.
    pub component: Bytes,
    /// Canonical JSON object.
    pub config: String,
    /// What the component says of itself, as JSON.
    pub description: String,
    /// Why it is made.
    pub note: String,
    /// Who makes it.
    pub created_by: String,
    /// What was found out about it before, as JSON.
    pub admission: String,
    /// Who vouches for the component, if anybody does.
    pub signature: Option<ComponentSignature>,
}

/// Somebody's detached signature of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentSignature {
    /// The key that it was checked against.
    pub public_key: [u8; 32],
    /// The signature.
    pub signature: [u8; 64],
    /// Whose key that was.
    pub signer: String,
}

/// One immutable build of a projector with its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its number.
    pub id: i64,
    /// The projector's name.
    pub projector: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: [u8; 32],
    /// Canonical JSON object.
    pub config: String,
    /// What the component says of itself, as JSON.
    pub description: String,
    /// Why it was made.
    pub note: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at_ms: i64,
    /// What was found out about it before, as JSON; none if it was made by a version that did not.
    pub admission: Option<String>,
}

/// What a release is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseName {
    /// Its number.
    pub id: i64,
    /// The projector's name.
    pub projector: String,
    /// Its version.
    pub version: String,
}

impl ReleaseName {
    /// Name, version and number, as people know it: `teacher-results@1.2.0#7`.
    pub fn label(&self) -> String {
        label(&self.projector, &self.version, self.id)
    }
}

impl Release {
    /// Name, version and number, as people know it: `teacher-results@1.2.0#7`.
    pub fn label(&self) -> String {
        label(&self.projector, &self.version, self.id)
    }
}

fn label(projector: &str, version: &str, id: i64) -> String {
    format!("{projector}@{version}#{id}")
}

/// What became of a request to add a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddRelease {
    /// It is there, now or already.
    There(Added, Release),
    /// A release of this name and version has another component: the one with this digest.
    OtherDigest([u8; 32]),
}

/// Whether a release was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New,
    /// The same component and configuration were added before.
    Existing,
}

/// Which release serves a projector, and which is tried beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// The change that made it so.
    pub id: i64,
    /// The projector's name.
    pub projector: String,
    /// The release that serves it.
    pub release_id: i64,
    /// The one to go back to: the last that served it before and was not suspended since, if any.
    pub previous_release_id: Option<i64>,
    /// The one that was taken out by this. If it is the same, none serves.
    pub suspended_release_id: Option<i64>,
    /// Whether the projector is retired: no release serves it, and a rollback lets this one serve again.
    pub retired: bool,
    /// The one that is tried beside it.
    pub candidate: Option<Candidate>,
    /// Why that was decided.
    pub reason: Option<String>,
    /// Who decided that.
    pub created_by: String,
    /// When.
    pub created_at_ms: i64,
}

impl Rollout {
    /// The releases that are projected with: what serves, and what is tried beside it.
    pub fn in_use(&self) -> impl Iterator<Item = i64> + use<> {
        let serves = (!self.retired).then_some(self.release_id);
        let tried = self.candidate.as_ref().map(|candidate| candidate.release_id);
        serves.into_iter().chain(tried)
    }

    /// The releases that a rollback may go back to.
    pub fn back_to(&self) -> impl Iterator<Item = i64> + use<> {
        self.previous_release_id.into_iter().chain(self.retired.then_some(self.release_id))
    }
}
