//! Chromium without a window, spoken to through a pipe: Chrome's DevTools protocol.

use std::{
    collections::VecDeque,
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// As distributions call it; `CHROMIUM` names another one.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

pub(crate) fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CHROMIUM") {
        return Some(named.into());
    }
    let path = env::var_os("PATH")?;
    let candidates =
        env::split_paths(&path).flat_map(|directory| NAMES.map(|name| directory.join(name)));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

/// One browser with one tab.
pub(crate) struct Browser {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: Option<String>,
    number: u64,
    events: VecDeque<Value>,
}

/// What a tab has done that a page of ours must not do.
#[derive(Debug, Default)]
pub(crate) struct Misdeeds {
    pub(crate) requests: Vec<String>,
    pub(crate) errors: Vec<String>,
}

impl Browser {
    /// `home` is where the browser keeps its profile.
    pub(crate) fn start(program: &Path, home: &Path) -> Result<Self> {
        // The protocol wants descriptors 3 and 4, which a shell can give without `unsafe`.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null"])
            .arg(program)
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-extensions", "--hide-scrollbars"])
            .args(["--disable-dev-shm-usage", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", home.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let requests = process.stdin.take().context("stdin is a pipe")?;
        let answers = BufReader::new(process.stdout.take().context("stdout is a pipe")?);
        let (session, events) = (None, VecDeque::new());
        let mut browser = Self { process, requests, answers, session, number: 0, events };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.ask("Target.attachToTarget", attach)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.ask(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        self.number += 1;
        let mut request = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = &self.session {
            request["sessionId"] = session.as_str().into();
        }
        self.requests.write_all(format!("{request}\0").as_bytes())?;
        loop {
            let message = self.receive()?;
            if message["id"] == self.number {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(message["result"].clone());
            }
            self.events.push_back(message);
        }
    }

    fn receive(&mut self) -> Result<Value> {
        let mut message = Vec::new();
        self.answers.read_until(0, &mut message)?;
        if message.pop() != Some(0) {
            bail!("the browser has ended");
        }
        Ok(serde_json::from_slice(&message)?)
    }

    /// Loads the file as a window of this width and these colours shows it.
    pub(crate) fn open(&mut self, file: &Path, width: u32, scheme: &str) -> Result<Misdeeds> {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", size)?;
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", json!({ "features": features }))?;
        self.events.clear();
        let url = format!("file://{}", file.display());
        self.ask("Page.navigate", json!({ "url": url }))?;
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_loaded) {
            let event = self.receive()?;
            self.events.push_back(event);
        }
        // Two frames: whatever draws has drawn.
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))",
        )?;
        let mut misdeeds = Misdeeds::default();
        for event in &self.events {
            let params = &event["params"];
            match event["method"].as_str() {
                Some("Network.requestWillBeSent") if params["request"]["url"] != url => {
                    misdeeds.requests.push(params["request"]["url"].to_string());
                }
                Some("Log.entryAdded") => misdeeds.errors.push(params["entry"]["text"].to_string()),
                Some("Runtime.consoleAPICalled") => {
                    misdeeds.errors.push(params["args"].to_string());
                }
                Some("Runtime.exceptionThrown") => {
                    misdeeds.errors.push(params["exceptionDetails"].to_string());
                }
                _ => {}
            }
        }
        Ok(misdeeds)
    }

    /// The value of an expression, or of what it promises.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.ask("Runtime.evaluate", params)?;
        if let Some(exception) = answer.get("exceptionDetails") {
            bail!("{expression}: {exception}");
        }
        Ok(answer["result"]["value"].clone())
    }

    pub(crate) fn press(&mut self, key: &str) -> Result<()> {
        let code = if key == "Enter" { 13 } else { 0 };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "text": text,
                "windowsVirtualKeyCode": code });
            self.ask("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// The top of the page, or all of it.
    pub(crate) fn screenshot(&mut self, to: &Path, is_whole: bool) -> Result<()> {
        let params = json!({ "format": "png", "captureBeyondViewport": is_whole });
        let mut params = params;
        if is_whole {
            let size = self.ask("Page.getLayoutMetrics", json!({}))?["cssContentSize"].clone();
            params["clip"] = json!({ "x": 0, "y": 0, "scale": 1, "width": size["width"],
                "height": size["height"] });
        }
        let picture = self.ask("Page.captureScreenshot", params)?;
        fs::write(to, STANDARD.decode(picture["data"].as_str().unwrap_or_default())?)?;
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Nobody reads the answer.
        let _: std::io::Result<()> =
            self.requests.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let _: std::io::Result<()> = self.process.kill();
        let _: std::io::Result<std::process::ExitStatus> = self.process.wait();
    }
}
