//! Debian's Chromium without a window, driven over its debugging protocol through a pair of pipes.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything that a test waits for here; a test that reaches it has failed. Gigabytes may take their time.
fn patience() -> Duration {
    let is_heavy = ["HAUL_BROWSER_MIB", "HAUL_BROWSER_FILES"].iter().any(|name| std::env::var_os(name).is_some());
    Duration::from_secs(if is_heavy { 900 } else { 60 })
}

/// A browser with a profile of its own, killed when dropped.
pub(crate) struct Browser {
    child: Child,
    wire: Arc<Wire>,
}

/// A page in a tab.
pub(crate) struct Tab {
    wire: Arc<Wire>,
    session: String,
}

/// What goes to the browser and comes from it.
struct Wire {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    to_browser: ChildStdin,
    calls: u64,
    answers: BTreeMap<u64, Value>,
    /// Everything that was told without being asked for, in order.
    events: Vec<Value>,
    is_gone: bool,
}

impl Browser {
    /// Starts `command` (a shell that becomes the browser) with `profile`; files are downloaded into `downloads`.
    ///
    /// The protocol's pipes are the third and fourth file of the process, which a shell gives it.
    pub(crate) fn start(mut command: Command, profile: &Path, downloads: &Path) -> Self {
        command.args(["-c", r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#, "chromium"]);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args(["--disable-dev-shm-usage", "--remote-debugging-pipe", "--window-size=360,740"]);
        command.arg(format!("--host-resolver-rules=MAP *.example {}", crate::stage::HOST));
        command.arg(format!("--user-data-dir={}", profile.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to_browser, from_browser) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let state = State { to_browser, calls: 0, answers: BTreeMap::new(), events: Vec::new(), is_gone: false };
        let wire = Arc::new(Wire { state: Mutex::new(state), changed: Condvar::new() });
        let reading = Arc::clone(&wire);
        thread::spawn(move || reading.read(from_browser));
        let behaviour = json!({"behavior": "allow", "downloadPath": downloads, "eventsEnabled": true});
        wire.call(None, "Browser.setDownloadBehavior", &behaviour).unwrap();
        Self { child, wire }
    }

    /// A new tab that goes to `url`; it may still be loading.
    pub(crate) fn open(&self, url: &str) -> Tab {
        let target = self.wire.call(None, "Target.createTarget", &json!({"url": "about:blank"})).unwrap();
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.wire.call(None, "Target.attachToTarget", &attach).unwrap();
        let tab = Tab { wire: Arc::clone(&self.wire), session: session["sessionId"].as_str().unwrap().to_owned() };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "DOM.enable"] {
            tab.call(domain, &json!({}));
        }
        tab.call("Page.navigate", &json!({"url": url}));
        tab
    }

    /// Waits until so many downloads were completed in all.
    pub(crate) fn wait_for_downloads(&self, count: usize) {
        let is_done =
            |event: &&Value| event["method"] == "Browser.downloadProgress" && event["params"]["state"] == "completed";
        self.wire.wait(&format!("{count} downloads"), |state| {
            (state.events.iter().filter(is_done).count() >= count).then_some(())
        });
    }

    /// The most memory that any process of the browser has had, in bytes, and what that process is.
    pub(crate) fn largest_peak(&self) -> (u64, String) {
        let processes = self.wire.call(None, "SystemInfo.getProcessInfo", &json!({})).unwrap();
        let peak = |process: &Value| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process["id"])).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            let bytes = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
            Some((bytes, process["type"].as_str()?.to_owned()))
        };
        processes["processInfo"].as_array().unwrap().iter().filter_map(peak).max().unwrap()
    }

    /// Ends it as a phone does that needs the memory, and returns once it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A test that fails leaves no process behind.
