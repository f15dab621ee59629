//! Headless Chromium, inspected and operated through the DevTools protocol over a pipe.
//!
//! `--remote-debugging-pipe` speaks on descriptors 3 and 4: JSON, ended by a NUL
//! (<https://chromedevtools.github.io/devtools-protocol/>).

#![allow(clippy::unwrap_used, reason = "a test may end in a panic")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::eventually;

/// Deadline for one operation of the browser; on a busy machine it is slow to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with its own profile and one page; killed on drop.
pub(crate) struct Chromium {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    number: u64,
    session: Option<String>,
    /// Events received so far: requests, errors.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Chromium {
    /// Starts a browser with an empty page of this size.
    pub(crate) fn start(width: u32, height: u32) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "sh"])
            .args(["chromium", "--headless=new", "--remote-debugging-pipe"])
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--disable-background-networking", "--no-proxy-server"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (to, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (events, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(out).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else {
                    return;
                };
                if events.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            to,
            from,
            number: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        browser.attach();
        browser.resize(width, height);
        browser
    }

    fn attach(&mut self) {
        let page = eventually("chromium has a page (Debian package chromium)", || {
            let targets = self.call("Target.getTargets", json!({}));
            let all = targets["targetInfos"].as_array().unwrap().clone();
            all.into_iter().find(|target| target["type"] == "page")
        });
        let parameters = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", parameters);
        self.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Network", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    /// Calls a method and waits for its result.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.try_call(method, parameters)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Like [`Chromium::call`], but returns an error response.
    fn try_call(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method });
        message["params"] = parameters;
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut line = serde_json::to_vec(&message).unwrap();
        line.push(0);
        self.to.write_all(&line).unwrap();
        loop {
            let response = self.from.recv_timeout(PATIENCE);
            let response = response.unwrap_or_else(|error| panic!("{method}: {error}"));
            if response["id"] != self.number {
                self.events.push(response);
                continue;
            }
            return if response["error"].is_null() {
                Ok(response["result"].clone())
            } else {
                Err(response["error"].clone())
            };
        }
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// `light` or `dark`.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{opened}");
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'");
    }

    /// The value of this expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let evaluated = loop {
            match self.try_call("Runtime.evaluate", parameters.clone()) {
                Ok(evaluated) => break evaluated,
                // The page is being reloaded: evaluate the expression in the new one.
                Err(error) if error["message"] == "Inspected target navigated or closed" => {}
                Err(error) => panic!("{expression}: {error}"),
            }
        };
        let exception = &evaluated["exceptionDetails"];
        assert!(exception.is_null(), "{expression}: {exception}");
        evaluated["result"]["value"].clone()
    }

    /// The text of the first element that matches; empty if none does.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let selector = json!(selector);
        let text = self.value(&format!(
            "document.querySelector({selector})?.textContent ?? ''"
        ));
        text.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, expression: &str) {
        let whole = format!("Boolean({expression})");
        eventually(expression, || (self.value(&whole) == true).then_some(()));
    }

    /// Clicks the middle of the first matching element, once it is there and not disabled: the page enables a button only after
    /// it has seen the state that the button changes.
    pub(crate) fn click(&mut self, selector: &str) {
        let quoted = json!(selector);
        self.until(&format!(
            "(() => {{ const found = document.querySelector({quoted});
             return found && !found.disabled && found.getAttribute('aria-disabled') !== 'true'; }})()"
        ));
        let place = self.value(&format!(
            "(() => {{ const found = document.querySelector({quoted}); found.scrollIntoView({{ block: 'center' }});
             const {{ x, y, width, height }} = found.getBoundingClientRect(); return [x + width / 2, y + height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Types into the element that has the focus.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`, ` `, `/`.
    pub(crate) fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            " " => 32,
            _ => 0,
        };
        let text = match key {
            "Enter" => "\r",
            "Tab" | "Escape" => "",
            other => other,
        };
        let mut event = json!({ "type": "keyDown", "key": key, "windowsVirtualKeyCode": code });
        if !text.is_empty() {
            event["text"] = text.into();
        }
        self.call("Input.dispatchKeyEvent", event);
        let up = json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", up);
    }

    /// Presses Tab until an element that matches has the focus.
    pub(crate) fn tab_to(&mut self, selector: &str) {
        let reached = format!("document.activeElement?.matches({})", json!(selector));
        for _ in 0..80 {
            if self.value(&reached) == true {
                return;
            }
            self.press("Tab");
        }
        panic!("the keyboard does not reach {selector}");
    }

    /// The URLs that the page has requested and the errors that it has reported since the start.
    pub(crate) fn heard(&mut self) -> (Vec<String>, Vec<Value>) {
        // Events that are already sent arrive before the response to this call.
        self.value("0");
        let of = |method: &str| {
            let fitting = self.events.iter().filter(|event| event["method"] == method);
            fitting
                .map(|event| event["params"].clone())
                .collect::<Vec<_>>()
        };
        let requests = of("Network.requestWillBeSent");
        let urls = requests
            .iter()
            .map(|sent| sent["request"]["url"].as_str().unwrap().to_owned());
        let errors = [of("Runtime.exceptionThrown"), of("Log.entryAdded")].concat();
        (urls.collect(), errors)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
