use std::{
    fs,
    io::{Cursor, ErrorKind},
    path::PathBuf,
};

use cuda::function::{Api, KNOWN, arguments::Place};
use trace::{
    line::FORMAT_VERSION,
    writer::{CallText, Returned, push_call as push_call_line, push_entry},
};

use super::*;

/// Cuts of real traces.
const CUTS: [&str; 3] = [
    "../../analysis/tests/data/h200-eager.jsonl.zst",
    "../../analysis/tests/data/h200-graphs.jsonl.zst",
    "../../analysis/tests/it/data/vllm-h200.jsonl",
];

fn cut(path: &str) -> Vec<u8> {
    let file = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let mut text = Vec::new();
    open_content(file).unwrap().read_to_end(&mut text).unwrap();
    text
}

fn name() -> SegmentName {
    let run = trace::segment_name::Run::new("h", "20261124T042800.642Z");
    SegmentName { run, sequence: 7, format: Format::Parquet }
}

fn table_of(lines: &[u8]) -> Result<(tempfile::TempDir, PathBuf)> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(name().to_string());
    write(lines, &path, &name(), || false)?.publish()?;
    assert_eq!(fs::read_dir(directory.path())?.count(), 1);
    Ok((directory, path))
}

fn read_back(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    open(path).unwrap().read_to_end(&mut text).unwrap();
    text
}

/// One column of all rows.
fn column(path: &Path, name: &'static str) -> Vec<Option<String>> {
    let mut rows = TableReader::new(Disk::new(File::open(path).unwrap()))
        .unwrap()
        .rows(&LINES, &[name])
        .unwrap();
    let is_text = LINES.columns[LINES.column(name).unwrap()].kind == crate::schema::Kind::Text;
    let mut found = Vec::new();
    while rows.advance().unwrap() {
        found.push(if is_text {
            rows.text(0).map(|text| String::from_utf8(text.to_vec()).unwrap())
        } else {
            rows.integer(0).map(|number| number.to_string())
        });
    }
    found
}

#[test]
fn the_lines_of_real_traces_come_back_byte_for_byte_and_calls_are_in_columns_alone() {
    for path in CUTS {
        let lines = cut(path);
        let (_directory, table) = table_of(&lines).unwrap();
        assert!(read_back(&table) == lines, "{path}");
        let calls =
            column(&table, "type").iter().filter(|kind| *kind != &Some("meta".into())).count();
        let all = column(&table, "json").iter().flatten().count();
        let meta = lines.split(|&byte| byte == b'\n').count() - 1 - calls;
        assert!(calls > 1000 && all == meta, "{path}: {all} lines as they are, {meta} meta lines");
        let size = fs::metadata(&table).unwrap().len();
        assert!(size * 8 < lines.len() as u64, "{path}: {size} of {}", lines.len());
    }
}

const OPENING: &str = r#"{"ts":0.044306,"pid":1,"type":"meta","phase":"meta","func":"segment_open","format_version":3,"sequence":7,"host":"h","kernel":"6.18","sidecar_version":"0.1.0","clock":{"start_monotonic_ns":4058777211455,"monotonic_ns":4058777255761,"realtime_ns":1795494480642456752},"options":{}}"#;

