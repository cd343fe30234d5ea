use std::{
    env,
    fs::File,
    io::{Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Command, ExitStatus},
    time::SystemTime,
};

use crate::shipping::spool::Spool;

use allocations::peak_bytes;
use trace::segment_name::{PART_SUFFIX, Run};

use super::*;

const LINES: &str =
    "{\"ts\":2.5,\"pid\":3,\"type\":\"cuda_api\",\"func\":\"cuInit\",\"phase\":\"entry\"}\n";

fn name(sequence: u64) -> SegmentName {
    SegmentName { run: Run::new("h", "s"), sequence, format: Format::Jsonl }
}

/// A closed segment, as the recorder hands it over.
fn part(directory: &Path, sequence: u64, lines: &str) -> PathBuf {
    let part = directory.join(format!("{}{PART_SUFFIX}", name(sequence)));
    fs::write(&part, lines).unwrap();
    part
}

fn push(transcoder: &Transcoder, directory: &Path, sequence: u64, lines: &str) {
    let part = part(directory, sequence, lines);
    transcoder.push(part, name(sequence), lines.len() as u64);
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    lines::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Ends when everything is done that was pushed.
const ENOUGH: Duration = Duration::from_secs(600);

/// What is logged by the thread, too.
fn logged(work: impl FnOnce()) -> String {
    let log = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(log.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    tracing::subscriber::with_default(subscriber, work);
    fs::read_to_string(log.path()).unwrap()
}

/// All that was pushed, on this thread.
fn work_off(transcoder: &Transcoder) {
    thread::scope(|scope| {
        let stopper = scope.spawn(|| transcoder.stop(ENOUGH));
        work(&transcoder.0);
        stopper.join().unwrap();
    });
}

#[test]
fn closed_segments_become_tables_and_their_lines_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let transcoder = Transcoder::start(u64::MAX, directory.path()).unwrap();
    let many = LINES.repeat(10_000);
    for sequence in 1..=5 {
        push(&transcoder, directory.path(), sequence, &many);
    }
    transcoder.stop(ENOUGH);
    assert_eq!(transcoder.waiting(), []);
    let expected: Vec<_> = (1..=5).map(|number| format!("trace_h_s_{number:06}.parquet")).collect();
    assert_eq!(files(directory.path()), expected);
    for file in expected {
        assert!(read(&directory.path().join(file)) == many);
    }
}

#[test]
fn what_cannot_become_a_table_stays_lines_and_that_is_said_once() {
    let directory = tempfile::tempdir().unwrap();
    let transcoder = Transcoder::without_thread(u64::MAX);
    let bad = format!("{LINES}no line\n");
    push(&transcoder, directory.path(), 1, &bad);
    push(&transcoder, directory.path(), 2, &LINES[..40]);
    // As where there is no room for it: the file cannot be made.
    fs::create_dir(directory.path().join("trace_h_s_000003.parquet.part")).unwrap();
    push(&transcoder, directory.path(), 3, LINES);
    push(&transcoder, directory.path(), 4, LINES);
    push(&transcoder, directory.path(), 5, &bad);
    let log = logged(|| work_off(&transcoder));
    assert_eq!(
        files(directory.path()),
        [
            "trace_h_s_000001.jsonl",
            "trace_h_s_000002.jsonl",
            "trace_h_s_000003.jsonl",
            "trace_h_s_000003.parquet.part",
            "trace_h_s_000004.parquet",
            "trace_h_s_000005.jsonl",
        ]
    );
    assert_eq!(read(&directory.path().join("trace_h_s_000001.jsonl")), bad);
    assert_eq!(read(&directory.path().join("trace_h_s_000003.jsonl")), LINES);
    assert_eq!(log.matches("WARN").count(), 2, "{log}");
    assert!(
        log.contains("segment=trace_h_s_000001.jsonl error=\"line 2: not a trace line"),
        "{log}"
    );
    assert_eq!(log.matches("can be made of segments again").count(), 1, "{log}");
}

#[test]
fn what_is_not_done_in_time_stays_lines_and_so_does_what_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    // No thread takes them.
    let transcoder = Transcoder::without_thread(u64::MAX);
    push(&transcoder, directory.path(), 1, LINES);
    push(&transcoder, directory.path(), 2, LINES);
    let bytes: u64 = transcoder.waiting().iter().map(|segment| segment.bytes).sum();
    assert_eq!(bytes, 2 * LINES.len() as u64);
    transcoder.stop(Duration::ZERO);
    push(&transcoder, directory.path(), 3, LINES);
    assert_eq!(transcoder.waiting(), []);
    let expected: Vec<_> = (1..=3).map(|number| format!("trace_h_s_{number:06}.jsonl")).collect();
    assert_eq!(files(directory.path()), expected);
}

