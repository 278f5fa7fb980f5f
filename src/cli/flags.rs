//! Groups of flags that several commands have, or that belong together.

use crate::cli::exit::Exit;
use crate::cli::qr::{self, QrFile};
use crate::cli::report::Failure;
use crate::cli::units;
use clap::Args;
use clap::builder::FalseyValueParser;
use haul::codec::{Compression, Level};
use haul::limits::DATA_LANES_MAX;
use haul::transfer::{Conflict, OpenPages};
use std::num::NonZeroU64;
use std::path::PathBuf;

/// What of a tree is sent beside files and folders.
#[derive(Args, Debug)]
pub(crate) struct SentTree {
    /// Send symbolic links as links, where they stay in the folder given; the receiver has to ask for them as well
    ///
    /// A link is sent if it is relative and leads to a place within the given folder that it lies in, and if `..` stands only
    /// before its first name. Every other one is left out and named. Without this flag all of them are; none is ever
    /// followed but a path that you give.
    #[arg(long)]
    pub(crate) symlinks: bool,

    /// Send extended attributes, on Linux, those of users alone (`user.*`); the receiver has to ask for them as well
    ///
    /// Attributes named `security.*`, `system.*` and `trusted.*` are never sent or set: they grant rights to programs, hold
    /// access rules for the users of one machine, or belong to its system.
    #[arg(long)]
    pub(crate) xattrs: bool,
}

/// What of a tree is made beside files and folders.
#[derive(Args, Debug)]
pub(crate) struct ReceivedTree {
    /// Make the symbolic links of the offer, last of all, where they stay in the folder that they lie in
    ///
    /// The listing shows where each leads. Without this flag each is left out, and the transfer is partial.
    #[arg(long)]
    pub(crate) symlinks: bool,

    /// Set the extended attributes of the offer, on Linux, those of users alone (`user.*`)
    ///
    /// One that the file system cannot hold is named, and the file is there without it. Attributes named `security.*`,
    /// `system.*` and `trusted.*` are never sent or set: they grant rights to programs, hold access rules for the users of
    /// one machine, or belong to its system.
    #[arg(long)]
    pub(crate) xattrs: bool,
}

/// How standard input is offered.
#[derive(Args, Debug)]
#[command(next_help_heading = "Standard input")]
pub(crate) struct Stream {
    /// The name that standard input is offered by [default: stdin]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Keep standard input in a file in this folder until it is handed over
    #[arg(long, value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,

    /// Read nothing, and offer the input again that an interrupted run of this name has kept
    #[arg(long)]
    pub(crate) again: bool,
}

/// Whether browsers are served.
#[derive(Args, Debug)]
pub(crate) struct Page {
    /// Serve no page to browsers: the link is for haul alone
    ///
    /// Without it a browser opens the link, on a phone too, and needs nothing else. What the page says and fetches is sealed
    /// with the link's key, which a browser sends nobody: whoever listens on the network learns nothing. Whoever alters the
    /// network's traffic could give the browser another page; against them only haul on both sides helps. Files that the
    /// browser downloads by itself, outside of the page, are not encrypted.
    #[arg(long, env = "HAUL_NO_WEB", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub(crate) no_web: bool,

    /// Serve the page over HTTPS alone, with a certificate of your own, of which browsers warn
    ///
    /// Then nobody who listens learns anything, not even from the browser's own downloads, and the page may use what browsers
    /// keep for such pages. No authority vouches for the certificate, so whoever alters the network's traffic is kept out
    /// only where the browser's user compares its fingerprint, which is shown here and, of what the browser really got, in
    /// the browser's own words about the certificate. It is kept for a year at the most, and made anew where an address is
    /// not in it.
    #[arg(long)]
    pub(crate) tls: bool,
}

impl Page {
    /// What serves browsers, where they are served.
    pub(crate) fn pages(&self) -> Option<OpenPages> {
        (!self.no_web).then_some(haul::web::open)
    }

    /// Refuses a page that is and is not to be served.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.tls && self.no_web {
            return Err(Failure::new(Exit::Usage, "--tls is about the page, and with --no-web there is none")
                .next("leave out one of the two, or unset HAUL_NO_WEB"));
        }
        Ok(())
    }
}

