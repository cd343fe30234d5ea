//! `s3://bucket/prefix` against the directory that was uploaded there, and stores that fail.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::Value;
use tempfile::TempDir;
use testbed::s3::{ACCESS_KEY, SECRET_KEY, Server};

use super::{
    export::files,
    gaps,
    scene::{HOST, START, Scene, segment_name},
    scripted::{Reply, Request, Scripted},
    tables::become_table,
};

const BUCKET: &str = "traces";
const URL: &str = "s3://traces/k3s-vllm";
const ALL: &str = "summary,steps,ranks,startup,launches,memory,findings";

/// A directory, and a store that can be told to hold the same.
struct Stage {
    directory: TempDir,
    server: Server,
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Stage {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        for folder in ["traces", "home", "tmp"] {
            fs::create_dir(directory.path().join(folder)).unwrap();
        }
        let server = Server::start(directory.path().join("s3"), BUCKET).unwrap();
        Self { directory, server }
    }

    fn traces(&self) -> PathBuf {
        self.directory.path().join("traces")
    }

    /// All that lies in the directory of traces, and no more.
    fn upload(&self) {
        let prefix = self.directory.path().join("s3").join(BUCKET).join("k3s-vllm");
        if prefix.exists() {
            fs::remove_dir_all(&prefix).unwrap();
        }
        copy(&self.traces(), &prefix);
    }

    fn ask(&self, arguments: &[&str]) -> Ran {
        ask(self.directory.path(), &self.server.endpoint(), arguments)
    }

    /// The same questions to both: what is said of the bucket is what is said of the directory.
    #[track_caller]
    fn assert_same(&self, options: &[&str]) -> Vec<Value> {
        self.upload();
        let traces = self.traces().display().to_string();
        let of = |place: &str| self.ask(&[&[ALL, place, "--json"], options].concat());
        let (directory, bucket) = (of(&traces), of(URL));
        assert_eq!((directory.code, bucket.code), (0, 0), "{}{}", directory.stderr, bucket.stderr);
        assert!(!directory.stdout.is_empty());
        assert_eq!(bucket.stdout, directory.stdout.replace(&traces, URL), "{options:?}");
        bucket.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How often each segment was asked for, or a part of it.
    fn gets_of(&self, name: &str) -> usize {
        let requests = self.server.requests();
        let is_get = |request: &&testbed::s3::Request| {
            request.method == "GET" && request.key.ends_with(name)
        };
        requests.iter().filter(is_get).count()
    }
}

fn ask(directory: &Path, endpoint: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cuda-trace"));
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory.join("home"))
        .env("TMPDIR", directory.join("tmp"))
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("S3_ENDPOINT", endpoint)
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    Ran { code: output.status.code().unwrap(), stdout, stderr }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}

fn compress(file: &Path) {
    let text = fs::read(file).unwrap();
    // Frames of whole lines, as the sidecar writes them.
    let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
    let frames = lines.chunks(100);
    let frames =
        frames.map(|lines| compress_to_vec(&lines.concat()[..], CompressionLevel::Fastest));
    fs::write(file.with_extension("jsonl.zst"), frames.collect::<Vec<_>>().concat()).unwrap();
    fs::remove_file(file).unwrap();
}

/// Another run, an hour later.
fn later_run(traces: &Path) {
    for entry in fs::read_dir(traces).unwrap().collect::<Vec<_>>() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().replace("T042800", "T052800");
        fs::copy(&path, traces.join(name)).unwrap();
    }
}

