//! What each value may be. An error says what is accepted.

use std::{path::PathBuf, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use trace::segment_name::Format;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{Directories, HttpAddress};

/// Spaces around it come from a file or a shell, and would match nothing.
pub(super) fn target(value: &str) -> Result<String, String> {
    const ACCEPTED: &str = "accepted: a part of a process's executable, comm or command line";
    let value = value.trim();
    if value.is_empty() {
        return Err(ACCEPTED.to_owned());
    }
    without_control(value).map(str::to_owned).map_err(|reason| format!("{reason}; {ACCEPTED}"))
}

/// A control character is never meant: it comes from an editor, or a file with more than one line.
fn without_control(value: &str) -> Result<&str, String> {
    match value.chars().find(|letter| letter.is_control()) {
        Some(found) => Err(format!("it contains the control character {found:?}: remove it")),
        None => Ok(value),
    }
}

pub(super) fn directory(value: &str) -> Result<PathBuf, String> {
    if value.trim().is_empty() {
        return Err("accepted: the path of a directory".to_owned());
    }
    without_control(value).map(PathBuf::from)
}

pub(super) fn seconds(value: &str) -> Result<Duration, String> {
    const ACCEPTED: &str = "accepted: seconds, 0.1 to 86400, such as 60 or 0.5";
    let number: f64 = value.parse().map_err(|_| ACCEPTED)?;
    if !(0.1..=86_400.0).contains(&number) {
        return Err(ACCEPTED.to_owned());
    }
    Ok(Duration::from_secs_f64(number))
}

pub(crate) fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("accepted: true, false".to_owned()),
    }
}

