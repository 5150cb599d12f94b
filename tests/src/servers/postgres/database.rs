use std::path::PathBuf;

/// A test's own database.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its URL for the superuser.
    pub url: String,
    port: u16,
    authority: Option<PathBuf>,
}

impl Database {
    pub(super) fn new(name: String, port: u16, authority: Option<PathBuf>) -> Self {
        let url = super::url(port, &name, "postgres", authority.as_deref());
        Self { name, url, port, authority }
    }

    /// Returns its URL for this role.
    pub fn url_for(&self, role: &str) -> String {
        super::url(self.port, &self.name, role, self.authority.as_deref())
    }

    /// Returns its URL for this role through a proxy on another port.
    pub fn url_through(&self, port: u16, role: &str) -> String {
        super::url(port, &self.name, role, self.authority.as_deref())
    }
}