#[test]
fn a_line_is_kept_however_it_is_spelled() {
    let lines = [
        OPENING,
        r#"{"ts":756.362034,"pid":2,"type":"meta","phase":"meta","func":"process","parent":1,"executable":null,"command":"\"é\u0001","comm":null,"matched_by":"ancestor","role":"worker","ranks":{"pp":0,"tp":1}}"#,
        r#"{"ts":757.0,"pid":2,"type":"meta","phase":"meta","func":"kernel","id":4,"name":"_Z3addPfi","demangled":"add(float*, int)"}"#,
        r#"{"ts":756.362034,"pid":2,"tid":3,"type":"cuda_runtime","func":"cudaLaunchKernel","phase":"call","dur_us":4.076,"ret":0,"depth":0,"function":"0x55a3436dabab","kernel":4,"grid":[2,3,4],"block":[5,6,7],"shared_bytes":1024,"stream":"0x0"}"#,
        r#"{"ts":-0.000001,"pid":2,"type":"cuda_api","func":"cuInit","phase":"entry"}"#,
        r#"{"ts":1e2,"pid":9,"tid":3,"type":"other","func":"x\"\\\u00e9","phase":"later","dur_us":1,"new_field":[1,{"a":null}]}"#,
        r#"{ "ts": 1.5, "pid": 2, "type": "cuda_api", "func": "cuMemAlloc_v2", "phase": "call", "ptr": null }"#,
        r#"{"ts":1.000000,"pid":2,"tid":3,"type":"cuda_api","func":"cuMemAlloc_v2","phase":"call","dur_us":0.911,"ret":2,"error":"CUDA_ERROR_OUT_OF_MEMORY","depth":1,"parent":"cudaMalloc","bytes":18446744073709551615,"ptr":null}"#,
        r#"{"ts":1.000000,"pid":2,"tid":3,"type":"cuda_api","func":"cuGetErrorString","phase":"call","dur_us":0.911,"ret":null,"result":"0xffffffffffffffff","depth":0}"#,
    ];
    let text = lines.join("\n") + "\n";
    let (_directory, table) = table_of(text.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(read_back(&table)).unwrap(), text);

    let some = |text: &str| Some(text.to_owned());
    let run = column(&table, "run");
    assert!(run.iter().all(|run| *run == some("h_20261124T042800.642Z")));
    assert_eq!(column(&table, "segment")[8], some("7"));
    assert_eq!(column(&table, "line")[3], some("4"));
    // 1795494480642456752 - 4058777255761 + 4058777211455 + 756362034, as docs/trace-format.md has it.
    assert_eq!(column(&table, "time")[3], some("1795494481398774"));
    let at = |name| column(&table, name)[3].clone();
    assert_eq!((at("role"), at("ranks")), (some("worker"), some("pp0 tp1")));
    assert_eq!((at("kernel_name"), at("json")), (some("add(float*, int)"), None));
    assert_eq!((at("grid_y"), at("stream"), at("dur_ns")), (some("3"), some("0"), some("4076")));
    assert_eq!(column(&table, "func")[0], some("segment_open"));
    assert_eq!(column(&table, "bytes")[7], some("-1"));
    let nulls = column(&table, "null_fields");
    assert_eq!((&nulls[3], &nulls[7], &nulls[8]), (&None, &some("ptr"), &some("ret")));
    let json = column(&table, "json");
    assert_eq!((&json[7], &json[8]), (&None, &None));
    assert_eq!(json[6].as_deref(), Some(lines[6]), "blanks");
    assert_eq!(column(&table, "role")[5], None);
}

#[test]
fn what_is_no_segment_is_refused_with_its_line_and_leaves_no_file() {
    let newer = OPENING
        .replace("\"format_version\":3", &format!("\"format_version\":{}", FORMAT_VERSION + 1));
    for (bad, reason) in [
        ("{\"ts\":1\n", "line 2: not a trace line"),
        ("\n", "line 2: not a trace line"),
        ("\0\0\n", "line 2: not a trace line"),
        (&OPENING[..50], "line 2: it is cut off"),
        (&format!("{{\"ts\":1{}\n", " ".repeat(8 << 20)), "line 2: it is cut off, or too long"),
        (&(newer + "\n"), "line 2: format version 4"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let text = format!("{OPENING}\n{bad}");
        let path = directory.path().join("t.parquet");
        let error = write(text.as_bytes(), &path, &name(), || false).err().unwrap();
        assert!(format!("{error:#}").starts_with(reason), "{error:#}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn writing_stops_when_it_is_told_to_and_leaves_no_file() {
    let lines = cut(CUTS[0]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.parquet");
    let error = write(&lines[..], &path, &name(), || true).err().unwrap();
    assert!(error.is::<Stopped>(), "{error:#}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_link_in_the_place_of_the_unfinished_file_leads_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    let path = directory.path().join("t.parquet");
    std::os::unix::fs::symlink(&elsewhere, directory.path().join("t.parquet.part")).unwrap();
    let text = format!("{OPENING}\n");
    write(text.as_bytes(), &path, &name(), || false).unwrap().publish().unwrap();
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "precious");
    assert_eq!(read_back(&path), text.as_bytes());
}

/// Wherever a file is cut or changed: what is read is what was written, or ends in an error.
#[test]
fn a_damaged_table_never_gives_other_lines_in_silence() {
    let lines = cut(CUTS[1]);
    let end = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(3000).unwrap().0;
    let lines = &lines[..=end];
    let (_directory, table) = table_of(lines).unwrap();
    let good = fs::read(&table).unwrap();
    let mut refused = 0;
    for round in 0..600_usize {
        let mut bad = good.clone();
        let at = round * 7919 % bad.len();
        if round % 3 == 0 {
            bad.truncate(at);
        } else {
            bad[at] ^= 1 << (round % 8);
        }
        fs::write(&table, &bad).unwrap();
        let mut text = Vec::new();
        match open(&table).and_then(|mut content| content.read_to_end(&mut text)) {
            Ok(_) => assert!(text == lines, "byte {at}"),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::InvalidData), "{error}");
                refused += 1;
            }
        }
        assert!(text.is_empty() || text.ends_with(b"\n"), "byte {at}");
    }
    assert!(refused > 300, "{refused}");
}

#[test]
fn another_table_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.parquet");
    let metadata = [(VERSION_KEY, "1".to_owned()), (TABLE_KEY, "kernels".to_owned())];
    let file = TableFile::create(&crate::schema::KERNELS, &path, &metadata).unwrap();
    file.finish().unwrap().publish().unwrap();
    let error = open(&path).err().unwrap().to_string();
    assert_eq!(error, "it is the table \"kernels\" of an export, not a segment");
    assert!(open_content(Cursor::new(fs::read(&path).unwrap())).is_err());
}

