//! The page in real Chromium, over plain HTTP on an address that is not the loopback's, through a network that fails; and over
//! HTTPS.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[path = "browser/chromium.rs"]
mod chromium;
#[path = "browser/company.rs"]
mod company;
#[path = "support/fault_proxy.rs"]
mod fault_proxy;
#[path = "browser/fetching.rs"]
mod fetching;
#[path = "browser/giving.rs"]
mod giving;
#[path = "browser/hostile.rs"]
mod hostile;
#[path = "support/listening.rs"]
mod listening;
#[path = "browser/looks.rs"]
mod looks;
#[path = "support/netns.rs"]
mod netns;
#[path = "support/process.rs"]
mod process;
#[path = "browser/secure.rs"]
mod secure;
#[path = "browser/sharing.rs"]
mod sharing;
#[path = "browser/stage.rs"]
mod stage;
#[path = "browser/tapped.rs"]
mod tapped;
