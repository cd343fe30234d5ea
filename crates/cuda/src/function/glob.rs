//! Globs over function names: `*` stands for any run of characters, `?` for one.

/// Whether `name` has the shape of `pattern`, whole and case-sensitive.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at_pattern, mut at_name) = (0, 0);
    // Where to take up again when the rest does not fit: after the last `*`, one more character
    // swallowed.
    let mut retry: Option<(usize, usize)> = None;
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                at_pattern += 1;
                retry = Some((at_pattern, at_name + 1));
            }
            Some(&wanted) if wanted == b'?' || wanted == name[at_name] => {
                at_pattern += 1;
                at_name += 1;
            }
            _ => {
                let Some((after_star, swallowed)) = retry else { return false };
                at_pattern = after_star;
                at_name = swallowed;
                retry = Some((after_star, swallowed + 1));
            }
        }
    }
    pattern[at_pattern..].iter().all(|&rest| rest == b'*')
}

/// Whether `text` holds a wildcard at all.
pub(super) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "cuInit"),
            ("cuInit", "cuInit"),
            ("cuMem*", "cuMemAlloc_v2"),
            ("*Async", "cudaMemcpyAsync"),
            ("*Memcpy*Async*", "cuMemcpyHtoDAsync_v2_ptsz"),
            ("cu*A*A", "cuMemcpyAtoA"),
            ("cuMemset?8", "cuMemsetD8"),
            ("cuInit**", "cuInit"),
        ] {
            assert!(matches(pattern, name), "{pattern} should match {name}");
        }
        for (pattern, name) in [
            ("", "cuInit"),
            ("cuInit", "cuInitX"),
            ("cuInit?", "cuInit"),
            ("cumem*", "cuMemAlloc_v2"),
            ("*Async", "cudaMemcpyAsync_ptsz"),
            ("?", ""),
            ("a*b", "ac"),
        ] {
            assert!(!matches(pattern, name), "{pattern} should not match {name}");
        }
    }

    #[test]
    fn many_stars_stay_quick() {
        // Backtracking over every star at once would take longer than the age of the universe.
        let name = "a".repeat(200);
        assert!(!matches(&"a*".repeat(60).replace("**", "*"), &format!("{}b", &name[..10])));
        assert!(!matches(&format!("{}b", "*a".repeat(50)), &name));
    }
}
