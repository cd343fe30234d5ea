//! Counts what each thread allocates, so that tests can prove that an event costs none.
//!
//! The unit tests of `sidecar` include this file too.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Counts what each thread asks for, and passes it on.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is ending has no counters any more.
    let _: Result<(), _> = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    let _: Result<(), _> = BYTES.try_with(|sum| sum.set(sum.get() + bytes as u64));
}

// SAFETY: all is done by the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How often `action` allocated or grew something.
pub(crate) fn allocations(action: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    action();
    ALLOCATIONS.get() - before
}

/// How many bytes `action` asked for, in all.
pub(crate) fn allocated_bytes(action: impl FnOnce()) -> u64 {
    let before = BYTES.get();
    action();
    BYTES.get() - before
}

#[test]
fn allocations_are_counted() {
    use std::hint::black_box;

    let allocated = allocations(|| drop(black_box(Vec::<u8>::with_capacity(black_box(64)))));
    assert_eq!(allocated, 1);
    let mut text = black_box(Vec::with_capacity(8));
    assert_eq!(allocations(|| text.extend_from_slice(black_box(&[0_u8; 64]))), 1);
    assert_eq!(allocated_bytes(|| drop(black_box(Vec::<u8>::with_capacity(black_box(64))))), 64);
}