/// The thread is in the middle of a table when it is stopped.
#[test]
fn a_table_that_is_given_up_leaves_its_lines() {
    let directory = tempfile::tempdir().unwrap();
    let many = LINES.repeat(100_000);
    let segment =
        Closed { path: part(directory.path(), 1, &many), name: name(1), bytes: many.len() as u64 };
    let turns = std::cell::Cell::new(0);
    let error = transcode(&segment, || turns.replace(turns.get() + 1) == 3).unwrap_err();
    assert!(error.is::<Stopped>());
    assert_eq!(files(directory.path()), ["trace_h_s_000001.jsonl.part"]);
    rename(&segment).unwrap();
    assert!(read(&directory.path().join("trace_h_s_000001.jsonl")) == many);
}

#[test]
fn a_segment_that_somebody_has_removed_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let transcoder = Transcoder::without_thread(u64::MAX);
    push(&transcoder, directory.path(), 1, LINES);
    push(&transcoder, directory.path(), 2, LINES);
    fs::remove_file(directory.path().join("trace_h_s_000001.jsonl.part")).unwrap();
    let log = logged(|| work_off(&transcoder));
    assert_eq!(files(directory.path()), ["trace_h_s_000002.parquet"]);
    assert!(log.contains("somebody has removed a closed segment"), "{log}");
}

#[test]
fn while_tables_are_too_slow_segments_stay_lines() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = LINES.len() as u64;
    let transcoder = Transcoder::without_thread(2 * bytes);
    for sequence in 1..=4 {
        push(&transcoder, directory.path(), sequence, LINES);
    }
    assert_eq!(transcoder.waiting().len(), 2);
    work_off(&transcoder);
    let names = ["1.parquet", "2.parquet", "3.jsonl", "4.jsonl"];
    assert_eq!(files(directory.path()), names.map(|end| format!("trace_h_s_00000{end}")));
    // One that is larger than all that may wait has its turn.
    let transcoder = Transcoder::without_thread(0);
    push(&transcoder, directory.path(), 5, LINES);
    push(&transcoder, directory.path(), 6, LINES);
    work_off(&transcoder);
    assert_eq!(
        files(directory.path())[4..],
        ["trace_h_s_000005.parquet", "trace_h_s_000006.jsonl"]
    );
}

/// As where the directory is read-only for a while: no file takes the name of a directory.
#[test]
fn lines_that_cannot_be_renamed_are_renamed_later() {
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = directory.path().join("trace_h_s_000001.jsonl");
    fs::create_dir(&in_the_way).unwrap();
    let transcoder = Transcoder::without_thread(0);
    push(&transcoder, directory.path(), 2, LINES);
    push(&transcoder, directory.path(), 1, LINES);
    let waiting: Vec<_> = transcoder.waiting().iter().map(|it| it.name.sequence).collect();
    assert_eq!(waiting, [1, 2], "what is not uploaded yet counts");
    fs::remove_dir(&in_the_way).unwrap();
    let log = logged(|| work_off(&transcoder));
    assert!(log.contains("renamed a closed segment"), "{log}");
    assert_eq!(transcoder.waiting(), []);
    assert_eq!(files(directory.path()), ["trace_h_s_000001.jsonl", "trace_h_s_000002.parquet"]);
    assert_eq!(read(&in_the_way), LINES);
}

