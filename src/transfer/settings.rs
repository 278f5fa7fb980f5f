//! What a transfer is told before it starts; a plain value that the command line fills in and checks.

use super::{Controls, Expectation, OpenPages, Throttle};
use crate::codec::Compression;
use crate::rel_path::RelPath;
use crate::source::Filter;
use crate::store::RecordId;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// What to offer, where, and where to remember it.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent choices")]
pub struct SendSettings {
    /// Files and folders to offer, as the user wrote them; at least one.
    pub paths: Vec<PathBuf>,
    /// What of them is offered.
    pub filter: Filter,
    /// Where to listen. `None`: the port remembered for these paths, else any free one, on every address.
    pub bind: Option<SocketAddr>,
    /// The only address that the link names. `None`: the bound one, or every one that a peer may reach.
    pub address: Option<IpAddr>,
    /// Most data lanes that one receiver may have. `None`: the measured default.
    pub lanes: Option<u16>,
    /// Whether to go on serving after a receiver has everything.
    pub keep: bool,
    /// Whether to show no code beside the link.
    pub no_code: bool,
    /// Whether to announce the offer on the local network. One that only this machine can reach never is.
    pub announce: bool,
    /// Where port, link and session secrets of an offer are remembered. `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// Where hashes of unchanged files are remembered. `None`: nowhere.
    pub cache_dir: Option<PathBuf>,
    /// Whether each receiver waits for [`Controls::accept`] before it is told anything of the offer.
    pub ask_each: bool,
    /// Bytes per second, as they travel, that all receivers together may have at first. `None`: no limit.
    pub limit: Option<NonZeroU64>,
    /// Whether pieces are made shorter for receivers that take them.
    pub compress: Compression,
    /// What serves browsers at the same port. `None`: nothing.
    pub pages: Option<OpenPages>,
    /// Whether browsers are served over TLS, and in no other way.
    pub tls: bool,
    /// What is done about single receivers.
    pub controls: Controls,
    /// Whether symbolic links are listed, as far as they stay in the path that they lie in.
    pub symlinks: bool,
    /// Whether extended attributes of users are listed.
    pub attributes: bool,
}

/// Where input is kept that can be read only once.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// The folder; made where there is none.
    pub folder: PathBuf,
    /// The name that it is offered by.
    pub name: String,
    /// Whether to offer what an earlier run kept, and to read nothing.
    pub again: bool,
}

/// What to push, and to whom.
#[derive(Clone)]
pub struct PushSettings {
    /// Files and folders to offer, as the user wrote them; at least one.
    pub paths: Vec<PathBuf>,
    /// What of them is offered.
    pub filter: Filter,
    /// The link or the code of whoever listens, as it was given, not yet parsed.
    pub to: Zeroizing<String>,
    /// Where that is, best first, beside what a link says and what is found on the network.
    pub at: Vec<SocketAddr>,
    /// Most data lanes that the other end may have opened. `None`: the measured default.
    pub lanes: Option<u16>,
    /// How long the other end is tried, when it is lost and before it is there. `None`: without limit, and not before.
    pub retry_for: Option<Duration>,
    /// Where hashes of unchanged files are remembered. `None`: nowhere.
    pub cache_dir: Option<PathBuf>,
    /// Whether symbolic links are listed, as far as they stay in the path that they lie in.
    pub symlinks: bool,
    /// Whether extended attributes of users are listed.
    pub attributes: bool,
    /// Whether pieces are made shorter, if the other end takes them.
    pub compress: Compression,
    /// Bytes per second, as they travel, that are sent at first. `None`: no limit.
    pub limit: Option<NonZeroU64>,
    /// Sets other limits under way; nothing else can be said here.
    pub controls: Controls,
}

