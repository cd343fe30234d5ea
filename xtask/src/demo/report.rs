//! The closing table of the demo.

use super::{comparison::Comparison, files::Files};

/// Functions that the table shows.
const TOP: usize = 12;

pub(super) fn print(comparison: &Comparison, files: &Files) {
    let mut functions: Vec<_> = comparison.functions.iter().collect();
    functions.sort_by_key(|(_, pair)| std::cmp::Reverse(pair.trace));
    println!("\n{:<32} {:>10} {:>10}", "function", "trace", "callee");
    for (name, pair) in functions.iter().take(TOP) {
        println!("{name:<32} {:>10} {:>10}", pair.trace, pair.callee);
    }
    if functions.len() > TOP {
        let rest = functions.iter().skip(TOP);
        let (trace, callee) =
            rest.fold((0, 0), |sum, (_, pair)| (sum.0 + pair.trace, sum.1 + pair.callee));
        let name = format!("{} more functions", functions.len() - TOP);
        println!("{name:<32} {trace:>10} {callee:>10}");
    }
    let Comparison { trace, seconds, bytes, functions, late_starts } = comparison;
    let equal = functions.values().filter(|pair| pair.trace == pair.callee).count();
    println!();
    println!(
        "calls traced         {} ({:.0} per second)",
        trace.calls,
        trace.calls as f64 / seconds
    );
    println!("functions equal      {equal} of {}", functions.len());
    println!("calls dropped        {}", trace.dropped);
    println!("first calls missed   {}", late_starts.len());
    println!("uploads              {} objects, {:.1} MB", trace.files, *bytes as f64 / 1e6);
    println!("trace                {}", files.downloaded().display());
    println!("load test results    {}", files.results().display());
    println!("logs                 {}", files.root().join("logs").display());
    println!("report               {}, for a browser", files.html_report().display());
}