impl Drop for Browser {
    fn drop(&mut self) {
        // It fails where the process has ended already. Its own children end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tab {
    /// Calls a method of the protocol for this tab.
    pub(crate) fn call(&self, method: &str, parameters: &Value) -> Value {
        self.wire.call(Some(&self.session), method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// What an expression, or the promise that it is, comes to.
    pub(crate) fn evaluate(&self, expression: &str) -> Value {
        self.try_evaluate(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until an expression is true, across reloads, and returns what it is then.
    pub(crate) fn wait_for(&self, expression: &str) -> Value {
        let ends = Instant::now() + patience();
        let look = format!("(() => {{ try {{ return ({expression}) || null; }} catch {{ return null; }} }})()");
        // It ends by itself, so that an expression that never comes true is told with what the page shows.
        let watch = format!(
            "new Promise(resolve => {{ const ends = Date.now() + 1000; const look = () => {{ const found = {look}; \
             if (found || Date.now() > ends) resolve(found); else setTimeout(look, 20); }}; look(); }})"
        );
        while Instant::now() < ends {
            // A page that is being left has no answer.
            if let Ok(value) = self.try_evaluate(&watch)
                && !value.is_null()
            {
                return value;
            }
        }
        let shown = self.try_evaluate("document.body.innerText").unwrap_or_default();
        panic!(
            "waited in vain for {expression}; the page shows:\n{}\n{:#?}",
            shown.as_str().unwrap_or(""),
            self.said()
        );
    }

    /// Presses what an expression finds, as soon as it is there and may be pressed.
    pub(crate) fn press(&self, expression: &str) {
        self.wait_for(&format!("{expression} && !{expression}.disabled"));
        let press = json!({"expression": format!("{expression}.click()"), "userGesture": true});
        self.call("Runtime.evaluate", &press);
    }

    /// Gives files to an input element, as a person does who picks them.
    pub(crate) fn pick(&self, selector: &str, files: &[&Path]) {
        let object = json!({"expression": format!("document.querySelector({})", json!(selector))});
        let object = self.call("Runtime.evaluate", &object)["result"]["objectId"].clone();
        self.call("DOM.setFileInputFiles", &json!({"files": files, "objectId": object}));
    }

    pub(crate) fn reload(&self) {
        self.call("Page.reload", &json!({}));
    }

    /// What a phone does to a page whose screen is off: `frozen`, until it is `active` again.
    pub(crate) fn set_lifecycle(&self, state: &str) {
        self.call("Page.setWebLifecycleState", &json!({"state": state}));
    }

    /// Everything that scripts printed and that the browser held against the page: errors, refusals by the policy,
    /// dialogs.
    pub(crate) fn said(&self) -> Vec<String> {
        let state = self.wire.lock();
        let mine = state.events.iter().filter(|event| event["sessionId"] == self.session.as_str());
        mine.filter_map(|event| match event["method"].as_str()? {
            "Runtime.consoleAPICalled" => Some(event["params"]["args"].to_string()),
            "Runtime.exceptionThrown" => Some(event["params"]["exceptionDetails"].to_string()),
            "Log.entryAdded" => Some(event["params"]["entry"]["text"].to_string()),
            "Page.javascriptDialogOpening" => Some(format!("dialog: {}", event["params"]["message"])),
            _ => None,
        })
        .collect()
    }

    /// A picture of what is shown, as PNG in base64.
    pub(crate) fn picture(&self, width: u32, height: u32, is_dark: bool) -> String {
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &features);
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 2, "mobile": true});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let picture = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        picture["data"].as_str().unwrap().to_owned()
    }

    fn try_evaluate(&self, expression: &str) -> Result<Value, String> {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.wire.call(Some(&self.session), "Runtime.evaluate", &parameters)?;
        match answer.get("exceptionDetails") {
            Some(details) => Err(details.to_string()),
            None => Ok(answer["result"]["value"].clone()),
        }
    }
}

impl Wire {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn call(&self, session: Option<&str>, method: &str, parameters: &Value) -> Result<Value, String> {
        let mut state = self.lock();
        state.calls += 1;
        let id = state.calls;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        state.to_browser.write_all(&bytes).map_err(|error| format!("the browser is gone: {error}"))?;
        drop(state);
        let mut answer = self.wait(method, |state| state.answers.remove(&id));
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer["result"].take()),
        }
    }

    fn wait<T>(&self, what: &str, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let ends = Instant::now() + patience();
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return found;
            }
            assert!(!state.is_gone, "the browser ended while `{what}` was waited for");
            let left = ends.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "`{what}` was waited for in vain");
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    fn read(&self, from_browser: ChildStdout) {
        let mut from_browser = BufReader::new(from_browser);
        let mut bytes = Vec::new();
        while matches!(from_browser.read_until(0, &mut bytes), Ok(1..)) {
            bytes.pop();
            let message: Value = serde_json::from_slice(&bytes).unwrap();
            bytes.clear();
            let mut state = self.lock();
            match message["id"].as_u64() {
                Some(id) => drop(state.answers.insert(id, message)),
                None => state.events.push(message),
            }
            drop(state);
            self.changed.notify_all();
        }
        self.lock().is_gone = true;
        self.changed.notify_all();
    }
}
