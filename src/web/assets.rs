//! The files of the page, built into the program, under names that change with what they hold.

use crate::digest::PurposeHasher;
use hyper::body::Bytes;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Every file of the page by its name. A file refers only to files before it; the last one is the page itself.
const FILES: &[(&str, &[u8])] = &[
    ("haul.wasm", include_bytes!("page/haul.wasm")),
    ("style.css", include_bytes!("page/style.css")),
    ("format.js", include_bytes!("page/format.js")),
    ("shelf.js", include_bytes!("page/shelf.js")),
    ("awake.js", include_bytes!("page/awake.js")),
    ("module.js", include_bytes!("page/module.js")),
    ("call.js", include_bytes!("page/call.js")),
    ("lane.js", include_bytes!("page/lane.js")),
    ("crew.js", include_bytes!("page/crew.js")),
    ("line.js", include_bytes!("page/line.js")),
    ("view.js", include_bytes!("page/view.js")),
    ("fetching.js", include_bytes!("page/fetching.js")),
    ("giving.js", include_bytes!("page/giving.js")),
    ("app.js", include_bytes!("page/app.js")),
    ("index.html", include_bytes!("page/index.html")),
];

/// The page and its files, as they are served.
#[derive(Debug)]
pub(super) struct Assets {
    files: BTreeMap<String, Asset>,
    page: Asset,
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Asset {
    pub(super) bytes: Bytes,
    pub(super) content_type: &'static str,
    /// Strong: another one where a byte differs.
    pub(super) etag: String,
}

impl Assets {
    /// The files, with every reference to one of them turned into where it is served.
    pub(super) fn new() -> Self {
        Self::of(FILES)
    }

    /// The page.
    pub(super) fn page(&self) -> &Asset {
        &self.page
    }

    /// The file that is served as `/_a/NAME`.
    pub(super) fn file(&self, name: &str) -> Option<&Asset> {
        self.files.get(name)
    }

    fn of(list: &[(&str, &'static [u8])]) -> Self {
        let mut served: Vec<(String, String)> = Vec::new();
        let mut files = BTreeMap::new();
        let mut page = Asset::new("", Cow::Borrowed(&[]), "");
        for &(name, bytes) in list {
            let (_, extension) = name.rsplit_once('.').unwrap_or((name, ""));
            let bytes = match std::str::from_utf8(bytes) {
                Ok(text) if extension != "wasm" => Cow::Owned(with_references(text, &served).into_bytes()),
                _ => Cow::Borrowed(bytes),
            };
            let hash = hash(&bytes);
            let name_served = format!("{hash}.{extension}");
            served.push((format!("/_a/{name}"), format!("/_a/{name_served}")));
            page = Asset::new(extension, bytes, &hash);
            files.insert(name_served, page.clone());
        }
        Self { files, page }
    }
}

impl Asset {
    fn new(extension: &str, bytes: Cow<'static, [u8]>, hash: &str) -> Self {
        let content_type = match extension {
            "css" => "text/css; charset=utf-8",
            "html" => "text/html; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "mp4" => "video/mp4",
            "png" => "image/png",
            "svg" => "image/svg+xml",
            "wasm" => "application/wasm",
            "webm" => "video/webm",
            _ => "application/octet-stream",
        };
        let bytes = match bytes {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        Self { bytes, content_type, etag: format!("\"{hash}\"") }
    }
}

/// `text` with each reference to a file turned into where that is served. No name is the start of another one: each ends
/// in its ending.
fn with_references(text: &str, served: &[(String, String)]) -> String {
    served.iter().fold(text.to_owned(), |text, (reference, place)| text.replace(reference, place))
}

/// The first half of a file's digest, in hex.
fn hash(bytes: &[u8]) -> String {
    let digest = PurposeHasher::new("haul 2026 web 1: file of the page").bytes(bytes).finish();
    digest[..16].iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_served_under_a_name_that_what_it_refers_to_changes() {
        let first = Assets::of(&[("a.js", b"1"), ("b.js", b"import '/_a/a.js'"), ("index.html", b"/_a/b.js /_a/a.js")]);
        let second =
            Assets::of(&[("a.js", b"2"), ("b.js", b"import '/_a/a.js'"), ("index.html", b"/_a/b.js /_a/a.js")]);
        assert_eq!((first.files.len(), second.files.len()), (3, 3));
        assert!(first.files.keys().all(|name| !second.files.contains_key(name)));
        let page = String::from_utf8(first.page().bytes.to_vec()).unwrap();
        for reference in page.split(' ') {
            let asset = first.file(reference.strip_prefix("/_a/").unwrap()).unwrap();
            assert_eq!(asset.content_type, "text/javascript; charset=utf-8");
        }
        assert_ne!(first.page().etag, second.page().etag);
    }

    #[test]
    fn every_reference_of_the_page_leads_to_a_file_and_all_of_it_is_small() {
        let assets = Assets::new();
        for (name, asset) in &assets.files {
            let text = String::from_utf8_lossy(&asset.bytes);
            for (at, _) in text.match_indices("/_a/").filter(|_| asset.content_type != "application/wasm") {
                let rest = &text[at + 4..];
                let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '.').unwrap_or(rest.len());
                assert!(assets.file(&rest[..end]).is_some(), "{name} refers to {}", &rest[..end]);
            }
        }
        assert!(assets.page().content_type.starts_with("text/html"));
        let bytes: usize = assets.files.values().map(|asset| asset.bytes.len()).sum();
        assert!(bytes < 164 * 1024, "{bytes} bytes: 64 KiB of the module and 100 KiB of everything else");
    }
}
