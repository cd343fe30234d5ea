//! The disk fails while programs are traced: real file systems, mounted for the case.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use testbed::s3::Fault;

use crate::{
    case::{Case, Ended, Outcome, Size},
    load::Load,
    proof::{Allowed, prove},
    stage::{Stage, unhealthy},
};

pub(crate) const CASES: &[Case] = &[
    Case { name: "disk-full", about: "a tmpfs fills up, and gets room again", run: full },
    Case { name: "disk-quota", about: "a quota of the user is reached, and raised", run: quota },
    Case { name: "disk-read-only", about: "ext4 turns read-only after an error", run: read_only },
    Case {
        name: "disk-immutable",
        about: "nothing can be made, renamed or deleted",
        run: immutable,
    },
    Case { name: "disk-removed", about: "TRACE_DIR is removed, and made again", run: removed },
    Case { name: "disk-moved", about: "TRACE_DIR is moved away, and back", run: moved },
    Case {
        name: "descriptors-used-up",
        about: "no descriptor is left, and then some",
        run: descriptors,
    },
];

const DROPS: Allowed = Allowed {
    crashes: false,
    uncounted_calls: false,
    drops: true,
    waiting: false,
    deletions: false,
};

const CALLS_PER_SECOND: u64 = 2000;

/// So many bytes keep the disk small until they are removed.
const BALLAST: usize = 24 << 20;

fn full(size: Size) -> Ended {
    let mut stage = Stage::prepared(|disk| {
        succeed("mount", &["-t", "tmpfs", "-o", "size=32m", "tmpfs", path(disk)]).unwrap();
    });
    let ballast = stage.disk().join("ballast");
    fs::write(&ballast, vec![0; BALLAST]).unwrap();
    let heal = || fs::remove_file(&ballast).unwrap();
    filled(&mut stage, size, heal)
}

fn quota(size: Size) -> Ended {
    let options = "size=64m,usrquota,usrquota_block_hardlimit=8m";
    let mut reason = None;
    let mut stage = Stage::prepared(|disk| {
        reason = succeed("mount", &["-t", "tmpfs", "-o", options, "tmpfs", path(disk)]).err();
    });
    if let Some(reason) = reason {
        return Ended::Skipped(format!("this kernel has no quotas on tmpfs: {reason}"));
    }
    let probe = stage.disk().join("probe");
    if fs::write(&probe, vec![0; 16 << 20]).is_ok() {
        return Ended::Skipped("this user has CAP_SYS_RESOURCE, which no quota binds".to_owned());
    }
    // What belongs to somebody else makes room.
    fs::write(&probe, vec![0; 6 << 20]).unwrap();
    let heal = || succeed("chown", &["12345", path(&probe)]).unwrap();
    filled(&mut stage, size, heal)
}

/// Traces until nothing can be written, makes room, and traces on.
fn filled(stage: &mut Stage, size: Size, heal: impl FnOnce()) -> Ended {
    let mut sidecar = stage.start();
    let address = sidecar.address();
    // What is closed stays, so that the disk fills.
    stage.server.faults().set(Fault::Refuse).unwrap();
    let load = Load::start(stage, 0);
    sidecar.wait_for("cannot write trace lines");
    let mut outcome = Outcome { injected: 1, ..Outcome::default() };
    outcome.problems.extend(load.stop());
    let load = Load::start(stage, CALLS_PER_SECOND);
    thread::sleep(Duration::from_secs(size.of(5, 1)));
    outcome.problems.extend(unhealthy(&address, "on a full disk"));
    heal();
    stage.server.faults().clear().unwrap();
    sidecar.wait_for("trace lines can be written again");
    outcome.survived = 1;
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    prove(stage, DROPS, outcome)
}

fn read_only(size: Size) -> Ended {
    let mut device = Err("not tried".to_owned());
    let mut stage = Stage::prepared(|disk| device = mount_ext4(disk));
    let device = match device {
        Ok(device) => device,
        Err(reason) => return Ended::Skipped(format!("no ext4 on a loop device: {reason}")),
    };
    let mut sidecar = stage.start();
    let address = sidecar.address();
    let load = Load::start(&stage, CALLS_PER_SECOND);
    stage.wait_for_objects(0);
    let name = device.strip_prefix("/dev/").unwrap();
    fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "a case").unwrap();
    thread::sleep(Duration::from_secs(size.of(5, 2)));
    let mut outcome = Outcome { injected: 1, ..Outcome::default() };
    outcome.problems.extend(unhealthy(&address, "on a read-only disk"));
    outcome.problems.extend(load.stop());
    let (status, _) = stage.stop(sidecar);
    if status.code().is_some() {
        outcome.survived = 1;
    }
    // No closing line of the run can be written: what is on disk is proved.
    let allowed = Allowed { crashes: true, waiting: true, ..DROPS };
    let ended = prove(&stage, allowed, outcome);
    // The image goes with the directory; the device would stay.
    let _ = succeed("umount", &["-l", path(&stage.disk())]);
    ended
}

