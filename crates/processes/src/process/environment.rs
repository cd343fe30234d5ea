//! The variables of a process that say where its libraries are.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
};

/// The kernel gives a program no more than 6 MiB of arguments and variables, whatever its limits
/// are; but a process may say later that its environment is a gigabyte of its memory.
const MAX_BYTES: u64 = 6 << 20;

/// The kernel gives a program no longer variable.
const MAX_VARIABLE_BYTES: usize = 128 << 10;

/// The wanted variables of `/proc/PID/environ`, in its form; nothing if it cannot be read.
pub fn environment(pid: u32, wanted: &[&str]) -> Vec<u8> {
    let file = File::open(format!("/proc/{pid}/environ"));
    file.and_then(|file| select(BufReader::new(file.take(MAX_BYTES)), wanted)).unwrap_or_default()
}

/// The first variable of each wanted name, as for `getenv`. Only these are in memory at any time.
fn select(mut from: impl BufRead, wanted: &[&str]) -> io::Result<Vec<u8>> {
    let mut selected = Vec::new();
    let mut missing: Vec<&str> = wanted.to_vec();
    let mut entry = Vec::new();
    while !missing.is_empty() {
        entry.clear();
        let mut is_long = false;
        loop {
            let part = from.fill_buf()?;
            let end = part.iter().position(|&byte| byte == 0);
            let part = &part[..end.unwrap_or(part.len())];
            is_long |= entry.len() + part.len() > MAX_VARIABLE_BYTES;
            if !is_long {
                entry.extend_from_slice(part);
            }
            let (length, is_last) = (part.len(), part.is_empty());
            from.consume(length + usize::from(end.is_some()));
            if end.is_some() {
                break;
            }
            if is_last {
                // What has no end was cut, or is still being written.
                return Ok(selected);
            }
        }
        let name = entry.split(|&byte| byte == b'=').next().unwrap_or_default();
        let found = missing.iter().position(|wanted| wanted.as_bytes() == name);
        if let Some(found) = found.filter(|_| !is_long && name.len() < entry.len()) {
            missing.swap_remove(found);
            selected.extend_from_slice(&entry);
            selected.push(0);
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(environment: &[u8], wanted: &[&str]) -> String {
        // A buffer that no variable fits into.
        let from = BufReader::with_capacity(3, environment);
        String::from_utf8(select(from, wanted).unwrap()).unwrap()
    }

    #[test]
    fn only_wanted_variables_are_kept_and_of_each_the_first() {
        let environment = b"A=1\0LONGER=2\0B=\0A=3\0C\0D=x=y\0E=no end";
        assert_eq!(selected(environment, &["A", "B", "C", "D", "E", "F"]), "A=1\0B=\0D=x=y\0");
        assert_eq!(selected(environment, &[]), "");
        assert_eq!(selected(b"", &["A"]), "");
    }

    #[test]
    fn a_variable_that_no_program_can_be_given_is_passed_over() {
        let mut environment = b"A=".to_vec();
        environment.resize(MAX_VARIABLE_BYTES + 1, b'x');
        environment.extend(b"\0B=1\0");
        assert_eq!(selected(&environment, &["A", "B"]), "B=1\0");
    }

    #[test]
    fn memory_is_bounded_however_large_the_environment_is() {
        let endless = BufReader::new(io::repeat(b'x').take(64 << 20));
        assert_eq!(select(endless, &["A"]).unwrap().capacity(), 0);
    }
}
