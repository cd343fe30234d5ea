//! Attaches to many points, and finds out which of them refuse.

use std::{
    ffi::CString,
    io,
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::{
    UProbe,
    uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
};

use super::{
    super::multi::{At, Point, Program},
    PerfEvent,
};

/// A point by its number, and why it has no probe.
pub(super) type Refused = (usize, String);

/// A link is refused whole if one of its points is: halves find the guilty ones.
pub(super) fn attach_most(
    program: &Program,
    path: &CString,
    at: At,
    numbered: &[(usize, Point)],
    links: &mut Vec<OwnedFd>,
    refused: &mut Vec<Refused>,
) -> Result<()> {
    let points: Vec<Point> = numbered.iter().map(|(_, point)| *point).collect();
    if points.is_empty() {
        return Ok(());
    }
    match (program.attach(path, &points, at), numbered) {
        (Ok(link), _) => links.push(link),
        (Err(error), _) if is_shortage(&error) => return Err(error).context(CANNOT_ATTACH),
        (Err(error), [(number, _)]) => refused.push((*number, explain(&error))),
        (Err(_), _) => {
            let (first, second) = numbered.split_at(numbered.len() / 2);
            attach_most(program, path, at, first, links, refused)?;
            attach_most(program, path, at, second, links, refused)?;
        }
    }
    Ok(())
}

pub(super) fn attach_each(
    program: &mut UProbe,
    name: &'static str,
    path: &str,
    points: &[(usize, Point)],
    events: &mut Vec<PerfEvent>,
    refused: &mut Vec<Refused>,
    stop: &AtomicBool,
) -> Result<()> {
    for &(number, Point { offset, cookie }) in points {
        if stop.load(Ordering::Acquire) {
            bail!("the sidecar is told to stop");
        }
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        let point = UProbeAttachPoint { location, cookie: Some(cookie) };
        match program.attach(point, path, UProbeScope::AllProcesses) {
            Ok(link) => events.push((name, link)),
            Err(error) => {
                let error = anyhow!(error);
                let cause = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
                if cause.is_some_and(is_shortage) {
                    return Err(error).context(CANNOT_ATTACH);
                }
                refused.push((number, format!("{error:#}")));
            }
        }
    }
    Ok(())
}

const CANNOT_ATTACH: &str = "cannot attach probes now";

/// The machine lacks something that it may have again: it is not the function that refuses.
fn is_shortage(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EINTR, libc::EBUSY];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// What the kernel means by the codes that a single probe can meet.
fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        // ENOTSUPP, which never should have left the kernel and has no name in libc.
        Some(524) => "the kernel cannot step over the instruction there".to_owned(),
        _ => error.to_string(),
    }
}
