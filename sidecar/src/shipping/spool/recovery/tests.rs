use cuda::function::Api;
use trace::{
    segment_name::PART_SUFFIX,
    writer::{CallText, push_entry},
};

use super::*;

const CALL: &str =
    "{\"ts\":2.5,\"pid\":3,\"type\":\"cuda_api\",\"func\":\"cuInit\",\"phase\":\"entry\"}\n";
const META: &str = "{\"ts\":4.5,\"pid\":3,\"type\":\"meta\",\"phase\":\"meta\",\
    \"func\":\"process\",\"parent\":null,\"executable\":null,\
    \"command\":\"x,\\\"type\\\":\\\"cuda_api\\\"\",\"comm\":null,\"matched_by\":\"comm\"}\n";

fn written(milliseconds: u64) -> String {
    let mut line = Vec::new();
    let text = CallText::new("cudaLaunchKernel", Api::Runtime);
    push_entry(&mut line, milliseconds * 1_000_000, u32::MAX, 1, &text);
    String::from_utf8(line).unwrap()
}

fn scan_of(text: &str) -> Scan {
    scan(text.as_bytes()).unwrap()
}

fn part(format: Format) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let name = format!("trace_h_s_000001.{}{PART_SUFFIX}", format.extension());
    let part = directory.path().join(name);
    (directory, part)
}

#[test]
fn a_part_is_cut_to_whole_lines_closed_and_renamed() {
    let (_directory, part) = part(Format::Jsonl);
    fs::write(&part, format!("{CALL}{CALL}{}", &CALL[..30])).unwrap();
    let text = fs::read_to_string(close(&part).unwrap()).unwrap();
    assert!(text.starts_with(&format!("{CALL}{CALL}{{\"ts\":2.500000,")), "{text}");
    assert!(text.contains("\"reason\":\"truncated\",\"final\":false,\"calls\":2"), "{text}");
    assert!(text.ends_with("}\n"));
    assert!(!part.exists());
}

#[test]
fn a_part_that_was_closed_but_not_renamed_stays_as_it_is() {
    let (_directory, part) = part(Format::Jsonl);
    fs::write(&part, CALL).unwrap();
    let once = close(&part).unwrap();
    let text = fs::read_to_string(&once).unwrap();
    fs::rename(&once, &part).unwrap();
    close(&part).unwrap();
    assert_eq!(fs::read_to_string(&once).unwrap(), text);
}

#[test]
fn calls_are_counted_as_a_reader_counts_them() {
    let calls = [written(1), CALL.to_owned(), written(7_000_000)].concat();
    let scan = scan_of(&format!("{META}{calls}{META}"));
    assert_eq!((scan.calls, scan.last_timestamp_ns), (3, 4_500_000));
    // In another order, with spaces, and with fields of a later version.
    let odd = "{\"type\": \"cuda_api\", \"ts\": 1, \"pid\": 2, \"func\": \"f\", \"phase\": \"p\"}\n\
               {\"ts\":9.5,\"pid\":2,\"tid\":2,\"type\":\"cuda_api\",\"func\":\"f\",\"phase\":\"call\",\"dur_us\":1}\n";
    let scan = scan_of(odd);
    assert_eq!((scan.calls, scan.last_timestamp_ns), (2, 9_500_000));
}

#[test]
fn the_line_of_the_writer_is_counted_without_parsing_it() {
    let line = written(1234);
    assert!(is_call_as_written(line.trim_end().as_bytes()));
    for other in [META, CALL, "", "{\"ts\":", "{\"ts\":1.0,\"pid\":1,\"tid\":1,\"type\":\"cuda_"] {
        assert!(!is_call_as_written(other.trim_end().as_bytes()), "{other}");
    }
}

#[test]
fn lines_that_the_disk_lost_are_neither_calls_nor_the_end() {
    let line = written(3);
    let (start, end) = line.split_at(line.len() / 2);
    let holes = format!("\0\0\0{line}{start}{start}{end}{start}\0\0{end}\0\0\0\n");
    let scan = scan_of(&format!("{line}{holes}"));
    assert_eq!((scan.calls, scan.last_timestamp_ns), (1, 3_000_000));
    assert_eq!(scan.whole_bytes, (line.len() + holes.len()) as u64);
}

#[test]
fn a_line_without_end_takes_no_memory_and_is_cut_off() {
    let endless = "x".repeat(usize::try_from(MAX_LINE).unwrap() + 10);
    let line = written(3);
    let scan = scan_of(&format!("{line}{endless}\n{line}{endless}"));
    assert_eq!((scan.calls, scan.last_timestamp_ns), (2, 3_000_000));
    assert_eq!(scan.whole_bytes, (2 * line.len() + endless.len() + 1) as u64);
}

#[test]
fn an_empty_part_is_closed_too() {
    for format in Format::OF_LINES {
        let (_directory, part) = part(format);
        fs::write(&part, "").unwrap();
        let text = lines_in(&close(&part).unwrap());
        assert!(text.starts_with("{\"ts\":0.000000,") && text.contains("\"calls\":0"), "{text}");
    }
}

/// What the writer makes of each batch.
fn frames(batches: &[&str]) -> Vec<Vec<u8>> {
    let mut encoding = Encoding::new(Format::JsonlZst).unwrap();
    batches.iter().map(|batch| encoding.encode(batch.as_bytes()).unwrap().to_vec()).collect()
}

fn lines_in(file: &Path) -> String {
    let content = fs::read(file).unwrap();
    if file.extension().is_some_and(|extension| extension == "jsonl") {
        return String::from_utf8(content).unwrap();
    }
    let mut text = String::new();
    Frames::new(&content[..]).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_compressed_part_is_cut_to_whole_frames_wherever_the_crash_came() {
    let (two, one) = ([CALL, CALL].concat(), written(3));
    let frames = frames(&[&two, &one]);
    let [first, second] = &frames[..] else { panic!() };
    for length in 0..=second.len() {
        let (_directory, part) = part(Format::JsonlZst);
        fs::write(&part, [first, &second[..length]].concat()).unwrap();
        let text = lines_in(&close(&part).unwrap());
        let (calls, lines, ts) = if length == second.len() {
            (3, format!("{two}{one}"), "3.000000")
        } else {
            (2, two.clone(), "2.500000")
        };
        assert!(text.starts_with(&format!("{lines}{{\"ts\":{ts},")), "{length}: {text}");
        let end = format!("\"reason\":\"truncated\",\"final\":false,\"calls\":{calls}");
        assert!(text.contains(&end), "{length}: {text}");
        assert!(!part.exists());
    }
}

#[test]
fn what_lies_behind_a_damaged_frame_or_half_a_line_is_cut_off() {
    let whole = frames(&[CALL]).concat();
    let half = frames(&[&CALL[..30]]).concat();
    let mut damaged = whole.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    for bad in [&half[..], &damaged, &[0; 4096]] {
        let (bytes, scan) = scan_frames(&[&whole[..], bad, &whole].concat()[..]).unwrap();
        assert_eq!((bytes, scan.calls), (whole.len() as u64, 1));
    }
}

#[test]
fn a_compressed_part_that_was_closed_but_not_renamed_stays_as_it_is() {
    let (_directory, part) = part(Format::JsonlZst);
    fs::write(&part, frames(&[CALL]).concat()).unwrap();
    let once = close(&part).unwrap();
    let content = fs::read(&once).unwrap();
    fs::rename(&once, &part).unwrap();
    close(&part).unwrap();
    assert_eq!(fs::read(&once).unwrap(), content);
}