/// Returns the loop device.
fn mount_ext4(disk: &Path) -> Result<String, String> {
    let image = disk.with_file_name("image");
    fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    succeed("mkfs.ext4", &["-q", "-F", "-e", "remount-ro", path(&image)])?;
    succeed("mount", &["-o", "loop,errors=remount-ro", path(&image), path(disk)])?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(path(disk)));
    let device = line.and_then(|line| line.split(' ').next()).ok_or("it is not mounted")?;
    Ok(device.to_owned())
}

fn immutable(size: Size) -> Ended {
    let mut stage = Stage::new();
    let traces = stage.traces();
    let mut sidecar = stage.start();
    let address = sidecar.address();
    let load = Load::start(&stage, CALLS_PER_SECOND);
    let mut outcome = Outcome::default();
    for _ in 0..size.of(3, 1) {
        stage.wait_for_objects(stage.objects());
        if let Err(reason) = succeed("chattr", &["+i", path(&traces)]) {
            return Ended::Skipped(reason);
        }
        outcome.injected += 1;
        thread::sleep(Duration::from_secs(3));
        outcome.problems.extend(unhealthy(&address, "with an immutable TRACE_DIR"));
        succeed("chattr", &["-i", path(&traces)]).unwrap();
        stage.wait_for_objects(stage.objects());
        outcome.survived += 1;
    }
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    prove(&stage, DROPS, outcome)
}

fn removed(size: Size) -> Ended {
    taken_away(size, Allowed { deletions: true, ..DROPS }, |traces| {
        // Only the open segment is in there.
        fs::remove_dir_all(traces).unwrap();
        thread::sleep(Duration::from_secs(2));
        fs::create_dir(traces).unwrap();
    })
}

fn moved(size: Size) -> Ended {
    taken_away(size, DROPS, |traces| {
        let elsewhere = traces.with_file_name("elsewhere");
        fs::rename(traces, &elsewhere).unwrap();
        thread::sleep(Duration::from_secs(2));
        fs::rename(&elsewhere, traces).unwrap();
    })
}

fn taken_away(size: Size, allowed: Allowed, take: impl Fn(&Path)) -> Ended {
    let mut stage = Stage::new();
    // Closed segments are taken away with the directory, so there must be none at that moment.
    stage.set("TRACE_INTERVAL", "5");
    stage.set("TRACE_SEGMENT_SIZE", "64Mi");
    let traces = stage.traces();
    let mut sidecar = stage.start();
    let address = sidecar.address();
    let load = Load::start(&stage, CALLS_PER_SECOND);
    let mut outcome = Outcome::default();
    for _ in 0..size.of(3, 1) {
        stage.wait_for_objects(stage.objects());
        let closed = || crate::harness::segments_in(&traces);
        stage.wait_until("all that is closed is stored", || closed().is_empty());
        take(&traces);
        outcome.injected += 1;
        outcome.problems.extend(unhealthy(&address, "after TRACE_DIR was taken away"));
        stage.wait_for_objects(stage.objects());
        outcome.survived += 1;
    }
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    prove(&stage, allowed, outcome)
}

fn descriptors(size: Size) -> Ended {
    let mut stage = Stage::new();
    let mut sidecar = stage.start();
    let address = sidecar.address();
    let load = Load::start(&stage, CALLS_PER_SECOND);
    let pid = sidecar.pid().to_string();
    let limit = |soft: &str| succeed("prlimit", &["--pid", &pid, &format!("--nofile={soft}:")]);
    let usual = soft_limit(sidecar.pid());
    let mut outcome = Outcome::default();
    for _ in 0..size.of(3, 1) {
        stage.wait_for_objects(stage.objects());
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        limit(&open.to_string()).unwrap();
        outcome.injected += 1;
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(300));
            outcome.problems.extend(unhealthy(&address, "without descriptors"));
        }
        limit(&usual).unwrap();
        stage.wait_for_objects(stage.objects());
        outcome.survived += 1;
    }
    outcome.problems.extend(load.stop());
    stage.stop_well(sidecar, &mut outcome.problems);
    prove(&stage, DROPS, outcome)
}

fn soft_limit(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `Err`: what the command said.
pub(crate) fn succeed(program: &str, arguments: &[&str]) -> Result<(), String> {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