/// Where to listen for senders, and by which rules to receive from them.
#[allow(clippy::struct_excessive_bools, reason = "independent rules")]
#[derive(Clone, Debug, Default)]
pub struct ListenSettings {
    /// The folder that receives; it exists.
    pub into: PathBuf,
    /// Where to listen. `None`: the port remembered for this folder, else any free one, on every address.
    pub bind: Option<SocketAddr>,
    /// The only address that the link names. `None`: the bound one, or every one that a peer may reach.
    pub address: Option<IpAddr>,
    /// Whether to go on listening after a transfer is complete.
    pub keep: bool,
    /// Whether to show no code beside the link.
    pub no_code: bool,
    /// Whether to announce itself on the local network. What only this machine can reach never is.
    pub announce: bool,
    /// What to do about a name that exists with other content, unless the observer decides otherwise.
    pub conflict: Conflict,
    /// Whether to drop caches and hash each file once more before it is published.
    pub read_back: bool,
    /// Data lanes to ask a sender for. `None`: the measured default.
    pub lanes: Option<u16>,
    /// How long a lost sender, and room on a full disk, is waited for. `None`: without limit.
    pub retry_for: Option<Duration>,
    /// Whether hidden names may be written directly into the home folder.
    pub allow_hidden: bool,
    /// What an offer has to be, to the byte. `None`: whatever the user accepts.
    pub expect: Option<Expectation>,
    /// Where port, link and session secrets of a listening folder are remembered. `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// Whether symbolic links are made. Without it, each is left out and counts as failed.
    pub symlinks: bool,
    /// Whether extended attributes are set, where the offer has them.
    pub attributes: bool,
    /// [`Compression::Off`] has senders not compress; how far they do otherwise is theirs to decide.
    pub compress: Compression,
    /// How fast data may come from all senders together.
    pub throttle: Throttle,
    /// What serves browsers at the same port. `None`: nothing.
    pub pages: Option<OpenPages>,
    /// Whether browsers are served over TLS, and in no other way.
    pub tls: bool,
}

/// What to offer and how to take, both at one link.
#[derive(Clone, Debug, Default)]
pub struct ShareSettings {
    /// What is offered. Where to listen, how the link is found and what serves browsers is said here; it is always kept.
    pub offer: SendSettings,
    /// Into which folder files are taken, and by which rules.
    pub take: ListenSettings,
}

/// What to fetch, into which folder, and by which rules.
#[allow(clippy::struct_excessive_bools, reason = "independent rules")]
#[derive(Clone)]
pub struct ReceiveSettings {
    /// The link or the code as it was given, not yet parsed. Empty where a transfer is resumed that a code began.
    pub invitation: Zeroizing<String>,
    /// Where else the host may be, best first: a code has no address.
    pub at: Vec<SocketAddr>,
    /// The folder that receives; it exists.
    pub into: PathBuf,
    /// What to do about a name that exists with other content, unless the observer decides otherwise.
    pub conflict: Conflict,
    /// Whether to drop caches and hash each file once more before it is published.
    pub read_back: bool,
    /// Data lanes to open. `None`: the measured default.
    pub lanes: Option<u16>,
    /// How long a lost host is tried again, and room on a full disk waited for. `None`: without limit.
    pub retry_for: Option<Duration>,
    /// Whether a host that was never there is tried again like a lost one.
    pub wait_for_host: bool,
    /// Whether hidden names may be written directly into the home folder.
    pub allow_hidden: bool,
    /// Where session secrets are remembered. `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// The record of the transfer that is continued: its offer was accepted before, and another one is not taken.
    pub resuming: Option<RecordId>,
    /// What the offer has to be, to the byte. `None`: whatever the user accepts.
    pub expect: Option<Expectation>,
    /// Whether symbolic links are made. Without it, each is left out and counts as failed.
    pub symlinks: bool,
    /// Whether extended attributes are set, where the offer has them.
    pub attributes: bool,
    /// [`Compression::Off`] has the host not compress; how far it does otherwise is its own to decide.
    pub compress: Compression,
    /// Whether only to foresee what would become of each entry: nothing is written.
    pub dry_run: bool,
    /// Where the only file of the offer goes. `None`: whatever is offered goes under its own names.
    pub out: Option<Out>,
    /// How fast data may come.
    pub throttle: Throttle,
}

/// Where one file goes, other than under its own name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Out {
    /// Into the folder, under this name.
    Name(RelPath),
    /// Into the stream that [`receive_stream`](super::receive_stream) is given; the folder keeps what it needs meanwhile.
    Stream,
}

