//! The report in a real browser: charts are drawn, nothing is loaded, nothing complains, keys work.
//!
//! Without Chromium this says so and passes; with `REQUIRE_BROWSER` set it fails.

#![expect(clippy::print_stderr, reason = "says what was looked at, and what was left out")]

#[path = "browser/devtools.rs"]
mod devtools;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use devtools::{Browser, Misdeeds};

/// Widths of a laptop and of a phone.
const WIDTHS: [u32; 2] = [1280, 400];

/// Pixels of a chart that have a colour: axes, grid and text are grey.
const DRAWN: &str = "[...document.querySelectorAll('[data-chart]')].map(chart => {
    const canvas = chart.querySelector('canvas');
    if (!canvas) return 0;
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let coloured = 0;
    for (let at = 0; at < pixels.length; at += 4) {
        const rgb = [pixels[at], pixels[at + 1], pixels[at + 2]];
        if (pixels[at + 3] > 100 && Math.max(...rgb) - Math.min(...rgb) > 50) coloured += 1;
    }
    return coloured;
})";

/// Fewer would be a dot.
const LEAST_PIXELS: u64 = 30;

fn main() -> ExitCode {
    let Some(program) = devtools::find() else {
        eprintln!("LEFT OUT: the report in a browser: chromium is not installed");
        return if env::var_os("REQUIRE_BROWSER").is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    };
    match run(&program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: the report in a browser: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(program: &Path) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut browser = Browser::start(program, &directory.path().join("profile"))?;
    faults_are_seen(&mut browser, directory.path())?;

    let hostile = directory.path().join("trace_node_20261124T042800.642Z_000001.jsonl");
    fs::write(&hostile, hostile_trace())?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/h200-graphs.jsonl.zst");
    let demangled = "window.document.body.textContent.includes('onerror=injected')";
    for (name, trace, charts) in [("vllm", data, 3), ("hostile", hostile, 2)] {
        let page = report(&trace, directory.path())?;
        for width in WIDTHS {
            for scheme in ["light", "dark"] {
                let what = format!("{name}-{width}-{scheme}");
                look(&mut browser, &page, width, scheme, charts).context(what.clone())?;
                let picture = pictures()?.join(format!("{what}.png"));
                browser.screenshot(&picture, false)?;
                eprintln!("ok: {what}: {}", picture.display());
            }
        }
        keys_work(&mut browser).context(name)?;
        everything_has_a_name(&mut browser).context(name)?;
        nothing_is_injected(&mut browser).context(name)?;
        let is_told = browser.evaluate(demangled)? == true;
        ensure!(is_told == (name == "hostile"), "{name}: the hostile names are told: {is_told}");
    }
    Ok(())
}

/// What finds nothing wrong with the report finds it here.
fn faults_are_seen(browser: &mut Browser, directory: &Path) -> Result<()> {
    let page = directory.join("faulty.html");
    fs::write(
        &page,
        "<!DOCTYPE html><title>faulty</title><p><img src=\"http://127.0.0.1:9/pixel\" alt=\"\">\
         <div data-chart=\"0\"><canvas></canvas></div><button></button>\
         <p style=\"width: 3000px\">wide</p><script>missing()</script>",
    )?;
    let Misdeeds { requests, errors } = browser.open(&page, 1280, "light")?;
    ensure!(requests.iter().any(|url| url.contains("pixel")), "a request is not seen");
    ensure!(errors.iter().any(|text| text.contains("missing")), "an error is not seen: {errors:?}");
    ensure!(browser.evaluate(DRAWN)? == json!([0]), "a blank chart is not seen");
    ensure!(everything_has_a_name(browser).is_err(), "a button without a name is not seen");
    ensure!(is_too_wide(browser)?, "a page wider than its window is not seen");
    ensure!(nothing_is_injected(browser).is_err(), "a foreign element is not seen");
    Ok(())
}

fn look(
    browser: &mut Browser,
    page: &Path,
    width: u32,
    scheme: &str,
    least_charts: usize,
) -> Result<()> {
    let Misdeeds { requests, errors } = browser.open(page, width, scheme)?;
    ensure!(requests.is_empty(), "the page asks for {requests:?}");
    ensure!(errors.is_empty(), "the console says {errors:?}");
    let drawn = browser.evaluate(DRAWN)?;
    let drawn = drawn.as_array().context("a list")?;
    ensure!(drawn.len() >= least_charts, "{} charts, not {least_charts}", drawn.len());
    let is_drawn = |pixels: &Value| pixels.as_u64().is_some_and(|it| it >= LEAST_PIXELS);
    ensure!(drawn.iter().all(is_drawn), "a chart is blank: coloured pixels {drawn:?}");
    ensure!(!is_too_wide(browser)?, "the page is wider than its window");
    let background =
        browser.evaluate("getComputedStyle(document.documentElement).backgroundColor")?;
    let is_dark = background != "rgb(255, 255, 255)";
    ensure!(is_dark == (scheme == "dark"), "{scheme} has the background {background}");
    Ok(())
}

fn is_too_wide(browser: &mut Browser) -> Result<bool> {
    Ok(browser.evaluate("document.documentElement.scrollWidth > innerWidth")? == true)
}

fn keys_work(browser: &mut Browser) -> Result<()> {
    let told = "document.activeElement.getAttribute('aria-valuetext')";
    browser.evaluate("document.querySelector('[data-chart]').focus()")?;
    browser.press("Home")?;
    let first = browser.evaluate(told)?;
    browser.press("End")?;
    let last = browser.evaluate(told)?;
    ensure!(first != last && last.is_string(), "keys do not move in a chart: {first} {last}");
    browser.evaluate("document.querySelector('table[data-shown] th.n button').focus()")?;
    browser.press("Enter")?;
    let sorted = "(() => {
        const head = document.activeElement.parentElement;
        const rows = [...head.closest('table').tBodies[0].rows];
        const values = rows.map(row => Number(row.cells[head.cellIndex].dataset.v));
        return [head.getAttribute('aria-sort'), values.every((it, at) => !at || values[at - 1] >= it)];
    })()";
    let sorted = browser.evaluate(sorted)?;
    ensure!(sorted == json!(["descending", true]), "a key does not sort a table: {sorted}");
    Ok(())
}

