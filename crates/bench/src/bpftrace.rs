//! bpftrace as the benchmarks run it: scripts that print lines of the trace format.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tasks::background::Background;

/// Runs `script`, which is kept at `path`. That it attaches it says before it does: its first lines
/// are the sign.
pub(super) fn start(
    program: PathBuf,
    script: &str,
    path: &Path,
    output: &Path,
    log: PathBuf,
) -> Result<Background> {
    fs::write(path, script).with_context(|| format!("cannot write {}", path.display()))?;
    let (output, path) = (output.display().to_string(), path.display().to_string());
    Background::start(program, &["-o", &output, &path], &[], log)
}

/// Prints a line when `function` is entered, as the document does that this project grew from.
/// `kind` is the line's `type`.
pub(super) fn entry_probe(library: &str, kind: &str, function: &str) -> String {
    let print = print(kind, function, "entry", "", "");
    format!("uprobe:{library}:{function} {{ {print} }}\n")
}

/// Prints a line with the duration when `function` returns.
pub(super) fn call_probes(library: &str, kind: &str, function: &str) -> String {
    let duration = (",\\\"dur_us\\\":%llu.%03llu", ", $duration/1000, $duration%1000");
    let print = print(kind, function, "call", duration.0, duration.1);
    format!(
        "uprobe:{library}:{function} {{ @start[tid] = nsecs; }}\n\
         uretprobe:{library}:{function} /@start[tid]/ {{ $duration = nsecs - @start[tid]; \
         delete(@start[tid]); {print} }}\n"
    )
}

fn print(kind: &str, function: &str, phase: &str, field: &str, value: &str) -> String {
    format!(
        "printf(\"{{\\\"ts\\\":%llu.%03llu,\\\"pid\\\":%d,\\\"type\\\":\\\"{kind}\\\",\
         \\\"func\\\":\\\"{function}\\\",\\\"phase\\\":\\\"{phase}\\\"{field}}}\\n\", \
         elapsed/1000000, (elapsed/1000)%1000, pid{value});"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_print_one_json_line_per_call() {
        insta::assert_snapshot!(entry_probe("/lib/libcuda.so", "cuda_api", "cuInit"), @r#"
        uprobe:/lib/libcuda.so:cuInit { printf("{\"ts\":%llu.%03llu,\"pid\":%d,\"type\":\"cuda_api\",\"func\":\"cuInit\",\"phase\":\"entry\"}\n", elapsed/1000000, (elapsed/1000)%1000, pid); }
        "#);
        insta::assert_snapshot!(call_probes("/lib/libcuda.so", "cuda_api", "cuInit"), @r#"
        uprobe:/lib/libcuda.so:cuInit { @start[tid] = nsecs; }
        uretprobe:/lib/libcuda.so:cuInit /@start[tid]/ { $duration = nsecs - @start[tid]; delete(@start[tid]); printf("{\"ts\":%llu.%03llu,\"pid\":%d,\"type\":\"cuda_api\",\"func\":\"cuInit\",\"phase\":\"call\",\"dur_us\":%llu.%03llu}\n", elapsed/1000000, (elapsed/1000)%1000, pid, $duration/1000, $duration%1000); }
        "#);
    }
}