/// How others learn where they can connect.
#[derive(Args, Debug)]
pub(crate) struct Invitation {
    /// Do not announce it on the local network; a code then leads nobody here
    #[arg(long, env = "HAUL_NO_ANNOUNCE", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub(crate) no_announce: bool,

    /// Show no QR code of the link
    ///
    /// It is shown on a terminal that has colours, where its window has room for all of it, and the link has an address of
    /// this network. `--address` has it show that one, whatever it is.
    #[arg(long, env = "HAUL_NO_QR", hide_env_values = true, value_parser = FalseyValueParser::new())]
    pub(crate) no_qr: bool,

    /// Write the link's QR code to this file, as SVG or PNG by its ending; the file holds the key
    #[arg(long, value_name = "FILE", value_parser = qr::parse_file)]
    pub(crate) qr_file: Option<QrFile>,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
#[expect(clippy::struct_excessive_bools, reason = "one of them at most")]
pub(crate) struct ConflictFlags {
    /// Replace a file of the same name once the one received is complete
    #[arg(long)]
    overwrite: bool,

    /// Give a received file a free name where its own is taken
    #[arg(long)]
    rename: bool,

    /// Leave a file of the same name as it is
    #[arg(long)]
    skip_existing: bool,

    /// Repeat a send into the same place: take over what changed, and delete nothing
    ///
    /// Files are compared by their content, never by size and time alone. One that is the same stays and gets mode and time as
    /// sent, where `--overwrite` leaves those alone. One that differs is replaced in one step by the new version, which is
    /// made of what the old one has of it, also where that moved. What is new is added. As with rsync, other names of a file that
    /// stays (hard links, as in a snapshot made with `cp -al`) show its new mode and time; they never show new content.
    #[arg(long)]
    update: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Lanes {
    /// Connections that carry data at the same time
    #[arg(
        long = "lanes",
        value_name = "N",
        env = "HAUL_LANES",
        hide_env_values = true,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(DATA_LANES_MAX)),
    )]
    pub(crate) count: Option<u16>,
}

/// How fast data may come.
#[derive(Args, Debug)]
pub(crate) struct Limit {
    /// Let no more than so many bytes a second come, over all connections together: 500K, 10M, 1G
    ///
    /// Counts what travels, compressed or not. Senders are asked to send no more; several at a time share it evenly.
    #[arg(
        long = "limit",
        value_name = "RATE",
        env = "HAUL_LIMIT",
        hide_env_values = true,
        value_parser = units::parse_rate,
    )]
    pub(crate) rate: Option<NonZeroU64>,
}

#[derive(Args, Debug)]
pub(crate) struct Compress {
    /// Compress what travels: auto, off, or a level from 1 to 19
    ///
    /// `auto` compresses what shrinks while that makes the transfer faster, as measured under way. A level has the sender
    /// compress everything that shrinks. On the receiving side, `off` has the sender not compress, which spares a battery;
    /// everything else leaves it to the sender.
    #[arg(
        long = "compress",
        value_name = "HOW",
        default_value = "auto",
        env = "HAUL_COMPRESS",
        hide_env_values = true,
        value_parser = parse_compression,
    )]
    pub(crate) how: Compression,
}

impl Invitation {
    /// What is wanted of the link's QR code.
    pub(crate) fn qr(&self, address_chosen: bool) -> qr::Wish {
        qr::Wish { on_terminal: !self.no_qr, file: self.qr_file.clone(), address_chosen }
    }
}

impl ConflictFlags {
    /// The rule that was chosen, or `None`.
    pub(crate) fn chosen(&self) -> Option<Conflict> {
        match self {
            Self { overwrite: true, .. } => Some(Conflict::Overwrite),
            Self { rename: true, .. } => Some(Conflict::Rename),
            Self { skip_existing: true, .. } => Some(Conflict::Skip),
            Self { update: true, .. } => Some(Conflict::Update),
            _ => None,
        }
    }
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    match text {
        "auto" => Ok(Compression::Auto),
        "off" => Ok(Compression::Off),
        number => {
            let level = number.parse().ok().and_then(Level::new);
            level.map(Compression::Level).ok_or_else(|| "expected `auto`, `off` or a level from 1 to 19".into())
        }
    }
}
