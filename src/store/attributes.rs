//! Extended attributes of what is received, set on open handles. One that cannot be held costs a word, not the file.

use super::Store;
use super::disk::{Disk, DiskFile, DiskFolder};
use super::fault::StoreError;
use crate::manifest::Attributes;
use crate::rel_path::RelPath;

/// An attribute that a file or folder is without, because the destination cannot hold it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttributeLost {
    /// Its name, raw.
    pub name: Box<str>,
    /// What the system said.
    pub why: String,
}

impl<D: Disk> Store<D> {
    /// Sets the attributes of a folder and returns those that it cannot hold. [`Store::finish_folders`] makes them durable.
    pub fn set_folder_attributes(
        &self,
        path: &RelPath,
        attributes: &Attributes,
    ) -> Result<Vec<AttributeLost>, StoreError> {
        if attributes.is_empty() {
            return Ok(Vec::new());
        }
        let folder = self.inner.folder(Some(path))?;
        Ok(set_each(attributes, |name, value| folder.set_attribute(name, value)))
    }
}

/// Sets the attributes of an open file, which stands under no name that anybody else knows, and returns those that it
/// cannot hold. Before its bits: a file that may not be written takes none.
pub(super) fn set_on(file: &impl DiskFile, attributes: &Attributes) -> Vec<AttributeLost> {
    set_each(attributes, |name, value| file.set_attribute(name, value))
}

fn set_each(attributes: &Attributes, set: impl Fn(&str, &[u8]) -> std::io::Result<()>) -> Vec<AttributeLost> {
    let lost = |name: &str, error: std::io::Error| AttributeLost { name: name.into(), why: error.to_string() };
    let outcomes = attributes.list().iter().map(|it| set(&it.name, &it.value).map_err(|error| lost(&it.name, error)));
    outcomes.filter_map(Result::err).collect()
}
