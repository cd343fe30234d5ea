//! One thread calls as fast as it can, and the sidecar records: does it keep up, and at what cost?

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    Place,
    recorded::Recorded,
    tracer::{RING_BUFFER_BYTES, start_sidecar},
};
use crate::background::Interrupt;

#[derive(Debug, Serialize)]
pub(super) struct Sustained {
    seconds: u32,
    calls: u64,
    dropped: u64,
    events_per_second: f64,
    /// The sidecar's own processor time per event, from the ring buffer to JSON lines on disk.
    cpu_us_per_event: f64,
    /// The sidecar's largest resident size, of which the ring buffer is a part.
    resident_mib: f64,
    ring_mib: f64,
}

pub(super) fn run(place: &Place, seconds: u32, interrupt: &Interrupt) -> Result<Sustained> {
    let sidecar = start_sidecar(place, interrupt)?;
    let pid = sidecar.pid();
    let before = cpu_seconds(pid)?;
    let made = place.call(f64::from(seconds))?.calls;
    // The last turn of the recorder.
    interrupt.sleep(Duration::from_millis(300))?;
    let cpu = cpu_seconds(pid)? - before;
    let resident_mib = resident_mib(pid)?;
    sidecar.stop(Duration::from_secs(30))?;
    let traces = place.traces();
    let recorded = Recorded::by_sidecar(&traces)?;
    recorded.agrees_with(made, 0, &traces)?;
    let Recorded { lines: calls, lost: dropped } = recorded;
    // Gigabytes, of no use any more.
    place.clear()?;
    Ok(Sustained {
        seconds,
        calls,
        dropped,
        events_per_second: calls as f64 / f64::from(seconds),
        cpu_us_per_event: cpu * 1e6 / calls as f64,
        resident_mib,
        ring_mib: f64::from(RING_BUFFER_BYTES) / f64::from(1 << 20),
    })
}

impl Sustained {
    pub(super) fn print(&self) {
        let Self { seconds, calls, dropped, events_per_second, cpu_us_per_event, .. } = self;
        let Self { resident_mib, ring_mib, .. } = self;
        println!("\none thread at full speed for {seconds} s");
        println!("  calls recorded      {calls} ({events_per_second:.0} per second)");
        println!("  calls dropped       {dropped}");
        println!("  sidecar CPU         {cpu_us_per_event:.3} us per event");
        println!(
            "  sidecar memory      {resident_mib:.1} MiB resident, with a ring of {ring_mib:.0} MiB"
        );
    }
}

/// Processor time of all threads, as the scheduler keeps it: the ticks in `stat` can be off by a
/// multiple for a thread that sleeps and wakes in step with them.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("the sidecar is gone")?;
    let mut nanoseconds = 0;
    for thread in threads {
        let path = thread?.path().join("schedstat");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let on_cpu = text.split_whitespace().next().context("an empty schedstat")?;
        nanoseconds += on_cpu.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("the sidecar is gone")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).context("odd VmHWM")?.parse()?;
    Ok(kib / 1024.0)
}
