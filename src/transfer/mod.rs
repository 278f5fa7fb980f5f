//! Sending and receiving: the loop that feeds a session from lanes and disk, and what it tells its caller.

pub use addresses::is_public;
pub use cancel::Cancel;
pub use clean::{clean, clean_left_behind};
pub use controls::Controls;
pub use dry_run::preview;
pub use event::{
    CodeChange, Event, FailedFile, FileOutcome, HostedSession, Hosting, LinkOutcome, Observer, PeerState, Phase,
    Progress, Shared, Summary,
};
pub use failure::{Cause, FailureClass, TransferError};
pub use forecast::{Fate, Forecast, Foreseen};
pub use handed::HandedFile;
pub use inbox::{Batch, Inbox, NotPosted, Posted};
pub use integrity::{
    BadRange, Difference, Expectation, Finding, Found, Kind, ManifestFile, ManifestSettings, Tally, Verified,
    VerifySettings, manifest, repair, verify,
};
pub use listen::listen;
pub use out::stream_folder;
pub use pages::{Identity, OpenPages, Pages, Premises};
pub use parcel::{Delivery, NotTaken, Parcel, Wants};
pub use proposal::{Decision, OfferLine, OfferLink, OfferSummary};
pub use push::push;
pub use receive::{receive, receive_stream};
pub use send::send;
pub use settings::{
    Conflict, ListenSettings, Out, PushSettings, ReceiveSettings, SendSettings, ShareSettings, SpoolSettings,
};
pub use share::share;
pub use shelf::{Limits, Refused, Shelf, SourceChanged, Visitor, Welcome};
pub use spooled::spooled;
pub use throttle::Throttle;
pub use unfinished::{Holdings, LeftBehind, Unfinished, unfinished};

/// Asks a running transfer to stop and keep its state.
pub mod cancel;
/// What a sender's user does about single receivers.
pub mod controls;
/// What a transfer tells its observer, and what it asks.
pub mod event;
/// Manifests as files: written, checked against a folder, demanded of an offer.
pub mod integrity;
/// What a dry run says.
pub mod forecast;
/// Why a transfer failed, what it kept, and what to do next.
pub mod failure;
/// What a transfer is told before it starts.
pub mod settings;
/// How fast data may come.
pub mod throttle;
/// Who serves browsers, and what they may do.
pub mod pages;
/// What browsers may fetch.
pub mod shelf;
/// What browsers may send.
pub mod inbox;
/// Files that a page hands over piece by piece.
pub mod parcel;
/// What a folder holds that is not finished.
pub mod unfinished;
/// How what is unfinished is dropped.
pub mod clean;
mod addresses;
mod awaited;
mod beacon;
mod codes;
mod company;
mod conduct;
mod contents;
mod crowd;
mod data_lanes;
mod decide;
mod desk;
mod dial;
mod digests;
mod door;
mod dry_run;
mod engine;
mod failed;
mod foresee;
mod foresee_links;
mod frames;
mod front;
mod growth;
mod handed;
mod hope;
mod host;
mod lane_thread;
mod limit;
mod links;
mod listen;
mod lobby;
mod mailbox;
mod memory;
mod neighbours;
mod offer;
mod older;
mod out;
mod outlet;
mod panics;
mod pieces;
mod plan;
mod proposal;
mod publisher;
mod push;
mod pushed_lanes;
mod queue;
mod reach;
mod receive;
mod reception;
mod retry;
mod room;
mod route;
mod seek;
mod send;
mod serve;
mod share;
mod sink;
mod spooled;
mod standstill;
mod state;
mod tally;
mod wish;
mod work;
