//! The paths that a user names: what each is called in the offer, and what names the offer itself.

use super::fault::SourceError;
use super::filter::Filter;
use crate::digest::{DIGEST_BYTES, PurposeHasher};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// One given path.
#[derive(Debug)]
pub(super) struct Top {
    /// The path as it was given.
    pub(super) given: PathBuf,
    /// The folder that it lies in, canonical.
    pub(super) folder: PathBuf,
    /// Its name in that folder.
    pub(super) local_name: OsString,
    /// Its name in the offer. That of the link where the given path is one.
    pub(super) name: String,
}

/// Names an offer of what `filter` takes of `paths`: the same for the same files and folders, in whatever order and form
/// they are given, and the same rules. Under other rules it is another offer, with a link of its own: a receiver of the
/// one that it accepted is not to find another listing there as if the files had changed.
pub fn offer_id(paths: &[PathBuf], filter: &Filter) -> Result<[u8; DIGEST_BYTES], SourceError> {
    let mut hasher = PurposeHasher::new("haul 2026 offer of these paths v1");
    for top in resolve(paths)? {
        hasher.field(top.folder.as_os_str().as_bytes());
        hasher.field(top.local_name.as_bytes());
        hasher.field(top.name.as_bytes());
    }
    filter.name_to(&mut hasher);
    Ok(hasher.finish())
}

/// The given paths in the order of their names in the offer.
pub(super) fn resolve(paths: &[PathBuf]) -> Result<Vec<Top>, SourceError> {
    let mut tops = paths.iter().map(|path| resolve_one(path)).collect::<Result<Vec<_>, _>>()?;
    // A stable sort: of two equal names the one given first stays first.
    tops.sort_by(|one, other| one.name.cmp(&other.name));
    if let Some(pair) = tops.windows(2).find(|pair| pair[0].name == pair[1].name) {
        let (first, second, name) = (pair[0].given.clone(), pair[1].given.clone(), pair[0].name.clone());
        return Err(SourceError::Clash { first, name, second });
    }
    Ok(tops)
}

/// A name as it stands in a listing: bytes that are no text become `%FF` and the like, and so does `%` beside them.
pub(super) fn listed_name(name: &OsStr) -> Cow<'_, str> {
    use std::fmt::Write;
    if let Some(text) = name.to_str() {
        return Cow::Borrowed(text);
    }
    let mut mapped = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        mapped.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            write!(mapped, "%{byte:02X}").expect("a String takes all that is written to it");
        }
    }
    Cow::Owned(mapped)
}

fn resolve_one(path: &Path) -> Result<Top, SourceError> {
    let given = || path.to_owned();
    let canonical = std::fs::canonicalize(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SourceError::Missing { path: given() },
        _ => SourceError::Unreadable { path: given(), source },
    })?;
    let (Some(folder), Some(local_name)) = (canonical.parent(), canonical.file_name()) else {
        return Err(SourceError::Nameless { path: given() });
    };
    let name = match path.components().next_back() {
        Some(Component::Normal(name)) => name,
        _ => local_name,
    };
    Ok(Top {
        given: given(),
        folder: folder.to_owned(),
        local_name: local_name.to_owned(),
        name: listed_name(name).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_text_are_mapped() {
        assert_eq!(listed_name(OsStr::new("100%.txt")), "100%.txt");
        assert_eq!(listed_name(OsStr::from_bytes(b"caf\xe9.txt")), "caf%E9.txt");
        assert_eq!(listed_name(OsStr::from_bytes(b"5%\xff")), "5%25%FF");
    }

    #[test]
    fn an_offer_is_known_again_in_any_order_and_form() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        std::fs::create_dir(root.join("b")).unwrap();
        std::fs::write(root.join("a"), b"").unwrap();
        let offer_id = |paths: &[PathBuf]| super::offer_id(paths, &Filter::default());
        let id = offer_id(&[root.join("a"), root.join("b")]).unwrap();
        assert_eq!(id, offer_id(&[root.join("b/../b/."), root.join("b/../a")]).unwrap());
        assert_ne!(id, offer_id(&[root.join("a")]).unwrap());
        assert_ne!(id, offer_id(&[root.join("b")]).unwrap());
        std::os::unix::fs::symlink("a", root.join("c")).unwrap();
        assert_ne!(offer_id(&[root.join("a")]).unwrap(), offer_id(&[root.join("c")]).unwrap());
    }

    #[test]
    fn other_filters_make_another_offer() {
        use super::super::filter::Rule;
        let temp = tempfile::tempdir().unwrap();
        let paths = [temp.path().to_owned()];
        let (log, keep) = (Rule::Exclude("*.log".into()), Rule::Include("keep.log".into()));
        let filters = [
            Filter::default(),
            Filter::new(vec![log.clone()], false, None).unwrap(),
            Filter::new(vec![log.clone(), keep.clone()], false, None).unwrap(),
            Filter::new(vec![keep, log], false, None).unwrap(),
            Filter::new(vec![Rule::Lines("*.log".into())], false, None).unwrap(),
            Filter::new(Vec::new(), true, None).unwrap(),
            Filter::new(Vec::new(), false, Some(0)).unwrap(),
            Filter::new(Vec::new(), false, Some(1)).unwrap(),
        ];
        let ids: std::collections::HashSet<_> =
            filters.iter().map(|filter| offer_id(&paths, filter).unwrap()).collect();
        assert_eq!(ids.len(), filters.len());
        assert_eq!(offer_id(&paths, &filters[2]).unwrap(), offer_id(&paths, &filters[2].clone()).unwrap());
    }
}
