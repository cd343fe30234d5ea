//! Machines with a part of the toolchain, and what is said about each.

use super::*;

fn complete() -> Found {
    Found {
        rustup: true,
        nightly: Nightly::Chosen {
            name: pins::NIGHTLY.to_owned(),
            rustc: pins::NIGHTLY_RUSTC.to_owned(),
            rust_src: true,
            clippy: true,
        },
        bpf_linker: Some(format!("bpf-linker {}", pins::BPF_LINKER)),
    }
}

#[test]
fn complete_toolchain_has_no_complaint() {
    assert_eq!(complaint(&pieces(&complete())), None);
}

#[test]
fn bare_machine_is_told_everything_at_once() {
    let found = Found { rustup: true, ..Found::default() };
    insta::assert_snapshot!(complaint(&pieces(&found)).unwrap(), @"
    the eBPF program cannot be built here yet (nothing else needs these):
      nightly Rust: not installed; it compiles for the BPF target
        rustup toolchain install nightly-2026-05-20 --profile minimal --component rust-src,clippy,rustfmt
      bpf-linker: not installed; it links the program into one object
        cargo install bpf-linker --version 0.10.4 --locked
    ");
}

#[test]
fn what_the_chosen_nightly_lacks_goes_into_that_one() {
    let nightly = Nightly::Chosen {
        name: "nightly".to_owned(),
        rustc: pins::NIGHTLY_RUSTC.to_owned(),
        rust_src: false,
        clippy: false,
    };
    insta::assert_snapshot!(complaint(&pieces(&Found { nightly, ..complete() })).unwrap(), @"
    the eBPF program cannot be built here yet (nothing else needs these):
      rust-src of the nightly: not installed; it is the source of `core`, which has no BPF build to download
        rustup component add rust-src --toolchain nightly
      clippy of the nightly: not installed; it checks the eBPF program for mistakes
        rustup component add clippy --toolchain nightly
    ");
}

#[test]
fn another_linker_is_not_the_linker() {
    let found = Found { bpf_linker: Some("bpf-linker 0.10.40".to_owned()), ..complete() };
    let complaint = complaint(&pieces(&found)).unwrap();
    assert!(complaint.contains("found bpf-linker 0.10.40, but 0.10.4 is needed"), "{complaint}");
    assert!(!complaint.contains("rust-src"), "{complaint}");
}

const SAME: &str = pins::NIGHTLY_RUSTC;
const NEWER: &str = "rustc 1.99.0-nightly (0123456789 2026-08-01)";

/// The choice on a machine with these toolchains, each with its version.
fn choice(toolchains: &[(&str, &str)], named: Option<&str>) -> Result<(String, String), Nightly> {
    choose(named.map(str::to_owned), |wanted| {
        let (_, version) = toolchains.iter().find(|(name, _)| *name == wanted)?;
        Some((*version).to_owned())
    })
}

fn pair(name: &str, version: &str) -> (String, String) {
    (name.to_owned(), version.to_owned())
}

#[test]
fn the_pinned_toolchain_goes_before_the_same_compiler_under_another_name() {
    let pinned = pins::NIGHTLY;
    assert_eq!(choice(&[("nightly", SAME), (pinned, SAME)], None), Ok(pair(pinned, SAME)));
    assert_eq!(choice(&[("nightly", SAME)], None), Ok(pair("nightly", SAME)));
    assert_eq!(
        choice(&[("nightly", NEWER)], None),
        Err(Nightly::Other { rustc: NEWER.to_owned() })
    );
    assert_eq!(choice(&[], None), Err(Nightly::Absent));
}

#[test]
fn a_named_toolchain_is_taken_or_missed_but_never_replaced() {
    let toolchains = [("nightly", SAME), (pins::NIGHTLY, SAME), ("mine", NEWER)];
    assert_eq!(choice(&toolchains, Some("mine")), Ok(pair("mine", NEWER)));
    assert_eq!(choice(&toolchains, Some("yours")), Err(Nightly::Absent));
}

#[test]
fn another_compiler_is_a_complaint_unless_it_was_named() {
    let other = Nightly::Other { rustc: NEWER.to_owned() };
    insta::assert_snapshot!(complaint(&pieces(&Found { nightly: other, ..complete() })).unwrap(), @"
    the eBPF program cannot be built here yet (nothing else needs these):
      nightly Rust: `nightly` is rustc 1.99.0-nightly (0123456789 2026-08-01), but rustc 1.97.0-nightly (e50aa6fba 2026-05-19) is needed; it compiles for the BPF target
        rustup toolchain install nightly-2026-05-20 --profile minimal --component rust-src,clippy,rustfmt
    ");
    let (name, rustc) = ("mine".to_owned(), NEWER.to_owned());
    let named = Nightly::Chosen { name, rustc, rust_src: true, clippy: true };
    let pieces = pieces(&Found { nightly: named, ..complete() });
    assert_eq!(complaint(&pieces), None);
    assert!(
        pieces
            .iter()
            .any(|piece| matches!(&piece.state, Ok(text) if text.contains("was built by"))),
        "{pieces:?}"
    );
}
