//! How two eBPF objects differ: just enough of ELF to name the section.

/// Says in words where `ours` and `theirs` part, or nothing if they are the same bytes.
pub(super) fn difference(ours: &[u8], theirs: &[u8]) -> Option<String> {
    if ours == theirs {
        return None;
    }
    let (Some(our_sections), Some(their_sections)) = (sections(ours), sections(theirs)) else {
        return Some("and one of them is no 64-bit ELF file".to_owned());
    };
    for (name, content) in &our_sections {
        match their_sections.iter().find(|(theirs, _)| theirs == name) {
            Some((_, other)) if other == content => (),
            Some(_) => return Some(format!("first in section `{name}`")),
            None => return Some(format!("without section `{name}`")),
        }
    }
    let ours_has = |name: &str| our_sections.iter().any(|(ours, _)| ours == name);
    Some(match their_sections.iter().find(|(name, _)| !ours_has(name)) {
        Some((name, _)) => format!("with the further section `{name}`"),
        None => "in the headers".to_owned(),
    })
}

type Section<'a> = (String, &'a [u8]);

/// Names and contents in file order; none if this is no little-endian 64-bit ELF file.
fn sections(file: &[u8]) -> Option<Vec<Section<'_>>> {
    const NO_CONTENT: usize = 8;
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = number(file, 0x28, 8)?;
    let size = number(file, 0x3a, 2)?;
    let count = number(file, 0x3c, 2)?;
    let names = number(file, 0x3e, 2)?;
    let header = |index: usize| file.get(table + index * size..)?.get(..size);
    let content = |header: &[u8]| {
        if number(header, 4, 4)? == NO_CONTENT {
            return Some(&[][..]);
        }
        file.get(number(header, 0x18, 8)?..)?.get(..number(header, 0x20, 8)?)
    };
    let names = content(header(names)?)?;
    (0..count)
        .map(|index| {
            let header = header(index)?;
            let name = names.get(number(header, 0, 4)?..)?.split(|byte| *byte == 0).next()?;
            Some((String::from_utf8_lossy(name).into_owned(), content(header)?))
        })
        .collect()
}

/// An unsigned little-endian number of `width` bytes.
fn number(bytes: &[u8], offset: usize, width: usize) -> Option<usize> {
    let field = bytes.get(offset..)?.get(..width)?;
    let value = field.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    // Keeps sums of two such numbers from overflowing; no object is that large.
    usize::try_from(u32::try_from(value).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use tasks::ctx::workspace_root;

    fn committed() -> Vec<u8> {
        fs::read(workspace_root().join(crate::develop::ebpf::COMMITTED)).unwrap()
    }

    #[test]
    fn committed_object_has_what_the_kernel_looks_for() {
        let object = committed();
        let names: Vec<String> =
            sections(&object).unwrap().into_iter().map(|(name, _)| name).collect();
        for wanted in ["uprobe", "license", "maps", ".BTF", ".BTF.ext"] {
            assert!(names.iter().any(|name| name == wanted), "no section {wanted}: {names:?}");
        }
        assert_eq!(difference(&object, &object), None);
    }

    #[test]
    fn changed_byte_is_found_in_its_section() {
        let object = committed();
        let mut changed = object.clone();
        let place = changed.windows(7).position(|window| window == b"MIT/GPL").unwrap();
        changed[place] = b'm';
        assert_eq!(difference(&object, &changed).unwrap(), "first in section `license`");
    }

    #[test]
    fn damaged_file_is_no_panic() {
        let object = committed();
        for length in 0..object.len() {
            assert!(difference(&object, &object[..length]).is_some(), "{length}");
        }
        let mut wild = object.clone();
        wild[0x28..0x30].fill(0xff);
        assert_eq!(difference(&object, &wild).unwrap(), "and one of them is no 64-bit ELF file");
    }
}