/// Stores file an object by the day on which its segment was closed.
#[test]
fn a_table_is_as_old_as_its_lines() {
    let directory = tempfile::tempdir().unwrap();
    let transcoder = Transcoder::without_thread(0);
    push(&transcoder, directory.path(), 1, LINES);
    let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 20_000);
    let part = directory.path().join("trace_h_s_000001.jsonl.part");
    File::options().write(true).open(part).unwrap().set_modified(day).unwrap();
    work_off(&transcoder);
    let table = directory.path().join("trace_h_s_000001.parquet");
    assert_eq!(fs::metadata(table).unwrap().modified().unwrap(), day);
}

/// Others who write to the directory lead the sidecar nowhere.
#[test]
fn a_link_in_the_place_of_a_segment_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), LINES).unwrap();
    let part = directory.path().join(format!("{}{PART_SUFFIX}", name(1)));
    std::os::unix::fs::symlink(secret.path(), &part).unwrap();
    let error = transcode(&Closed { path: part, name: name(1), bytes: 1 }, || false).unwrap_err();
    assert_eq!(format!("{error:#}"), "it is a symbolic link, not a regular file");
    assert_eq!(files(directory.path()), ["trace_h_s_000001.jsonl.part"]);
}

/// Tells a test that it is the process that it has started, and where it is to work.
const DIRECTORY: &str = "TRANSCODE_TEST_DIRECTORY";

/// The test of this name in a process of its own, whose files may not grow beyond so many KiB.
fn run_apart(test: &str, directory: &Path, kibibytes: u32) -> ExitStatus {
    // What writes beyond the limit gets an error, as on a full disk, instead of a signal.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", kibibytes * 2);
    Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", &format!("shipping::transcode::tests::{test}")])
        .env(DIRECTORY, directory)
        .status()
        .unwrap()
}

/// Random enough not to become small in a table.
fn large_lines() -> String {
    let number = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 14;
    let line = |at: u64| {
        LINES.replace("2.5", &format!("{}.5", number(at))).replace("cuInit", &format!("cu{at}"))
    };
    (0..40_000).map(line).collect()
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_table_leaves_the_lines() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        let directory = Path::new(&directory);
        let transcoder = Transcoder::without_thread(0);
        let bytes = fs::metadata(directory.join("trace_h_s_000001.jsonl.part")).unwrap().len();
        let part = directory.join(format!("{}{PART_SUFFIX}", name(1)));
        transcoder.push(part, name(1), bytes);
        let log = logged(|| work_off(&transcoder));
        assert!(log.contains("File too large"), "{log}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let lines = large_lines();
    part(directory.path(), 1, &lines);
    let test = "a_disk_that_fills_up_in_the_middle_of_a_table_leaves_the_lines";
    assert!(run_apart(test, directory.path(), 128).success());
    assert_eq!(files(directory.path()), ["trace_h_s_000001.jsonl"]);
    assert!(read(&directory.path().join("trace_h_s_000001.jsonl")) == lines);
    // With room it becomes a table of more than that.
    part(directory.path(), 2, &lines);
    let transcoder = Transcoder::without_thread(0);
    transcoder.push(directory.path().join(format!("{}{PART_SUFFIX}", name(2))), name(2), 1);
    work_off(&transcoder);
    let table = directory.path().join("trace_h_s_000002.parquet");
    assert!(fs::metadata(table).unwrap().len() > 128 << 10);
}

/// Whatever ended it, such as the limit of memory: the next start does not do that again.
#[test]
fn a_sidecar_that_is_killed_in_the_middle_of_a_table_leaves_the_lines() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        let path = Path::new(&directory).join(format!("{}{PART_SUFFIX}", name(1)));
        let turns = std::cell::Cell::new(0);
        let is_late = || turns.replace(turns.get() + 1) == 8;
        let kill = || {
            let itself = rustix::process::getpid();
            is_late().then(|| rustix::process::kill_process(itself, rustix::process::Signal::KILL));
            false
        };
        transcode(&Closed { path, name: name(1), bytes: 1 }, kill).unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let lines = large_lines();
    part(directory.path(), 1, &lines);
    let test = "a_sidecar_that_is_killed_in_the_middle_of_a_table_leaves_the_lines";
    assert_eq!(run_apart(test, directory.path(), 1 << 20).signal(), Some(9));
    let left = ["trace_h_s_000001.jsonl.part", "trace_h_s_000001.parquet.part"];
    assert_eq!(files(directory.path()), left);
    let transcoder = Transcoder::start(u64::MAX, directory.path()).unwrap();
    let spool = Spool::open(directory.path()).unwrap().with_transcoder(transcoder.clone());
    spool.close_leftovers(|_, _| ());
    transcoder.stop(ENOUGH);
    assert_eq!(spool.closed().unwrap().len(), 1);
    let text = read(&directory.path().join("trace_h_s_000001.jsonl"));
    assert!(text.starts_with(&lines) && text.lines().count() == 40_001, "with a closing line");
}