/// For who hears the page.
fn everything_has_a_name(browser: &mut Browser) -> Result<()> {
    const NAMED: [&str; 6] = ["button", "link", "slider", "table", "region", "heading"];
    let tree = browser.ask("Accessibility.getFullAXTree", json!({}))?;
    let nodes = tree["nodes"].as_array().context("a list")?;
    let mut seen = 0;
    for node in nodes.iter().filter(|node| node["ignored"] != true) {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        if NAMED.contains(&role) {
            seen += 1;
            let name = node["name"]["value"].as_str().unwrap_or_default();
            ensure!(!name.trim().is_empty(), "a {role} has no name: {node}");
        }
    }
    ensure!(seen > 0, "the page has nothing that is to be named");
    Ok(())
}

/// Names from the trace are text and nothing else.
fn nothing_is_injected(browser: &mut Browser) -> Result<()> {
    let foreign = "[document.scripts.length, window.injected === undefined,
        document.querySelectorAll('img, iframe, object, embed, link, base, form, [style*=url], \
        [onload], [onerror], [onclick]').length]";
    let found = browser.evaluate(foreign)?;
    ensure!(found == json!([3, true, 0]), "scripts, untouched, foreign elements: {found}");
    Ok(())
}

fn report(trace: &Path, directory: &Path) -> Result<PathBuf> {
    let page = directory.join("report.html");
    let program = env!("CARGO_BIN_EXE_cuda-trace");
    let output = Command::new(program).arg("report").arg(trace).arg("--out").arg(&page).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the report of {} failed: {said}", trace.display());
    Ok(page)
}

/// Pictures stay, so that somebody can look at them.
fn pictures() -> Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Whoever is traced chooses the names of processes, kernels, functions, libraries and errors.
fn hostile_trace() -> String {
    let attack = "</script></td><script>injected=1</script><img src=x onerror=injected=1>\" \
                  onclick='injected=1' style=\"background:url(http://127.0.0.1:9/)\"\u{202e}<!--";
    let meta = |func: &str, mut fields: Value| {
        fields["ts"] = json!(1.0);
        fields["pid"] = json!(7);
        fields["type"] = json!("meta");
        fields["phase"] = json!("meta");
        fields["func"] = json!(func);
        fields
    };
    let clock = json!({ "start_monotonic_ns": 4_000_000_000_u64,
        "monotonic_ns": 4_000_000_000_u64, "realtime_ns": 1_795_494_480_642_456_752_u64 });
    let mut lines = vec![
        meta(
            "segment_open",
            json!({ "format_version": 3, "sequence": 1, "host": attack,
            "kernel": attack, "sidecar_version": attack, "clock": clock, "options": {} }),
        ),
        meta(
            "process",
            json!({ "parent": 1, "executable": attack, "command": attack,
            "comm": attack, "matched_by": "executable", "role": attack, "role_by": "title" }),
        ),
        meta("kernel", json!({ "id": 1, "name": attack, "demangled": attack })),
    ];
    for at in 0..200_u32 {
        let ts = 1.0 + f64::from(at);
        lines.push(json!({ "ts": ts, "pid": 7, "tid": 7, "type": "cuda_api",
            "func": "cuLaunchKernel", "phase": "call", "dur_us": 5.5, "ret": at % 2, "depth": 0,
            "error": attack, "kernel": 1, "grid": [1, 1, 1], "block": [1, 1, 1] }));
        lines.push(json!({ "ts": ts + 0.5, "pid": 7, "tid": 7, "type": "cuda_api",
            "func": "cuMemAlloc_v2", "phase": "call", "dur_us": 5.5, "ret": 0, "depth": 0,
            "bytes": 4096 * (at + 1), "ptr": format!("0x{:x}", 0x1000 + at) }));
        lines.push(json!({ "ts": ts + 0.7, "pid": 7, "tid": 7, "type": "cuda_api", "func": attack,
            "phase": "call", "dur_us": 5.5, "ret": 0, "depth": 0 }));
    }
    lines.iter().flat_map(|line| [line.to_string(), "\n".to_owned()]).collect()
}