#[test]
fn files_of_lines_are_opened_as_ever() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.jsonl");
    for text in ["", "a", "PAR", "a line\nanother"] {
        fs::write(&path, text).unwrap();
        assert_eq!(read_back(&path), text.as_bytes());
    }
}

/// Readers of tables refuse a whole file for text that is none.
#[test]
fn bytes_that_are_no_text_are_refused_also_where_nobody_looks_at_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.parquet");
    let mut line = CALL.replace('}', ",\"new_field\":\"?\"}\n").into_bytes();
    let at = line.iter().position(|&byte| byte == b'?').unwrap();
    line[at] = 0xff;
    let error = write(&line[..], &path, &name(), || false).err().unwrap();
    assert!(format!("{error:#}").starts_with("line 1: it is not UTF-8"), "{error:#}");
    line[at] = b'x';
    write(&line[..], &path, &name(), || false).unwrap().publish().unwrap();
    assert_eq!(read_back(&path), line);
}

const CALL: &str = r#"{"ts":1.500000,"pid":2,"tid":3,"type":"cuda_api","func":"cuMemAlloc_v2","phase":"call","dur_us":0.911,"ret":2,"error":"CUDA_ERROR_OUT_OF_MEMORY","depth":1,"parent":"cudaMalloc","bytes":64,"ptr":null}"#;

/// What the sidecar writes of any call of any function that it knows is in the columns alone.
#[test]
fn every_line_that_the_sidecar_writes_of_a_call_is_in_columns_alone() {
    let mut random = Random(7);
    let mut lines = Vec::new();
    let parents = ["cudaLaunchKernel", "cuCtxSynchronize"];
    for name in KNOWN.iter() {
        let api = Api::of(name).unwrap();
        let text = CallText::new(name, api);
        let parent = CallText::new(parents[random.below(2)], Api::Runtime);
        for _ in 0..12 {
            let (since_start_ns, pid) = (random.number(), random.small());
            if random.below(4) == 0 {
                push_entry(&mut lines, since_start_ns, pid, random.small(), &text);
                continue;
            }
            let call = Returned {
                since_start_ns,
                pid,
                tid: random.small(),
                duration_ns: random.number() >> 14,
                result: if random.below(3) == 0 { 0 } else { random.number() },
                depth: u16::try_from(random.below(1 << 16)).unwrap(),
                parent: (random.below(2) == 0).then_some(&parent),
                kernel: (random.below(2) == 0).then(|| random.small()),
            };
            let words: Vec<_> =
                (0..64).map(|_| (random.below(6) > 0).then(|| random.number())).collect();
            let word = std::cell::Cell::new(0);
            let next = |_: Place| {
                word.set((word.get() + 1) % words.len());
                words[word.get()]
            };
            push_call_line(&mut lines, &text, &call, next);
        }
    }
    let (_directory, table) = table_of(&lines).unwrap();
    let as_it_is: Vec<_> = column(&table, "json").into_iter().flatten().collect();
    assert_eq!(as_it_is, [""; 0]);
    assert!(column(&table, "null_fields").iter().flatten().count() > 1000);
    assert!(read_back(&table) == lines);
}

