//! Attaches to many points, and finds out which of them refuse.

use std::{ffi::CString, io, os::fd::OwnedFd};

use anyhow::anyhow;
use aya::programs::{
    UProbe,
    uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
};

use super::super::multi::{At, Point, Program};

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
) {
    let points: Vec<Point> = numbered.iter().map(|(_, point)| *point).collect();
    if points.is_empty() {
        return;
    }
    match (program.attach(path, &points, at), numbered) {
        (Ok(link), _) => links.push(link),
        (Err(error), [(number, _)]) => refused.push((*number, explain(&error))),
        (Err(_), _) => {
            let (first, second) = numbered.split_at(numbered.len() / 2);
            attach_most(program, path, at, first, links, refused);
            attach_most(program, path, at, second, links, refused);
        }
    }
}

pub(super) fn attach_each(
    program: &mut UProbe,
    path: &str,
    points: &[(usize, Point)],
    refused: &mut Vec<Refused>,
) {
    for &(number, Point { offset, cookie }) in points {
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        let point = UProbeAttachPoint { location, cookie: Some(cookie) };
        if let Err(error) = program.attach(point, path, UProbeScope::AllProcesses) {
            refused.push((number, format!("{:#}", anyhow!(error))));
        }
    }
}

/// What the kernel means by the codes that a single probe can meet.
fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        // ENOTSUPP, which never should have left the kernel and has no name in libc.
        Some(524) => "the kernel cannot step over the instruction there".to_owned(),
        _ => error.to_string(),
    }
}