pub(super) fn size(value: &str) -> Result<u64, String> {
    const ACCEPTED: &str = "accepted: bytes, such as 268435456, 64Ki, 256Mi or 8Gi";
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &value[digits.len()..] {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return Err(ACCEPTED.to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| ACCEPTED)?;
    number.checked_mul(1 << shift).ok_or_else(|| ACCEPTED.to_owned())
}

pub(super) fn format() -> impl TypedValueParser<Value = Format> {
    let names = PossibleValuesParser::new(Format::ALL.map(Format::extension));
    names.map(|name| {
        let found = Format::ALL.into_iter().find(|format| format.extension() == name);
        found.expect("only these names are accepted")
    })
}

/// S3 takes at most 5 GiB in one request.
pub(super) fn segment_size(value: &str) -> Result<u64, String> {
    const ACCEPTED: &str = "accepted: 64Ki to 4Gi";
    let bytes = size(value).map_err(|_| ACCEPTED)?;
    if !((64 << 10)..=(4 << 30)).contains(&bytes) {
        return Err(ACCEPTED.to_owned());
    }
    Ok(bytes)
}

pub(super) fn ring_size(value: &str) -> Result<u32, String> {
    const ACCEPTED: &str = "accepted: a power of two from 256Ki to 1Gi";
    let bytes = size(value).map_err(|_| ACCEPTED)?;
    if !bytes.is_power_of_two() || !((256 << 10)..=(1 << 30)).contains(&bytes) {
        return Err(ACCEPTED.to_owned());
    }
    u32::try_from(bytes).map_err(|_| ACCEPTED.to_owned())
}

pub(super) fn directories(value: &str) -> Result<Directories, String> {
    let value = without_control(value)?;
    let directories: Vec<PathBuf> =
        value.split(':').filter(|directory| !directory.is_empty()).map(PathBuf::from).collect();
    match directories.iter().find(|directory| !directory.is_absolute()) {
        Some(relative) => Err(format!(
            "{} is not absolute; accepted: absolute paths, separated by colons",
            relative.display()
        )),
        None => Ok(Directories(directories)),
    }
}

pub(super) fn http_address(value: &str) -> Result<HttpAddress, String> {
    if value.is_empty() {
        return Ok(HttpAddress(None));
    }
    value.parse().map(|address| HttpAddress(Some(address))).map_err(|_| {
        "accepted: an IP address and a port, such as [::]:9420 for every address of IPv4 and IPv6, \
         or nothing to turn it off"
            .to_owned()
    })
}

/// Refuses what the filter's own parser takes for the name of a module: a level that does not
/// exist would silence everything, the last error included.
pub(crate) fn log_filter(value: &str) -> Result<String, String> {
    const ACCEPTED: &str = "accepted: off, error, warn, info, debug or trace, for all or by \
                            module, such as warn,sidecar=debug";
    let value = value.trim();
    let directives = || value.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    // Filters by span hold commas of their own; the parser alone judges them.
    if !value.contains('[') {
        let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
        let is_bare = |directive: &&str| !directive.contains('=');
        if let Some(odd) = directives().filter(is_bare).find(|directive| !is_level(directive)) {
            return Err(format!("{odd:?} is no level; {ACCEPTED}"));
        }
        let concerns_sidecar = |directive: &str| {
            let module = directive.split_once('=').map_or("", |(module, _)| module.trim());
            let module = module.split("::").next().unwrap_or_default();
            OWN_MODULES.iter().any(|own| own.starts_with(module))
        };
        if !directives().any(concerns_sidecar) {
            return Err(format!(
                "no level for the sidecar itself, so that its errors would be lost; \
                                {ACCEPTED}"
            ));
        }
    }
    match EnvFilter::try_new(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(_) => Err(ACCEPTED.to_owned()),
    }
}

/// Where the sidecar's own messages come from: the library, and the binary that reports how it ended.
const OWN_MODULES: [&str; 2] = ["sidecar", "ebpf_cuda_tracer"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!(size("64Ki"), Ok(65_536));
        assert_eq!(size("10"), Ok(10));
        assert!(size("10MB").is_err());
        assert!(size("99999999999Gi").is_err());
    }

    #[test]
    fn an_http_address_is_numeric_or_empty() {
        for good in ["127.0.0.1:0", "0.0.0.0:9420", "[::]:9420"] {
            assert_eq!(http_address(good).unwrap().0.unwrap().to_string(), good);
        }
        assert_eq!(http_address(""), Ok(HttpAddress(None)));
        for bad in [":9420", "9420", "localhost:9420", "127.0.0.1", "127.0.0.1:99999", "off"] {
            assert!(http_address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_log_filter_that_would_silence_the_sidecar_is_refused_with_the_word_that_does_it() {
        for good in
            ["off", "INFO", "warn,sidecar=debug", "sidecar=trace", " info, ", "debug,aya=off"]
        {
            assert_eq!(log_filter(good), Ok(good.trim().to_owned()));
        }
        for (bad, named) in [
            ("verbose", "\"verbose\" is no level"),
            ("info,loud", "\"loud\" is no level"),
            ("sidecar", "\"sidecar\" is no level"),
            ("sidecar=verbose", "accepted: off, error"),
            ("aws_config=error", "no level for the sidecar"),
            ("sidecars=debug", "no level for the sidecar"),
            (" ", "no level for the sidecar"),
        ] {
            let reason = log_filter(bad).unwrap_err();
            assert!(reason.contains(named) && reason.contains("accepted: off"), "{bad}: {reason}");
        }
    }

    #[test]
    fn a_target_is_what_stands_between_the_spaces_and_holds_no_control_characters() {
        assert_eq!(target(" ptgt "), Ok("ptgt".to_owned()));
        assert_eq!(target("vllm serve\n"), Ok("vllm serve".to_owned()));
        for empty in ["", " ", "\n"] {
            assert!(target(empty).unwrap_err().starts_with("accepted: a part of"), "{empty:?}");
        }
        for (bad, named) in [("vllm\nserve", "'\\n'"), ("a\u{1b}[2Jb", "'\\u{1b}'")] {
            let reason = target(bad).unwrap_err();
            assert!(reason.contains(named) && reason.contains("accepted"), "{bad:?}: {reason}");
        }
    }

    #[test]
    fn a_directory_is_a_path_without_control_characters() {
        assert_eq!(directory("/my traces"), Ok("/my traces".into()));
        assert!(directory(" ").is_err());
        assert!(directory("/traces\n").unwrap_err().contains("'\\n'"));
        assert!(directories("/lib\n/opt").unwrap_err().contains("'\\n'"));
    }
}
