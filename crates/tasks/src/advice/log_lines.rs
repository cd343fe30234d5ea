//! Which line of a log is worth quoting: the one that tells why a program ended, or what it does now.

/// What kubectl prints in place of a log that the kubelet has deleted already.
const NO_LOG: &str = "unable to retrieve container logs";

/// Said at every start, and the reason of nothing.
const NOISE: [&str; 3] =
    ["ulimit", "leaked shared_memory objects", "destroy_process_group() was not called"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Info,
    Warning,
    Error,
    /// A traceback, or a program that writes no levels.
    None,
}

/// The last line that may say why the program ended: none that only reports its progress.
pub fn reason(log: &str) -> Option<&str> {
    let last = |wanted: &[Level]| lines(log).find(|line| wanted.contains(&level(line)));
    last(&[Level::Error, Level::None]).or_else(|| last(&[Level::Warning]))
}

/// The last line that says what the program does.
pub fn news(log: &str) -> Option<&str> {
    lines(log).next()
}

/// From the end.
fn lines(log: &str) -> impl Iterator<Item = &str> {
    let says_something = |line: &&str| {
        !line.is_empty()
            && !line.starts_with(NO_LOG)
            && !NOISE.iter().any(|noise| line.contains(noise))
    };
    log.lines().rev().map(str::trim).filter(says_something)
}

/// Of a line of vLLM, of Uvicorn or of the tracer, in any of its formats.
fn level(line: &str) -> Level {
    let is_separator = |c: char| c.is_whitespace() || "()[]{}\":,=".contains(c);
    let words = line.split(is_separator).filter(|word| !word.is_empty());
    // In front of it stand a time, the process, or the names of fields.
    words
        .take(8)
        .find_map(|word| match word {
            "INFO" | "DEBUG" | "TRACE" => Some(Level::Info),
            "WARN" | "WARNING" => Some(Level::Warning),
            "ERROR" | "CRITICAL" | "FATAL" => Some(Level::Error),
            _ => None,
        })
        .unwrap_or(Level::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str =
        "(APIServer pid=1) INFO 11-24 04:28:00 [launcher.py:38] Route: /health, Methods: GET";
    const ULIMIT: &str = "WARNING 11-24 04:28:01 [system_utils.py:152] Found ulimit of 1024 and failed to automatically increase";

    #[test]
    fn the_reason_of_an_end_is_no_line_of_progress() {
        let error = "(EngineCore pid=7) ERROR 11-24 04:28:02 [core.py:9] CUDA error";
        for (log, expected) in [
            (format!("{error}\n{INFO}\n{ULIMIT}\n"), Some(error)),
            (format!("Traceback\nRuntimeError: odd\n{INFO}\n"), Some("RuntimeError: odd")),
            (format!("{INFO}\n{ULIMIT}\nINFO:     Shutting down\n"), None),
            ("unable to retrieve container logs for containerd://12ab".to_owned(), None),
            ("2026-11-24T04:28:00Z  INFO sidecar: started\n".to_owned(), None),
            (r#"{"timestamp":"x","level":"INFO","fields":{"message":"started"}}"#.to_owned(), None),
            (
                "WARNING 11-24 04:28:00 slow\nINFO 11-24 x\n".to_owned(),
                Some("WARNING 11-24 04:28:00 slow"),
            ),
        ] {
            assert_eq!(reason(&log), expected, "{log}");
        }
    }

    #[test]
    fn news_are_what_the_program_does() {
        assert_eq!(news(&format!("{INFO}\n{ULIMIT}\n\n")), Some(INFO));
        assert_eq!(news("unable to retrieve container logs for containerd://12ab"), None);
    }
}
