//! Events that services submit in their own databases.

mod submit;
mod submit_faults;
