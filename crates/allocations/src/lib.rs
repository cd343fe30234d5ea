//! Counts what each thread allocates, so that tests can prove that an event costs none.
//!
//! A development dependency: whatever links it has its allocator.

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
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is ending has no counters any more.
    let _: Result<(), _> = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    let _: Result<(), _> = BYTES.try_with(|sum| sum.set(sum.get() + bytes as u64));
    hold(bytes.cast_signed() as i64);
}

fn hold(bytes: i64) {
    let _: Result<(), _> = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        PEAK.set(PEAK.get().max(held.get()));
    });
}

// SAFETY: all is done by the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size().cast_signed() as i64));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        hold(-(layout.size().cast_signed() as i64));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How often `action` allocated or grew something.
pub fn allocations(action: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    action();
    ALLOCATIONS.get() - before
}

/// How many bytes `action` asked for, in all.
pub fn allocated_bytes(action: impl FnOnce()) -> u64 {
    let before = BYTES.get();
    action();
    BYTES.get() - before
}

/// The most bytes that this thread held at a time while `action` ran, beyond those before.
pub fn peak_bytes(action: impl FnOnce()) -> u64 {
    let before = HELD.get();
    PEAK.set(before);
    action();
    u64::try_from(PEAK.get() - before).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::{allocated_bytes, allocations, peak_bytes};

    #[test]
    fn allocations_are_counted() {
        let allocated = allocations(|| drop(black_box(Vec::<u8>::with_capacity(black_box(64)))));
        assert_eq!(allocated, 1);
        let mut text = black_box(Vec::with_capacity(8));
        assert_eq!(allocations(|| text.extend_from_slice(black_box(&[0_u8; 64]))), 1);
        let twice = || {
            for _ in 0..2 {
                drop(black_box(Vec::<u8>::with_capacity(black_box(64))));
            }
        };
        assert_eq!((allocated_bytes(twice), peak_bytes(twice)), (128, 64));
    }
}
