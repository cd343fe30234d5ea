use super::*;
use allocations::allocated_bytes;

const NOW: u64 = 1000;

fn announced(kernels: &mut Kernels, id: impl Into<Option<u32>>) -> String {
    let mut out = Vec::new();
    kernels.announce(&mut out, 0, id.into().unwrap());
    String::from_utf8(out).unwrap()
}

#[test]
fn handles_lead_to_names_also_through_other_handles_and_after_a_fork() {
    let mut kernels = Kernels::default();
    kernels.give(8, 100, b"_Z3addPfi");
    let name = kernels.take_given(8, 100).unwrap();
    kernels.named(7, NOW, 0xa, name);
    kernels.alias(7, NOW, 0xb, 0xa);
    assert_eq!(kernels.id(7, NOW, 0xb), kernels.id(7, NOW, 0xa));
    kernels.forked(9, 7, NOW + 1);
    assert_eq!(kernels.id(9, NOW, 0xa), Some(0));
    kernels.named(9, NOW, 0xc, "other".into());
    assert_ne!(kernels.id(7, NOW, 0xc), kernels.id(9, NOW, 0xc), "what a child learns is its own");
    let line = announced(&mut kernels, 0);
    assert!(line.contains(r#""name":"_Z3addPfi","demangled":"add(float*, int)""#), "{line}");
    assert_eq!(announced(&mut kernels, 0), "", "once in a segment");
    kernels.begin_segment();
    assert_ne!(announced(&mut kernels, 0), "");
}

#[test]
fn an_unknown_kernel_stays_unknown_and_says_why() {
    let mut kernels = Kernels::default();
    let id = kernels.id(7, NOW, 0xa);
    assert_eq!(kernels.id(7, NOW, 0xa), id);
    let line = announced(&mut kernels, id);
    assert!(line.contains(r#""name":null,"demangled":null,"reason":"no traced"#), "{line}");
    kernels.attached_late();
    let late = kernels.id(7, NOW, 0xb);
    assert!(announced(&mut kernels, late).contains("attached late"));
}

#[test]
fn a_handle_whose_new_name_was_lost_does_not_keep_the_old_one() {
    let mut kernels = Kernels::default();
    kernels.named(7, NOW, 0xa, "k".into());
    let old = kernels.id(7, NOW, 0xa);
    kernels.named_unread(7, NOW, 0xa);
    let id = kernels.id(7, NOW, 0xa);
    assert_ne!(id, old);
    let line = announced(&mut kernels, id);
    let expected = r#""name":null,"demangled":null,"reason":"its name could not be read""#;
    assert!(line.contains(expected), "{line}");
    kernels.named_unread(7, NOW, 0xa);
    assert_eq!(kernels.id(7, NOW, 0xa), id, "numbers do not run away");
    kernels.named(7, NOW, 0xa, "k".into());
    assert_eq!(kernels.id(7, NOW, 0xa), old);
}

#[test]
fn a_program_that_was_replaced_has_no_handles_any_more() {
    let mut kernels = Kernels::default();
    kernels.named(7, NOW, 0xa, "k".into());
    kernels.forget(7, NOW + 1);
    let id = kernels.id(7, NOW, 0xa);
    assert!(announced(&mut kernels, id).contains(r#""name":null"#));
}

#[test]
fn what_a_process_learnt_after_its_exec_outlives_the_news_of_it() {
    let mut kernels = Kernels::default();
    kernels.named(7, NOW, 0xa, "old".into());
    kernels.named(7, NOW + 20, 0xb, "new".into());
    let new = kernels.id(7, NOW + 30, 0xb);
    kernels.forget(7, NOW + 10);
    assert_eq!(kernels.id(7, NOW + 40, 0xb), new);
    let old = kernels.id(7, NOW + 40, 0xa);
    assert!(announced(&mut kernels, old).contains(r#""name":null"#));
}

#[test]
fn news_of_a_fork_takes_nothing_from_the_child_and_gives_it_nothing_later() {
    let mut kernels = Kernels::default();
    kernels.named(7, NOW, 0xa, "both".into());
    kernels.named(7, NOW, 0xb, "parent".into());
    let (both, parent) = (kernels.id(7, NOW, 0xa), kernels.id(7, NOW, 0xb));
    kernels.named(7, NOW + 20, 0xc, "later".into());
    let later = kernels.id(7, NOW + 20, 0xc);
    // Counted before the event: a launch of what the parent named, and a name of its own.
    assert_ne!(kernels.id(9, NOW + 20, 0xa), both);
    kernels.named(9, NOW + 20, 0xb, "child".into());
    let child = kernels.id(9, NOW + 20, 0xb);
    for _ in 0..2 {
        kernels.forked(9, 7, NOW + 10);
        assert_eq!(kernels.id(9, NOW + 30, 0xa), both);
        assert_eq!(kernels.id(9, NOW + 30, 0xb), child);
        assert_ne!(kernels.id(9, NOW + 30, 0xc), later);
        assert_eq!(kernels.id(7, NOW + 30, 0xb), parent);
    }
}

#[test]
fn a_text_is_only_for_the_call_that_was_given_it() {
    let mut kernels = Kernels::default();
    kernels.give(8, 100, b"k");
    assert!(kernels.take_given(8, 101).is_none());
}

#[test]
fn texts_whose_calls_never_come_give_way_to_later_ones() {
    let mut kernels = Kernels::default();
    let threads = u32::try_from(MAX_GIVEN).unwrap() + 10;
    for tid in 0..threads {
        kernels.give(tid, u64::from(tid), b"k");
    }
    assert_eq!(kernels.given.len(), MAX_GIVEN);
    assert!(kernels.take_given(9, 9).is_none(), "the oldest have gone");
    for tid in 10..threads {
        assert!(kernels.take_given(tid, u64::from(tid)).is_some(), "{tid}");
    }
}

/// 100 000 names of 2 KiB took 202 MiB.
#[test]
fn names_are_bounded_and_those_of_ended_processes_are_forgotten_first() {
    let mut kernels = Kernels::default();
    let name = |number: u64| -> Arc<str> { format!("{number:02000}").into() };
    kernels.named(1, NOW, 0xa, name(0));
    let first = kernels.id(1, NOW, 0xa);
    for number in 1..100_000 {
        kernels.named(7, NOW, number, name(number));
    }
    assert!(kernels.name_bytes <= MAX_NAME_BYTES, "{}", kernels.name_bytes);
    assert!(kernels.id(7, NOW, 1).is_some());
    assert_eq!(kernels.id(7, NOW, 99_999), None, "no room, and not one that was never named");
    kernels.named(7, NOW, 1, name(100_000));
    assert_eq!(kernels.id(7, NOW, 1), None, "not what it was");
    let before = kernels.id(7, NOW, 2).unwrap();
    assert_eq!(kernels.id(1, NOW, 0xa), first, "what is known stays");

    assert!(kernels.are_many());
    kernels.forget_unused([before].into_iter());
    assert!(!kernels.are_many(), "not again at once");
    assert!(kernels.known.len() > 1000, "the process runs");
    kernels.forget(7, NOW + 1);
    kernels.forget_unused([before].into_iter());
    assert_eq!((kernels.known.len(), kernels.by_name.len()), (2, 2));
    assert_eq!(kernels.name_bytes, 4000);
    kernels.named(8, NOW, 0xa, name(99_999));
    let again = kernels.id(8, NOW, 0xa).unwrap();
    assert!(again > before, "no number is given twice");
    assert_eq!(kernels.id(1, NOW, 0xa), first);
}

#[test]
fn launches_of_any_number_of_handles_are_bounded() {
    let mut kernels = Kernels::default();
    let mut refused = 0;
    let bytes = allocated_bytes(|| {
        for pid in 0..16 {
            for handle in 0..300_000 {
                refused += u32::from(kernels.id(pid, NOW, handle).is_none());
            }
        }
    });
    assert!(refused > 1_000_000, "{refused}");
    assert!(bytes < 200 << 20, "{bytes}");
    // Children that each learn something would copy the table of their parent.
    let bytes = allocated_bytes(|| {
        for child in 100..1000 {
            kernels.forked(child, 0, NOW + 1);
            kernels.id(child, NOW + 2, u64::MAX);
        }
    });
    assert!(bytes < 100 << 20, "{bytes}");
}

#[test]
fn a_graph_may_hold_a_kernel_that_has_been_forgotten() {
    let line = announced(&mut Kernels::default(), 7);
    assert!(line.contains(r#""id":7,"name":null,"demangled":null,"reason":"too many"#), "{line}");
}
