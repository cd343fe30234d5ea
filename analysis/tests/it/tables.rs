//! Segments that the sidecar has made tables: read as the lines that they were.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use analysis::{pass::Window, questions::Name};
use serde_json::Value;
use trace::segment_name::{Format, SegmentName};

use super::{
    ask, gaps,
    random::Random,
    scene::{Scene, segment_name},
};

const ALL: [Name; 6] =
    [Name::Summary, Name::Steps, Name::Startup, Name::Launches, Name::Memory, Name::Findings];

/// Makes a table of a segment, which goes.
pub(super) fn become_table(directory: &Path, sequence: usize) -> PathBuf {
    let segment = directory.join(segment_name(sequence));
    let name = SegmentName::parse(&segment_name(sequence)).unwrap();
    let table = directory.join(SegmentName { format: Format::Parquet, ..name.clone() }.to_string());
    let lines = fs::read(&segment).unwrap();
    tables::lines::write(&lines[..], &table, &name, || false).unwrap().publish().unwrap();
    fs::remove_file(segment).unwrap();
    table
}

fn cuda_trace(arguments: &[&Path]) -> (i32, Vec<u8>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cuda-trace")).args(arguments).output().unwrap();
    (output.status.code().unwrap(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

/// Whatever form a segment has.
fn without_form(answers: Vec<Value>) -> Value {
    let text = Value::from(answers).to_string();
    serde_json::from_str(&text.replace(".parquet", ".jsonl")).unwrap()
}

#[test]
fn answers_from_tables_and_lines_together_are_those_from_lines() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let scene = Scene::new(3, 4, 300);
    scene.write(root);
    let expected = without_form(ask(&[root], &ALL, &Window::default()));
    let text: String = scene.segments.concat().concat();
    for sequence in [2, 4, 1, 3] {
        become_table(root, sequence);
        // An unfinished table lies beside, as the sidecar leaves it while it works.
        fs::write(root.join("trace_node_20261124T042800.642Z_000005.parquet.part"), "PAR1")
            .unwrap();
        assert!(without_form(ask(&[root], &ALL, &Window::default())) == expected, "{sequence}");
        let (code, lines, error) = cuda_trace(&[Path::new("lines"), root]);
        assert_eq!((code, error.as_str()), (0, ""));
        assert!(String::from_utf8(lines).unwrap() == text, "{sequence}");
    }
    let out = root.join("tables");
    let arguments = [Path::new("export"), root, Path::new("--out"), &out];
    assert_eq!(cuda_trace(&arguments).0, 0);
    let back = ask(&[&out], &[Name::Summary], &Window::default());
    assert_eq!(back[0]["figures"]["calls"], expected[0]["figures"]["calls"]);
}

#[test]
fn of_two_files_of_a_segment_the_whole_one_is_used_whatever_its_form() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let scene = Scene::new(3, 3, 30);
    scene.write(root);
    let figures = || {
        let answer = ask(&[root], &[Name::Summary], &Window::default()).remove(0);
        (answer["figures"]["calls"].clone(), gaps(&answer))
    };
    let (expected, whole) = figures();
    assert!(whole.is_empty(), "{whole:?}");
    let table = become_table(root, 2);
    let lines = root.join(segment_name(2));
    for cut in [scene.segments[1][..5].concat(), "x".to_owned()] {
        fs::write(&lines, cut).unwrap();
        let (found, gaps) = figures();
        assert_eq!((&found, gaps.len()), (&expected, 1), "{gaps:?}");
        assert!(gaps[0].contains(&lines.display().to_string()), "{gaps:?}");
    }
    // The same the other way round.
    fs::write(&lines, scene.segments[1].concat()).unwrap();
    fs::write(&table, "PAR1").unwrap();
    assert_eq!(figures().0, expected);
}

#[test]
fn a_table_is_read_by_its_path_and_told_where_its_name_is_another() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    Scene::new(3, 1, 30).write(root);
    let table = become_table(root, 1);
    let expected = ask(&[root], &[Name::Summary], &Window::default());
    let found = ask(&[&table], &[Name::Summary], &Window::default());
    assert_eq!(found, expected);
    let renamed = root.join("mine.parquet");
    fs::rename(&table, &renamed).unwrap();
    let found = ask(&[&renamed], &[Name::Summary], &Window::default());
    assert_eq!(found[0]["figures"]["calls"], expected[0]["figures"]["calls"]);
    let (code, _, error) = cuda_trace(&[Path::new("summary"), root]);
    assert_eq!(code, 1);
    assert!(error.contains("mine.parquet\" (a segment by another name)"), "{error}");
}

/// Whatever a damaged table holds, it is named, and no figure that it touches is exact and wrong.
#[test]
fn damaged_tables_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    Scene::new(6, 3, 200).write(root);
    let table = become_table(root, 2);
    let expected = &ask(&[root], &[Name::Summary], &Window::default())[0];
    let good = fs::read(&table).unwrap();
    let mut random = Random(9);
    let mut told = 0;
    for round in 0..150 {
        let mut bad = good.clone();
        let at = random.below(bad.len());
        if round % 4 == 0 {
            bad.truncate(at);
        } else {
            bad[at] ^= 1 << random.below(8);
        }
        fs::write(&table, &bad).unwrap();
        let found = &ask(&[root], &[Name::Summary], &Window::default())[0];
        let is_told = gaps(found).iter().any(|gap| gap.contains("000002.parquet"));
        told += u32::from(is_told);
        assert!(is_told || found == expected, "{at}: {:?}", gaps(found));
        let (code, _, error) = if round % 25 == 0 {
            cuda_trace(&[Path::new("lines"), root])
        } else {
            continue;
        };
        assert!(!is_told || (code == 1 && error.contains("000002.parquet: ")), "{error}");
    }
    assert!(told > 75, "{told}");
}
