//! Manifests as files: one is written of what is here, a folder is checked against one, an offer has to be what one says.

mod check;
mod contents;
mod expect;
mod file;
mod finding;
mod make;
mod output;
mod rounds;
mod sums;

pub use check::{Verified, VerifySettings, repair, verify};
pub use expect::Expectation;
pub(in crate::transfer) use expect::Need;
pub use file::ManifestFile;
pub use finding::{BadRange, Difference, Finding, Found, Kind, Tally};
pub use make::{ManifestSettings, manifest};