#[test]
fn answers_of_lines_are_those_of_the_directory() {
    let stage = Stage::new();
    let traces = stage.traces();
    Scene::new(5, 4, 300).write(&traces);
    stage.assert_same(&[]);
    // Compressed in part, in folders, with a segment that is missing, one that is cut, one that is there
    // twice, a copy, and what is none.
    compress(&traces.join(segment_name(1)));
    let below = traces.join("date=2026-11-24/node=a");
    fs::create_dir_all(&below).unwrap();
    fs::rename(traces.join(segment_name(3)), below.join(segment_name(3))).unwrap();
    fs::copy(below.join(segment_name(3)), traces.join(segment_name(3))).unwrap();
    fs::remove_file(traces.join(segment_name(2))).unwrap();
    let last = fs::read(traces.join(segment_name(4))).unwrap();
    fs::write(traces.join(segment_name(4)), &last[..last.len() / 2]).unwrap();
    fs::write(below.join(segment_name(4)), &last[..last.len() / 3]).unwrap();
    fs::write(traces.join("notes.txt"), "mine").unwrap();
    let answers = stage.assert_same(&[]);
    let told = gaps(&answers[0]).join("\n");
    for part in ["segment 2 is missing", "000004.jsonl", "another file holds segment 4 too"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let beside = stage.ask(&["summary", URL]).stderr;
    assert!(beside.contains("\"notes.txt\"") && beside.contains("a copy of"), "{beside}");
    for options in [&["--from", "10ms", "--to", "20ms"][..], &["--since", "5ms"]] {
        stage.assert_same(options);
    }
    assert_eq!(fs::read_dir(stage.directory.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn answers_of_tables_are_those_of_the_directory() {
    let stage = Stage::new();
    let lines = stage.directory.path().join("lines");
    fs::create_dir(&lines).unwrap();
    Scene::new(6, 3, 400).write(&lines);
    later_run(&lines);
    let traces = stage.traces().display().to_string();
    let exported = stage.ask(&["export", &lines.display().to_string(), "--out", &traces]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    assert_eq!(stage.assert_same(&[]).len(), 2 * ALL.split(',').count());
    assert_eq!(stage.assert_same(&["--last"]).len(), ALL.split(',').count());
    stage.assert_same(&["--run", "T042800", "--since", "5ms"]);
    let found: Vec<PathBuf> = files(&stage.traces());
    let calls = found.iter().find(|path| path.to_str().unwrap().contains("/calls/")).unwrap();
    let key = calls.strip_prefix(stage.traces()).unwrap().display();
    let of_table = stage.ask(&["summary", &format!("{URL}/{key}"), "--json"]);
    let of_file = stage.ask(&["summary", calls.to_str().unwrap(), "--json"]);
    assert_eq!((of_table.code, of_table.stdout), (0, of_file.stdout.replace(&traces, URL)));
}

#[test]
fn segments_that_are_tables_are_read_from_a_bucket_too() {
    let stage = Stage::new();
    let scene = Scene::new(8, 4, 400);
    scene.write(&stage.traces());
    let lines = stage.directory.path().join("lines");
    copy(&stage.traces(), &lines);
    for sequence in [1, 2, 4] {
        become_table(&stage.traces(), sequence);
    }
    let found = stage.assert_same(&[]);
    let expected = stage.ask(&["summary", lines.to_str().unwrap(), "--json"]).stdout;
    let expected: Value = serde_json::from_str(&expected).unwrap();
    assert_eq!(found[0]["figures"], expected["figures"]);
    assert_eq!(found[0]["gaps"].as_array().unwrap().len(), 0);
    let printed = stage.ask(&["lines", URL]);
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    assert!(printed.stdout == scene.segments.concat().concat());
    // One that is damaged, one alone, and one that is missing.
    let table = stage.traces().join(segment_name(2)).with_extension("parquet");
    let mut content = fs::read(&table).unwrap();
    content.truncate(content.len() / 2);
    fs::write(&table, content).unwrap();
    let told = gaps(&stage.assert_same(&[])[0]).join("\n");
    assert!(told.contains("000002.parquet: not a Parquet file"), "{told}");
    let name = segment_name(4).replace(".jsonl", ".parquet");
    let of_object = stage.ask(&["summary", &format!("{URL}/{name}"), "--json"]);
    let file = stage.traces().join(&name).display().to_string();
    let of_file = stage.ask(&["summary", &file, "--json"]).stdout;
    let traces = stage.traces().display().to_string();
    assert_eq!((of_object.code, of_object.stdout), (0, of_file.replace(&traces, URL)));
}

#[test]
fn an_object_larger_than_a_part_is_read_in_parts_and_a_single_one_by_its_key() {
    let stage = Stage::new();
    Scene::new(7, 1, 40_000).write(&stage.traces());
    let file = stage.traces().join(segment_name(1));
    let bytes = fs::metadata(&file).unwrap().len();
    assert!(bytes > 3 * (4 << 20), "{bytes} bytes are no four parts");
    stage.assert_same(&[]);
    assert!(stage.gets_of(&segment_name(1)) >= 5, "its beginning, and four parts");
    let object = stage.ask(&["summary", &format!("{URL}/{}", segment_name(1)), "--json"]);
    let same = stage.ask(&["summary", URL, "--json"]);
    assert_eq!((object.code, object.stdout), (0, same.stdout));
}

#[test]
fn what_names_rule_out_is_not_downloaded() {
    let stage = Stage::new();
    Scene::new(8, 3, 50).write(&stage.traces());
    later_run(&stage.traces());
    stage.upload();
    for options in [&["--last"][..], &["--run", "T052800"]] {
        let before = stage.gets_of("");
        let ran = stage.ask(&[&["summary", URL, "--json"], options].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.contains("T052800"), "{}", ran.stdout);
        assert!(stage.gets_of("") > before);
        for sequence in 1..=3 {
            assert_eq!(stage.gets_of(&segment_name(sequence)), 0, "{options:?}");
        }
    }
    let ran = stage.ask(&["summary", URL, "--run", START, "--since", "1ms"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let asked = [1, 2, 3].map(|sequence| stage.gets_of(&segment_name(sequence)));
    assert_eq!(asked, [2, 2, 3], "beginning and content; of the last one twice, for the last call");
    let ran = stage.ask(&["summary", URL, "--run", "nobody"]);
    assert_eq!((ran.code, &*ran.stderr), (1, "error: no run is called \"nobody\"\n"));
}

#[test]
fn a_report_and_a_comparison_take_buckets_too() {
    let stage = Stage::new();
    Scene::new(9, 2, 200).write(&stage.traces());
    stage.upload();
    let same = stage.ask(&["diff", URL, "traces"]);
    assert_eq!(same.code, 0, "{}{}", same.stdout, same.stderr);
    let report = stage.ask(&["report", URL, "--out", "page.html"]);
    assert_eq!((report.code, &*report.stdout), (0, "page.html\n"), "{}", report.stderr);
    let page = fs::read_to_string(stage.directory.path().join("page.html")).unwrap();
    assert!(page.contains("cuLaunchKernel"), "{}", &page[..1000]);
}

#[test]
fn what_cannot_be_found_is_said_with_the_way_out() {
    let stage = Stage::new();
    Scene::new(10, 1, 10).write(&stage.traces());
    stage.upload();
    let endpoint = stage.server.endpoint();
    for (url, endpoint, told) in [
        ("s3://traces/other", &*endpoint, "nothing is stored under s3://traces/other/ in http"),
        ("s3://absent/x", &endpoint, "NoSuchBucket"),
        ("s3://x y/z", &endpoint, "write s3://bucket/prefix; a bucket has 3 to 63 letters"),
        (URL, "minio:9000", "S3_ENDPOINT is \"minio:9000\": accepted: a URL such as"),
        (URL, "http://127.0.0.1:1", "check S3_ENDPOINT or AWS_REGION, and the network between"),
    ] {
        let ran = ask(stage.directory.path(), endpoint, &["summary", url]);
        assert_eq!((ran.code, &*ran.stdout), (1, ""), "{url}");
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(told), "{}", ran.stderr);
    }
}

fn is_listing(request: &Request) -> bool {
    request.path.starts_with("/traces/?") || request.path.starts_with("/traces?")
}

/// A part of what is stored, as S3 answers.
fn part(request: &Request, content: &[u8], etag: &str) -> Reply {
    let Some(range) = request.headers.get("range") else {
        return Reply::new(200).header("ETag", etag).body(content);
    };
    let (start, end) = range["bytes=".len()..].split_once('-').unwrap();
    let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
    Reply::new(206)
        .header("ETag", etag)
        .header("Content-Range", format!("bytes {start}-{end}/{}", content.len()))
        .body(&content[start..=end])
}

/// The segments of a scene, by their keys.
fn stored(segments: usize) -> Vec<(String, Vec<u8>)> {
    let scene = Scene::new(11, segments, 60);
    let keys = (1..=segments).map(|sequence| format!("k3s-vllm/{}", segment_name(sequence)));
    keys.zip(scene.segments.iter().map(|lines| lines.concat().into_bytes())).collect()
}

fn listing(stored: &[(String, Vec<u8>)]) -> Reply {
    let objects: Vec<_> = stored.iter().map(|(key, content)| (&**key, content.len())).collect();
    Reply::listing(&objects)
}

fn summary(server: &Scripted, directory: &Path) -> Value {
    let ran = ask(directory, &server.endpoint, &["summary", URL, "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn an_object_that_cannot_be_had_is_named_and_the_rest_is_used() {
    let objects = stored(5);
    let whole = objects.clone();
    let server = Scripted::start(move |request| {
        if is_listing(request) {
            return listing(&whole);
        }
        let (key, content) =
            whole.iter().find(|(key, _)| request.path.contains(key.as_str())).unwrap();
        match key.as_bytes()[key.len() - "1.jsonl".len()] {
            b'2' => Reply::error(403, "AccessDenied", "Access Denied\u{9b}2J"),
            b'3' => Reply::error(404, "NoSuchKey", "does not exist"),
            // The MD5 of "abc".
            b'4' => part(request, content, "\"900150983cd24fb0d6963f7d28e17f72\""),
            // Cut, and gone on with where it was.
            b'5' if !request.headers.contains_key("range") => {
                let length = content.len();
                let reply = part(request, content, "\"v1\"");
                reply.header("Content-Length", length.to_string()).cut_to(length / 3)
            }
            _ => part(request, content, "\"v1\""),
        }
    });
    let directory = TempDir::new().unwrap();
    let answer = summary(&server, directory.path());
    let told = gaps(&answer);
    for (number, reason) in [
        (2, "the credentials need s3:GetObject on traces"),
        (3, "it was deleted after it was listed"),
        (4, "the store has the MD5 (by its ETag) 900150983cd24fb0d6963f7d28e17f72, and what came"),
    ] {
        let name = format!("s3://traces/k3s-vllm/{}: ", segment_name(number));
        let is_told = |gap: &&String| gap.starts_with(&name) && gap.contains(reason);
        assert_eq!(told.iter().filter(is_told).count(), 1, "{number}: {told:?}");
    }
    assert!(!told.iter().any(|gap| gap.contains("000005") || gap.contains('\u{9b}')), "{told:?}");
    let functions = answer["functions"].as_array().unwrap();
    let calls: u64 = functions.iter().map(|row| row["lines"].as_u64().unwrap()).sum();
    let lines: Vec<&str> = [0, 3, 4]
        .iter()
        .flat_map(|&at| std::str::from_utf8(&objects[at].1).unwrap().lines())
        .filter(|line| !line.contains("\"type\":\"meta\""))
        .collect();
    assert_eq!(calls, lines.len() as u64, "the lines of three segments");
    for row in functions {
        let grade = &row["grades"]["total_ns"]["grade"];
        assert!(grade.is_string() && grade != "exact", "{row}");
    }
}

#[test]
fn without_permission_nothing_is_answered() {
    let server = Scripted::start(|_| Reply::error(403, "AccessDenied", "Access Denied"));
    let directory = TempDir::new().unwrap();
    let ran = ask(directory.path(), &server.endpoint, &["summary", URL, "--json"]);
    assert_eq!((ran.code, &*ran.stdout), (1, ""));
    let expected = "error: cannot list s3://traces/k3s-vllm: AccessDenied: Access Denied (HTTP 403; the \
                    credentials need s3:ListBucket on traces)\n";
    assert_eq!(ran.stderr, expected);
}

#[test]
fn a_listing_that_breaks_off_or_goes_round_is_said_and_lowers_the_grade() {
    let page = |stored: &[(String, Vec<u8>)]| {
        let text = "<ListBucketResult><IsTruncated>true</IsTruncated>\
                    <NextContinuationToken>more</NextContinuationToken>";
        let objects: Vec<String> = stored
            .iter()
            .map(|(key, content)| {
                let bytes = content.len();
                format!("<Contents><Key>{key}</Key><Size>{bytes}</Size></Contents>")
            })
            .collect();
        let objects = objects.concat();
        Reply::new(200).body(format!("{text}{objects}</ListBucketResult>"))
    };
    for reason in ["AccessDenied", "lists the same keys again"] {
        // The last one is on the page that does not come.
        let objects = stored(3)[..2].to_vec();
        let server = Scripted::start(move |request| {
            if !is_listing(request) {
                let of = |(key, _): &&(String, Vec<u8>)| request.path.contains(key.as_str());
                return part(request, &objects.iter().find(of).unwrap().1, "\"v1\"");
            }
            if reason == "AccessDenied" && request.path.contains("continuation-token") {
                return Reply::error(403, "AccessDenied", "Access Denied");
            }
            page(&objects)
        });
        let directory = TempDir::new().unwrap();
        let answer = summary(&server, directory.path());
        let told = gaps(&answer);
        let expected = format!("{URL}: the listing broke off, so that segments may be missing: ");
        let is_told = |gap: &String| gap.starts_with(&expected) && gap.contains(reason);
        assert!(told.iter().any(is_told), "{told:?}");
        assert_ne!(answer["figures"]["calls"]["grade"], "exact");
    }
}

#[test]
fn sizes_and_keys_that_cannot_be_are_bounded() {
    let server = Scripted::start(|request| {
        let names = [1, 2].map(|sequence| format!("k3s-vllm/{}", segment_name(sequence)));
        if is_listing(request) {
            let up = format!("k3s-vllm/../{}", segment_name(3));
            return Reply::listing(&[(&names[0], 10), (&names[1], 1 << 62), (&up, 10)]);
        }
        // More than was listed, and far less.
        if request.path.contains(&names[0]) {
            Reply::new(200).body(vec![b'x'; 1 << 20])
        } else {
            Reply::new(200).body("{}\n")
        }
    });
    let directory = TempDir::new().unwrap();
    let ran = ask(directory.path(), &server.endpoint, &["summary", URL]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for part in ["(a key that can be no path)", "no call was found; what was read is told above"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    for part in
        ["got more than that, but the listing says 10", "but the listing says 4611686018427387904"]
    {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(ran.stdout.contains(&format!("{HOST}_{START}")));
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let server = Scripted::start(|_| {
        let text = "<ListBucketResult><IsTruncated>false</IsTruncated>";
        Reply::new(200).body([text.as_bytes(), &vec![b' '; 17 << 20]].concat())
    });
    let directory = TempDir::new().unwrap();
    let ran = ask(directory.path(), &server.endpoint, &["summary", URL]);
    assert_eq!((ran.code, &*ran.stdout), (1, ""));
    assert!(ran.stderr.contains("length limit exceeded"), "{}", ran.stderr);
}
