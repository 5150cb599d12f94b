use crate::{AddRelease, ComponentSignature, NewRelease, Release, ReleaseName, Store, StoreError};

impl Store {
    /// Adds a release. Adding the same release again is safe.
    pub async fn add_release(&self, release: &NewRelease, now_ms: i64) -> Result<AddRelease, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.add_release(release, now_ms).await,
            Self::Postgres(postgres) => postgres.add_release(release, now_ms).await,
        }
    }

    /// Returns all releases, oldest first; of one projector only, if given.
    pub async fn releases(&self, projector: Option<&str>) -> Result<Vec<Release>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.releases(projector).await,
            Self::Postgres(postgres) => postgres.releases(projector).await,
        }
    }

    /// Returns the names of all releases.
    pub async fn release_names(&self) -> Result<Vec<ReleaseName>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.release_names().await,
            Self::Postgres(postgres) => postgres.release_names().await,
        }
    }

    /// Returns one release.
    pub async fn release(&self, release_id: i64) -> Result<Option<Release>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.release(release_id).await,
            Self::Postgres(postgres) => postgres.release(release_id).await,
        }
    }

    /// Returns the bytes of a release's component.
    pub async fn component(&self, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.component(digest).await,
            Self::Postgres(postgres) => postgres.component(digest).await,
        }
    }

    /// Returns all signatures of components, each with the digest of its component.
    pub async fn component_signatures(&self) -> Result<Vec<([u8; 32], ComponentSignature)>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.component_signatures().await,
            Self::Postgres(postgres) => postgres.component_signatures().await,
        }
    }
}