impl ReceiveSettings {
    /// What a test has that wants nothing special.
    #[cfg(test)]
    pub(super) fn plain(into: &std::path::Path) -> Self {
        Self {
            invitation: Zeroizing::default(),
            at: Vec::new(),
            into: into.to_owned(),
            conflict: Conflict::Fail,
            read_back: false,
            lanes: None,
            retry_for: None,
            wait_for_host: false,
            allow_hidden: false,
            state_dir: None,
            resuming: None,
            expect: None,
            symlinks: false,
            attributes: false,
            compress: Compression::Auto,
            dry_run: false,
            out: None,
            throttle: Throttle::default(),
        }
    }

    /// Whether compressed pieces may come.
    pub(super) fn takes_zstd(&self) -> bool {
        self.compress != Compression::Off
    }
}

/// What happens to a file whose name is taken by different content.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Conflict {
    /// The transfer fails with `Exists` before any data.
    #[default]
    Fail,
    /// The old file is replaced once the new one is complete.
    Overwrite,
    /// The new file gets a free name.
    Rename,
    /// The old file stays and the new one is not fetched.
    Skip,
    /// As `Overwrite`, and what has the same content gets mode, time and attributes as sent.
    Update,
}

impl Conflict {
    /// Whether the new file takes the old one's place.
    pub(super) fn replaces(self) -> bool {
        matches!(self, Self::Overwrite | Self::Update)
    }
}

/// Leaves the link or code out: it is a secret, and debug output ends up in logs.
impl fmt::Debug for ReceiveSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            invitation: _,
            at,
            into,
            conflict,
            read_back,
            lanes,
            retry_for,
            wait_for_host,
            allow_hidden,
            state_dir,
            resuming,
            expect,
            symlinks,
            attributes,
            compress,
            dry_run,
            out,
            throttle,
        } = self;
        formatter
            .debug_struct("ReceiveSettings")
            .field("invitation", &"[redacted]")
            .field("at", at)
            .field("into", into)
            .field("conflict", conflict)
            .field("read_back", read_back)
            .field("lanes", lanes)
            .field("retry_for", retry_for)
            .field("wait_for_host", wait_for_host)
            .field("allow_hidden", allow_hidden)
            .field("state_dir", state_dir)
            .field("resuming", resuming)
            .field("expect", &expect.as_ref().map(|expect| expect.manifest().path()))
            .field("symlinks", symlinks)
            .field("attributes", attributes)
            .field("compress", compress)
            .field("dry_run", dry_run)
            .field("out", out)
            .field("throttle", &throttle.rate())
            .finish()
    }
}

/// Leaves the link out: it is a secret, and debug output ends up in logs.
impl fmt::Debug for PushSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            paths,
            filter,
            to: _,
            at,
            lanes,
            retry_for,
            cache_dir,
            symlinks,
            attributes,
            compress,
            limit,
            controls: _,
        } = self;
        formatter
            .debug_struct("PushSettings")
            .field("paths", paths)
            .field("filter", filter)
            .field("to", &"[redacted]")
            .field("at", at)
            .field("lanes", lanes)
            .field("retry_for", retry_for)
            .field("cache_dir", cache_dir)
            .field("symlinks", symlinks)
            .field("attributes", attributes)
            .field("compress", compress)
            .field("limit", limit)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_link() {
        let settings = ReceiveSettings {
            invitation: Zeroizing::new("HTTP://192.0.2.1:4285/ROOM#KEY".into()),
            at: Vec::new(),
            into: ".".into(),
            conflict: Conflict::Fail,
            read_back: false,
            lanes: None,
            retry_for: None,
            wait_for_host: false,
            allow_hidden: false,
            state_dir: None,
            resuming: None,
            expect: None,
            symlinks: false,
            attributes: false,
            compress: Compression::Auto,
            dry_run: false,
            out: None,
            throttle: Throttle::default(),
        };
        let text = format!("{settings:?}");
        assert!(text.contains("[redacted]") && !text.contains("KEY") && !text.contains("ROOM"), "{text}");
        let push = PushSettings {
            paths: Vec::new(),
            filter: Filter::default(),
            to: settings.invitation,
            at: Vec::new(),
            lanes: None,
            retry_for: None,
            cache_dir: None,
            symlinks: false,
            attributes: false,
            compress: Compression::Auto,
            limit: None,
            controls: Controls::new(),
        };
        let text = format!("{push:?}");
        assert!(text.contains("[redacted]") && !text.contains("KEY") && !text.contains("ROOM"), "{text}");
    }
}
