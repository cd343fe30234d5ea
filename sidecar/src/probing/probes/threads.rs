//! What the programs remember of threads: the calls that have begun and not returned.

use std::fs;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use sidecar_common::{CallEvent, Thread};
use tracing::warn;

pub struct Threads {
    map: HashMap<MapData, u32, ThreadValue>,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct ThreadValue(Thread);

// SAFETY: integers without padding; any bytes are a valid value.
unsafe impl aya::Pod for ThreadValue {}

impl Threads {
    pub(super) fn new(map: Map) -> Result<Self> {
        Ok(Self { map: HashMap::try_from(map)? })
    }

    /// Calls that are open now. Exact once the probes are stopped.
    pub fn open_calls(&self) -> Result<Vec<CallEvent>> {
        let mut calls = Vec::new();
        for entry in &self.map {
            let (_, ThreadValue(thread)) = entry.context("cannot read the threads")?;
            calls.extend(open_calls_of(&thread));
        }
        Ok(calls)
    }

    /// Forgets threads that have ended, and returns the calls that they did not return from.
    pub fn sweep(&mut self) -> Result<Vec<CallEvent>> {
        let keys: Vec<u32> = self.map.keys().filter_map(Result::ok).collect();
        let mut calls = Vec::new();
        for key in keys {
            // It may be a new thread's by now; the kernel side tells them apart.
            let Ok(ThreadValue(thread)) = self.map.get(&key, 0) else { continue };
            if fs::exists(format!("/proc/{}", thread.tid)).unwrap_or(true) {
                continue;
            }
            // Meanwhile another thread may have got its number, and with it the value. One that gets
            // it between this look and the removal, and makes a traced call there, loses that call:
            // the closing line then says that the counts of the function differ.
            if !self.map.get(&key, 0).is_ok_and(|ThreadValue(now)| now.owner == thread.owner) {
                continue;
            }
            if let Err(error) = self.map.remove(&key) {
                // What the others left open is booked all the same; this one's turn comes again.
                warn!(thread.tid, "cannot forget a thread: {error}");
                continue;
            }
            calls.extend(open_calls_of(&thread));
        }
        Ok(calls)
    }
}

fn open_calls_of(thread: &Thread) -> impl Iterator<Item = CallEvent> {
    let depth = usize::try_from(thread.depth).unwrap_or(0).min(thread.frames.len());
    thread.frames[..depth].iter().map(|frame| frame.head.event).collect::<Vec<_>>().into_iter()
}
