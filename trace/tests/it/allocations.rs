//! A call becomes a line without a single allocation: the recorder does this a million times a
//! second, and its memory must stay bounded.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

use trace::{
    function::{Api, KNOWN, Selection, arguments::Place},
    writer::{CallText, Returned, push_call, push_entry},
};

/// Counts what each thread asks for, and passes it on.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _: Result<(), _> = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: all is done by the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How often `action` allocated or grew something.
fn allocations(action: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    action();
    ALLOCATIONS.get() - before
}

#[test]
fn allocations_are_counted() {
    let allocated = allocations(|| drop(black_box(Vec::<u8>::with_capacity(black_box(64)))));
    assert_eq!(allocated, 1);
    let mut text = black_box(Vec::with_capacity(8));
    assert_eq!(allocations(|| text.extend_from_slice(black_box(&[0_u8; 64]))), 1);
}

#[test]
fn lines_of_all_default_functions_are_written_without_allocation() {
    let selection = Selection::default();
    let texts: Vec<CallText> = KNOWN
        .iter()
        .filter(|name| selection.contains(name))
        .map(|name| CallText::new(name, Api::of(name).unwrap()))
        .collect();
    assert!(texts.len() > 400, "{}", texts.len());
    let parent = CallText::new("cudaLaunchKernel", Api::Runtime);
    let mut out = Vec::with_capacity(64 << 10);
    // Nothing was read; small numbers, also where they stand for a kind; the longest numbers.
    let words: [&dyn Fn(Place) -> Option<u64>; 4] =
        [&|_| None, &|_| Some(0), &|_| Some(2), &|_| Some(u64::MAX)];
    for text in &texts {
        for word in words {
            // Success, and an error with a name.
            for result in [0, 2] {
                let call = Returned {
                    since_start_ns: u64::MAX,
                    pid: u32::MAX,
                    tid: u32::MAX,
                    duration_ns: u64::MAX,
                    result,
                    depth: u16::MAX,
                    parent: Some(&parent),
                    kernel: Some(u32::MAX),
                };
                out.clear();
                let allocated = allocations(|| {
                    push_call(&mut out, text, &call, word);
                    push_entry(&mut out, call.since_start_ns, call.pid, call.tid, text);
                });
                assert_eq!(allocated, 0, "{}", String::from_utf8_lossy(&out));
                assert_eq!(String::from_utf8_lossy(&out).lines().count(), 2);
            }
        }
    }
}