/// What making tables may take, which `docs/performance.md` tells and `MEMORY_OF_TABLES` in
/// `crates/settings/src/deployment/check.rs` relies on.
const MAX_MEMORY: u64 = 96 << 20;

/// The line of a number.
type Line<'a> = &'a dyn Fn(u64) -> String;

/// Whatever the lines are, however many.
#[test]
fn memory_is_bounded_by_no_size_of_a_segment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace_h_s_000001.jsonl.part");
    let call = |at: u64| {
        format!(
            "{{\"ts\":{at}.000001,\"pid\":3,\"tid\":{at},\"type\":\"cuda_api\",\"func\":\"cuLaunchKernel\",\
             \"phase\":\"call\",\"dur_us\":4.{:03},\"ret\":0,\"depth\":0,\"function\":\"{:#x}\",\"kernel\":{at},\
             \"stream\":\"{:#x}\"}}\n",
            at % 1000,
            at * 977,
            at % 7919
        )
    };
    let kernel = |at: u64, length: usize| {
        let name = format!("{}{at}", "k".repeat(length));
        format!(
            "{{\"ts\":1.000000,\"pid\":1,\"type\":\"meta\",\"phase\":\"meta\",\"func\":\"kernel\",\"id\":{at},\
             \"name\":\"{name}\",\"demangled\":null}}\n"
        )
    };
    let process = |at: u64| {
        format!(
            "{{\"ts\":1.000000,\"pid\":{at},\"type\":\"meta\",\"phase\":\"meta\",\"func\":\"process\",\
             \"parent\":1,\"executable\":null,\"command\":null,\"comm\":null,\"matched_by\":\"command\",\
             \"role\":\"{at:0>1000}\"}}\n"
        )
    };
    let kinds: [(&str, Line<'_>); 6] = [
        ("calls", &call),
        ("short names of kernels", &|at| kernel(at, 1)),
        ("names of kernels, and their calls", &|at| kernel(at, 1000) + &call(at)),
        ("very long lines", &|at| kernel(at, (8 << 20) - 200)),
        ("processes", &|at| process(at) + &call(at)),
        ("names of functions", &|at| {
            call(at).replace("cuLaunchKernel", &format!("cu{at}{}", "f".repeat(60_000)))
        }),
    ];
    for (kind, line) in kinds {
        let mut file = io::BufWriter::new(File::create(&path).unwrap());
        let mut left = 96_i64 << 20;
        for at in 1_u64.. {
            let line = line(at);
            file.write_all(line.as_bytes()).unwrap();
            left -= i64::try_from(line.len()).unwrap();
            if left < 0 {
                break;
            }
        }
        file.into_inner().unwrap();
        let segment = Closed { path: path.clone(), name: name(1), bytes: 1 };
        let peak = peak_bytes(|| transcode(&segment, || false).unwrap());
        println!("{kind}: {} KiB", peak >> 10);
        assert!(peak < MAX_MEMORY, "{kind}: {} KiB", peak >> 10);
    }
}
