//! A real browser without a screen, driven through its debugging pipe.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{PATIENCE, skip};

/// The variable that makes a missing browser a failure.
const REQUIRED: &str = "LIKE_REQUIRE_BROWSER";

/// The browser reads commands from descriptor 3 and writes to 4; the shell puts its standard streams there.
const START: &str = "exec chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
--disable-background-networking --disable-component-update --disable-sync --disable-extensions \
--disable-dev-shm-usage --user-data-dir=\"$1\" --remote-debugging-pipe about:blank 3<&0 4>&1 0</dev/null 1>&2 2>/dev/null";

/// A browser with one page. It is gone when this is dropped.
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    said: Receiver<Value>,
    session: Value,
    next: u64,
    /// What pages complained of: exceptions, and what their policy forbade.
    pub complaints: Vec<String>,
}

impl Browser {
    /// A browser that shows this address; `None`, said aloud, if there is no browser here.
    ///
    /// # Panics
    /// There is none though one is required (`LIKE_REQUIRE_BROWSER=1`), or it does not start.
    pub fn open(profile: &Path, address: &str) -> Option<Self> {
        let there =
            Command::new("chromium").arg("--version").output().is_ok_and(|said| said.status.success());
        if !there {
            skip("a page in a browser", "there is no chromium", REQUIRED);
            return None;
        }
        let mut child = Command::new("sh")
            .args(["-c", START, "sh"])
            .arg(profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let commands = child.stdin.take().expect("a pipe");
        let out = child.stdout.take().expect("a pipe");
        let (words, said) = channel();
        std::thread::spawn(move || {
            let messages = BufReader::new(out).split(0).map_while(Result::ok);
            let messages = messages.filter_map(|message| serde_json::from_slice(&message).ok());
            messages.take_while(|message: &Value| words.send(message.clone()).is_ok()).for_each(drop);
        });
        let (session, complaints) = (Value::Null, Vec::new());
        let mut browser = Self { child, commands, said, session, next: 0, complaints };
        let made = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached = json!({ "targetId": made["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attached)["sessionId"].clone();
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            browser.call(domain, json!({}));
        }
        browser.call("Page.navigate", json!({ "url": address }));
        Some(browser)
    }

    /// Gives a command, and returns what came of it.
    ///
    /// # Panics
    /// The browser refuses it or does not answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).expect("a browser that listens");
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let said = self.said.recv_timeout(left).unwrap_or_else(|e| panic!("{method}: {e}"));
            self.note(&said);
            if said["id"] == self.next {
                assert!(said["error"].is_null(), "{method}: {}", said["error"]);
                return said["result"].clone();
            }
        }
    }

    fn note(&mut self, said: &Value) {
        let entry = &said["params"]["entry"];
        match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(said["params"].to_string()),
            // An answer of 4xx is told as an error of the network: the page tells it itself.
            Some("Log.entryAdded") if entry["level"] == "error" && entry["source"] != "network" => {
                self.complaints.push(entry.to_string());
            }
            _ => {}
        }
    }

    /// What a piece of script on the page comes to.
    ///
    /// # Panics
    /// It throws.
    pub fn script(&mut self, script: &str) -> Value {
        let parameters = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let came = self.call("Runtime.evaluate", parameters);
        assert!(came["exceptionDetails"].is_null(), "{script}: {}", came["exceptionDetails"]);
        came["result"]["value"].clone()
    }

    /// Waits until there is a page, and a piece of script is true on it.
    ///
    /// # Panics
    /// It never is.
    #[track_caller]
    pub fn until(&mut self, script: &str) {
        let until = Instant::now() + PATIENCE;
        while self.script(&format!("document.body !== null && ({script})")) != true {
            let page =
                if Instant::now() < until { Value::Null } else { self.script("document.body?.innerText") };
            assert!(page.is_null(), "never true: {script}\n{}", page.as_str().unwrap_or_default());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clicks the first element of this selector whose text contains `text`, as a person does: where it is shown.
    ///
    /// # Panics
    /// There is none, or something lies over it.
    #[track_caller]
    pub fn click(&mut self, selector: &str, text: &str) {
        let place = self.script(&format!(
            "(() => {{ const found = [...document.querySelectorAll({0})].find((e) => e.textContent.includes({1}));
               if (!found) return null;
               found.scrollIntoView({{ block: 'center' }});
               const box = found.getBoundingClientRect();
               const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
               return found.contains(document.elementFromPoint(x, y)) ? {{ x, y }} : null; }})()",
            json!(selector),
            json!(text)
        ));
        assert!(place.is_object(), "nothing to click: {selector} with {text}");
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": place["x"], "y": place["y"], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Types text into what has the focus.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses and releases a key that types nothing.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let code = if key == "Tab" { 9 } else { 13 };
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if key == "Enter" {
                event["text"] = json!("\r");
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Shows the page as a screen of this size does, in a light or dark colour scheme.
    pub fn screen(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// The page as a picture (PNG, base64).
    ///
    /// # Panics
    /// There is none.
    pub fn picture(&mut self) -> String {
        let shot = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        shot["data"].as_str().expect("a picture").to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