/// Lines that others may have written, and garbage: what a table is made of comes back.
#[test]
fn lines_come_back_byte_for_byte_however_they_are_changed() {
    const PIECES: [&str; 30] = [
        "null",
        "true",
        "-0",
        "1e3",
        "0.5",
        "18446744073709551615",
        "9223372036854775808",
        "007",
        "\"0X1F\"",
        "\"0x\"",
        "\"0x00ff\"",
        "\"\\u0000\\\"\"",
        "\"\u{e9}\u{1f600}\"",
        "\"ret\":null",
        "[1,2,3]",
        "[1, 2, 3]",
        "[]",
        "{}",
        "{\"ret\":null}",
        ",",
        ":",
        " ",
        "\t",
        "\r",
        "\"",
        "\\",
        ",\"ret\":null",
        ",\"ptr\":null",
        ",\"stream\":\"0x7\"",
        ",\"x\":\":null\"",
    ];
    let mut random = Random(3);
    let seeds: Vec<Vec<u8>> = CUTS[2..]
        .iter()
        .flat_map(|path| {
            cut(path).split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .chain([CALL.into(), OPENING.into()])
        .filter(|line| !line.is_empty())
        .collect();
    let (mut lines, mut refused) = (Vec::new(), Vec::new());
    let mut parser = Parser::default();
    for _ in 0..60_000 {
        let mut line = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(2) {
            let at = random.below(line.len() + 1);
            let end = (at + random.below(12)).min(line.len());
            match random.below(8) {
                // A field more, less, twice, or elsewhere.
                0..=2 => change_fields(&mut line, &mut random),
                3 => drop(line.splice(at..end, [])),
                4 => line.insert(at, u8::try_from(random.below(256)).unwrap()),
                _ => {
                    let piece = PIECES[random.below(PIECES.len())];
                    let starts = |byte: u8| matches!(byte, b':' | b',' | b'{' | b'[');
                    let at =
                        line[..at].iter().rposition(|&byte| starts(byte)).map_or(at, |it| it + 1);
                    let end = line[at..].iter().position(|&byte| matches!(byte, b',' | b'}'));
                    let end = if random.below(2) == 0 { at } else { end.map_or(at, |it| at + it) };
                    drop(line.splice(at..end, piece.bytes()));
                }
            }
        }
        line.retain(|&byte| byte != b'\n');
        let is_good = parser.parse(&line).is_ok() && std::str::from_utf8(&line).is_ok();
        line.push(b'\n');
        if is_good { lines.extend(line) } else { refused.push(line) }
    }
    let count = lines.split(|&byte| byte == b'\n').count() - 1;
    assert!(count > 10_000 && refused.len() > 10_000, "{count} {}", refused.len());
    let (_directory, table) = table_of(&lines).unwrap();
    assert!(read_back(&table) == lines);
    let as_they_are = column(&table, "json").iter().flatten().count();
    assert!(as_they_are > 5000 && as_they_are + 1000 < count, "{as_they_are} of {count}");
    for line in refused.iter().step_by(50) {
        assert!(table_of(line).is_err(), "{:?}", String::from_utf8_lossy(line));
    }
}

/// Takes one field, which may go or stay, and puts it somewhere, maybe as `null`.
fn change_fields(line: &mut Vec<u8>, random: &mut Random) {
    let Some(inner) = line.strip_prefix(b"{").and_then(|line| line.strip_suffix(b"}")) else {
        return;
    };
    let mut fields: Vec<Vec<u8>> = inner.split(|&byte| byte == b',').map(<[u8]>::to_vec).collect();
    let mut field = fields[random.below(fields.len())].clone();
    if random.below(2) == 0 {
        fields.retain(|other| *other != field);
    }
    if random.below(3) == 0
        && let Some(colon) = field.iter().position(|&byte| byte == b':')
    {
        field.truncate(colon + 1);
        field.extend_from_slice(b"null");
    }
    if random.below(4) > 0 {
        fields.insert(random.below(fields.len() + 1), field);
    }
    *line = [&b"{"[..], &fields.join(&b','), b"}"].concat();
}

/// Numbers of a seed: the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// Of any magnitude; a time since the start of at most 18 years.
    fn number(&mut self) -> u64 {
        let bits = self.below(60);
        self.next() & ((1 << bits) - 1)
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number() & u64::from(u32::MAX)).unwrap()
    }
}
