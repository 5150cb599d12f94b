use bytes::Bytes;

/// A release to add.
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
    /// The configuration: a canonical JSON object.
    pub config: String,
    /// The component's description of itself, as JSON.
    pub description: String,
    /// Why it is created.
    pub note: String,
    /// Who creates it.
    pub created_by: String,
    /// The findings of the checks before its admission, as JSON.
    pub admission: String,
    /// The signature of the component, if it is signed.
    pub signature: Option<ComponentSignature>,
}

/// A detached signature of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentSignature {
    /// The public key that the signature was verified with.
    pub public_key: [u8; 32],
    /// The signature.
    pub signature: [u8; 64],
    /// The owner of the key.
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
    /// The configuration: a canonical JSON object.
    pub config: String,
    /// The component's description of itself, as JSON.
    pub description: String,
    /// Why it was created.
    pub note: String,
    /// Who created it.
    pub created_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    /// The findings of the checks before its admission, as JSON; `None` if a version without such checks created it.
    pub admission: Option<String>,
}

/// The name of a release.
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
    /// Returns name, version and number as people write them: `teacher-results@1.2.0#7`.
    pub fn label(&self) -> String {
        label(&self.projector, &self.version, self.id)
    }
}

impl Release {
    /// Returns name, version and number as people write them: `teacher-results@1.2.0#7`.
    pub fn label(&self) -> String {
        label(&self.projector, &self.version, self.id)
    }
}

fn label(projector: &str, version: &str, id: i64) -> String {
    format!("{projector}@{version}#{id}")
}

/// The result of a request to add a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddRelease {
    /// The release exists, new or from before.
    There(Added, Release),
    /// A release of this name and version has another component, with this digest.
    OtherDigest([u8; 32]),
}

/// Whether a release existed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New,
    /// The same component and configuration were added before.
    Existing,
}
