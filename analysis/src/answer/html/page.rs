//! The page around the answers: one file that loads nothing, and says so to the browser.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{
    Html,
    escape::{escaped, json_in_script},
};

/// Draws the charts: see `uplot/README.md`.
const UPLOT: &str = include_str!("uplot/uPlot.iife.min.js");
const UPLOT_LICENSE: &str = include_str!("uplot/LICENSE");
const UPLOT_STYLE: &str = include_str!("uplot/uPlot.min.css");
const SCRIPT: &str = include_str!("report.js");
const STYLE: &str = include_str!("report.css");

/// What the signs mean, as everywhere in this crate.
const LEGEND: [(&str, &str); 5] = [
    ("1271", "exact: counted, and the trace proves that no call is missing"),
    ("~24.2 us", "an estimate: it is off by no more than is said beside it"),
    (">=5, <=9, 5..9", "bounds: the truth lies there"),
    ("?", "not known: API calls do not tell it, or calls are missing"),
    ("exact for ...", "exact for a part of the time or of the processes, which is named beside it"),
];

/// The whole file. `runs` is what was asked for and how many of them are here.
pub fn page(title: &str, note: &str, body: Html) -> String {
    let Html { text, charts, room: _ } = body;
    let data = json_in_script(&Json::Array(charts.0));
    let scripts = format!("{} {}", hash(UPLOT), hash(SCRIPT));
    let styles = format!("{} {}", hash(UPLOT_STYLE), hash(STYLE));
    let title = escaped(title);
    let note = if note.is_empty() { String::new() } else { format!("<p>{}</p>\n", escaped(note)) };
    let mut legend = String::new();
    for (sign, meaning) in LEGEND {
        put!(legend, "<dt>{}</dt><dd>{meaning}</dd>", escaped(sign));
    }
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src \
         {scripts}; style-src {styles}; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>{UPLOT_STYLE}</style>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<a class=\"skip\" href=\"#r1-glance\">Skip to the answers</a>\n<header>\n\
         <h1>{title}</h1>\n{note}</header>\n<main>\n{text}</main>\n\
         <footer>\n<h2 id=\"grades\">How a figure is known</h2>\n<dl class=\"grades\">{legend}</dl>\n\
         <h2>How to use this page</h2>\n<ul>\n\
         <li>Charts: move over them to read values, drag to zoom, double-click to zoom out. With the \
         keyboard: Tab to a chart, left and right arrows move, Page Up and Page Down move faster, + \
         and - zoom, Home and End go to the ends.</li>\n\
         <li>Tables: the head of a column sorts by it.</li>\n\
         <li>Every row and value: <code>cuda-trace QUESTION PATH --json</code></li>\n</ul>\n\
         <p>cuda-trace {version}. This page loads nothing from anywhere. Charts: uPlot, (c) Leon \
         Sorokin, MIT licence.</p>\n</footer>\n\
         <script type=\"application/json\" id=\"charts\">{data}</script>\n\
         <!-- uPlot\n{UPLOT_LICENSE}-->\n<script>{UPLOT}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// As a Content-Security-Policy names what may run.
fn hash(content: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content)))
}
