//! A transfer takes the way through the proxy, and the proxy leaves it alone until it is told otherwise.

#![allow(clippy::unwrap_used)]

#[path = "support/fault_proxy.rs"]
mod fault_proxy;
#[path = "support/process.rs"]
mod process;

use fault_proxy::schedule::{Step, When};
use fault_proxy::{Fault, FaultProxy, Way, Whom};
use process::Playground;
use std::fs;

const LENGTH: usize = 8 << 20;

#[test]
fn a_transfer_passes_and_waits_where_it_is_held() {
    let playground = Playground::new();
    let file = playground.file("data", LENGTH, 1);
    let into = playground.dir("into");
    let sending = playground.send(&[&file], &[]);
    let proxy = FaultProxy::for_link(&sending.link);
    let half = LENGTH as u64 / 2;
    let hold = Step { when: When::Passed(Way::ToReceiver, half), fault: Fault::Hold(Way::ToReceiver), lasts: None };
    proxy.follow(&[hold]);
    let receiving = playground.receive(&proxy.link(&sending.link), &into, &[]);
    proxy.wait_until_steps(1);
    assert!(proxy.passed(Way::ToReceiver) >= half);
    assert!(!into.join("data").exists(), "half of the file is still to come");
    proxy.inject(Whom::All, Fault::Release(Way::ToReceiver));
    receiving.wait().assert_ok();
    assert!(proxy.connections() > 0 && proxy.passed(Way::ToReceiver) > LENGTH as u64);
    assert!(fs::read(into.join("data")).unwrap() == fs::read(&file).unwrap());
    assert_eq!(sending.wait().0, Some(0));
}
