use std::path::PathBuf;

/// A database that a test has for itself.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Where the superuser finds it.
    pub url: String,
    port: u16,
    authority: Option<PathBuf>,
}

impl Database {
    pub(super) fn new(name: String, port: u16, authority: Option<PathBuf>) -> Self {
        let url = super::url(port, &name, "postgres", authority.as_deref());
        Self { name, url, port, authority }
    }

    /// Where this role finds it.
    pub fn url_for(&self, role: &str) -> String {
        super::url(self.port, &self.name, role, self.authority.as_deref())
    }

    /// Where this role finds it through a proxy on another port.
    pub fn url_through(&self, port: u16, role: &str) -> String {
        super::url(port, &self.name, role, self.authority.as_deref())
    }
}
