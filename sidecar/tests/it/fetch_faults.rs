//! `ebpf-cuda-tracer fetch` from stores that fail in part: what can be had is had, whole, and what
//! cannot is named.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    command::{Ran, fetch},
    scripted::{Reply, Request, Scripted},
};

/// Not a pattern that would hide a part in the wrong place.
fn content(bytes: usize) -> Vec<u8> {
    let numbers = (0_u32..).map(|number| number.wrapping_mul(2_654_435_761));
    numbers.flat_map(u32::to_le_bytes).take(bytes).collect()
}

/// Where the part that was asked for begins.
fn asked_from(request: &Request) -> usize {
    let range = request.headers.get("range").map(String::as_str);
    range.map_or(0, |range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap())
}

/// All that is there from where it was asked for, with the headers of S3.
fn part(request: &Request, content: &[u8], etag: &str) -> Reply {
    let start = asked_from(request);
    let rest = &content[start..];
    let reply = Reply::new(if start == 0 { 200 } else { 206 })
        .header("ETag", etag)
        .header("Content-Length", rest.len().to_string());
    let reply = if start == 0 {
        reply
    } else {
        let (last, all) = (content.len() - 1, content.len());
        reply.header("Content-Range", format!("bytes {start}-{last}/{all}"))
    };
    reply.body(rest)
}

fn is_listing(request: &Request) -> bool {
    request.path.starts_with("/traces/?") || request.path.starts_with("/traces?")
}

fn key_of(request: &Request) -> &str {
    request.path.split('?').next().unwrap().trim_start_matches("/traces/k3s-vllm/")
}

fn files_below(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().display().to_string();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

#[track_caller]
fn assert_says(ran: &Ran, parts: &[&str]) {
    for part in parts {
        assert!(ran.stderr.contains(part), "no {part:?} in {}", ran.stderr);
    }
}

#[test]
fn a_transfer_that_is_cut_goes_on_where_it_was() {
    let whole = content(500_000);
    let stored = whole.clone();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let server = Scripted::start(move |request| {
        if is_listing(request) {
            return Reply::listing(&[("k3s-vllm/a.jsonl", stored.len())]);
        }
        if asked_from(request) > 0 {
            assert_eq!(request.headers["if-match"], "\"v1\"");
        }
        count.fetch_add(stored[asked_from(request)..].len().min(100_000), Ordering::Relaxed);
        part(request, &stored, "\"v1\"").cut_to(100_000)
    });
    let directory = tempfile::tempdir().unwrap();
    let ran = fetch(&server.endpoint, directory.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(files_below(directory.path()), BTreeMap::from([("a.jsonl".to_owned(), whole)]));
    assert_eq!(sent.load(Ordering::Relaxed), 500_000, "no byte is asked for twice");
}

#[test]
fn a_transfer_that_pauses_goes_on_by_another_request() {
    let whole = content(1000);
    let stored = whole.clone();
    let server = Scripted::start(move |request| {
        if is_listing(request) {
            return Reply::listing(&[("k3s-vllm/a.jsonl", stored.len())]);
        }
        let reply = part(request, &stored, "\"v1\"");
        if asked_from(request) == 0 {
            return reply.cut_to(500).pause(Duration::from_secs(600));
        }
        reply
    });
    let directory = tempfile::tempdir().unwrap();
    let ran = fetch(&server.endpoint, directory.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(files_below(directory.path()), BTreeMap::from([("a.jsonl".to_owned(), whole)]));
}

#[test]
fn a_store_that_is_overloaded_for_a_while_is_asked_again_within_the_run() {
    let whole = content(1000);
    let stored = whole.clone();
    let refusals = Arc::new(Mutex::new(BTreeMap::from([("a.jsonl", 2), ("b.jsonl", 3)])));
    let left = Arc::clone(&refusals);
    let server = Scripted::start(move |request| {
        if is_listing(request) {
            let objects = ["k3s-vllm/a.jsonl", "k3s-vllm/b.jsonl", "k3s-vllm/c.jsonl"];
            return Reply::listing(&objects.map(|key| (key, stored.len())));
        }
        match left.lock().unwrap().get_mut(key_of(request)) {
            Some(left @ 1..) => {
                *left -= 1;
                Reply::error(503, "SlowDown", "Please reduce your request rate.")
            }
            _ => part(request, &stored, "\"v1\""),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let ran = fetch(&server.endpoint, directory.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let all = ["a.jsonl", "b.jsonl", "c.jsonl"].map(|name| (name.to_owned(), whole.clone()));
    assert_eq!(files_below(directory.path()), BTreeMap::from(all));
    assert_says(&ran, &["SlowDown", "trying again in"]);
    assert!(refusals.lock().unwrap().values().all(|&left| left == 0), "it was overloaded");
}

#[test]
fn what_a_run_has_left_half_done_is_not_asked_for_again_by_the_next() {
    let whole = content(1000);
    let stored = whole.clone();
    let is_broken = Arc::new(Mutex::new(true));
    let broken = Arc::clone(&is_broken);
    let server = Scripted::start(move |request| {
        if is_listing(request) {
            return Reply::listing(&[("k3s-vllm/a.jsonl", stored.len())]);
        }
        if *broken.lock().unwrap() && asked_from(request) > 0 {
            return Reply::error(503, "SlowDown", "Please reduce your request rate.");
        }
        part(request, &stored, "\"v1\"").cut_to(600)
    });
    let directory = tempfile::tempdir().unwrap();
    let ran = fetch(&server.endpoint, directory.path(), &[]);
    assert_eq!(ran.code, 1);
    assert_says(&ran, &["left out: cannot download s3://traces/k3s-vllm/a.jsonl", "SlowDown"]);
    *is_broken.lock().unwrap() = false;
    let before = server.requests().len();
    let ran = fetch(&server.endpoint, directory.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(files_below(directory.path()), BTreeMap::from([("a.jsonl".to_owned(), whole)]));
    let ranges: Vec<Option<String>> = server.requests()[before..]
        .iter()
        .filter(|request| !is_listing(request))
        .map(|request| request.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges, [None, Some("bytes=600-".to_owned())]);
}

#[test]
fn an_object_that_changes_meanwhile_is_never_put_together_of_both() {
    let (old, new) = (content(1000), vec![b'n'; 1000]);
    let later = new.clone();
    let asked = AtomicUsize::new(0);
    let server = Scripted::start(move |request| {
        if is_listing(request) {
            return Reply::listing(&[("k3s-vllm/a.jsonl", 1000)]);
        }
        match (asked.fetch_add(1, Ordering::Relaxed), request.headers.get("if-match")) {
            (0, _) => part(request, &old, "\"old\"").cut_to(600),
            (_, Some(_)) => Reply::error(412, "PreconditionFailed", "did not hold"),
            (_, None) => part(request, &later, "\"new\""),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let ran = fetch(&server.endpoint, directory.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(files_below(directory.path()), BTreeMap::from([("a.jsonl".to_owned(), new)]));
}

#[test]
fn a_store_that_knows_no_ranges_is_asked_for_all_of_it() {
    let whole = content(1000);
    let stored = whole.clone();
    let asked = AtomicUsize::new(0);
    let server = Scripted::start(move |request| {
        if is_listing(request) {
            return Reply::listing(&[("k3s-vllm/a.jsonl", stored.len())]);
        }
        let reply = Reply::new(200).header("ETag", "\"v1\"").body(stored.clone());
        let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        if is_first { reply.header("Content-Length", "1000").cut_to(300) } else { reply }
    });
    let directory = tempfile::tempdir().unwrap();
    let ran = fetch(&server.endpoint, directory.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(files_below(directory.path()), BTreeMap::from([("a.jsonl".to_owned(), whole)]));
}

#[test]
fn objects_that_cannot_be_had_are_named_and_the_others_are_downloaded() {
    let names = ["archived", "damaged", "denied", "fine", "gone", "gzip", "last"];
    let server = Scripted::start(move |request| {
        if is_listing(request) {
            let keys = names.map(|name| format!("k3s-vllm/{name}"));
            let objects: Vec<(&str, usize)> = keys.iter().map(|key| (key.as_str(), 3)).collect();
            return Reply::listing(&objects);
        }
        // RFC 1321, appendix A.5: the MD5 of "abc".
        let abc = Reply::new(200).header("ETag", "\"900150983cd24fb0d6963f7d28e17f72\"");
        match key_of(request) {
            "archived" => Reply::error(403, "InvalidObjectState", "not valid for the class"),
            "damaged" => abc.body("abx"),
            "denied" => Reply::error(403, "AccessDenied", "Access Denied"),
            "gone" => Reply::error(404, "NoSuchKey", "does not exist"),
            "gzip" => abc.header("Content-Encoding", "gzip").body("longer than it was"),
            _ => abc.body("abc"),
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let ran = fetch(&server.endpoint, directory.path(), &[]);
    assert_eq!(ran.code, 1);
    let files = files_below(directory.path());
    assert_eq!(files.keys().collect::<Vec<_>>(), ["fine", "last"]);
    let out = directory.path();
    let printed: Vec<String> =
        ["fine", "last"].map(|name| out.join(name).display().to_string()).into();
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), printed);
    for (name, reason) in [
        ("archived", "it is archived: restore it with `aws s3api restore-object`"),
        (
            "damaged",
            "the store has the MD5 (by its ETag) 900150983cd24fb0d6963f7d28e17f72, and what",
        ),
        ("denied", "the credentials need s3:GetObject on traces"),
        ("gone", "it was deleted after it was listed"),
        ("gzip", "content encoding \"gzip\", which was not asked for"),
    ] {
        let start = format!("left out: cannot download s3://traces/k3s-vllm/{name} to ");
        let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.contains(&start)).collect();
        assert!(lines.len() == 1 && lines[0].contains(reason), "{name}: {}", ran.stderr);
    }
    assert_says(&ran, &["5 of 7 objects were left out"]);
}

#[test]
fn a_key_that_is_the_folder_of_others_gets_a_name_beside_it() {
    let keys = ["k3s-vllm/x", "k3s-vllm/x/y", "k3s-vllm/z"];
    let server = Scripted::start(move |request| {
        if is_listing(request) {
            return Reply::listing(&keys.map(|key| (key, key.len())));
        }
        Reply::new(200).body(format!("k3s-vllm/{}", key_of(request)))
    });
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let ran = fetch(&server.endpoint, directory.path(), &[]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let expected = [("x.file", keys[0]), ("x/y", keys[1]), ("z", keys[2])];
        let expected = expected.map(|(name, key)| (name.to_owned(), key.as_bytes().to_vec()));
        assert_eq!(files_below(directory.path()), BTreeMap::from(expected));
    }
    // A file of the user, where a folder must go.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("x"), "mine").unwrap();
    let ran = fetch(&server.endpoint, other.path(), &[]);
    assert_eq!(ran.code, 1);
    assert_says(&ran, &["cannot create the folder", "1 of 3 objects were left out"]);
    assert_eq!(fs::read(other.path().join("x")).unwrap(), b"mine");
    assert!(other.path().join("z").exists());
}

/// Pages of two, as a store answers that knows the first form of listings only.
fn page(keys: &[&str], after: &str, token: Option<&str>) -> Reply {
    let rest: Vec<&str> = keys.iter().copied().filter(|key| *key > after).collect();
    let more = rest.len() > 2;
    let mut text = format!("<ListBucketResult><IsTruncated>{more}</IsTruncated>");
    if let Some(token) = token.filter(|_| more) {
        text.extend(["<NextContinuationToken>", token, "</NextContinuationToken>"]);
    }
    for key in rest.iter().take(2) {
        text.extend(["<Contents><Key>", key, "</Key><Size>1</Size></Contents>"]);
    }
    text.push_str("</ListBucketResult>");
    Reply::new(200).body(text)
}

fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let (_, query) = request.path.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

const KEYS: [&str; 5] = ["k3s-vllm/a", "k3s-vllm/b", "k3s-vllm/c", "k3s-vllm/d", "k3s-vllm/e"];

#[test]
fn a_listing_without_a_token_is_continued_in_the_first_form() {
    let server = Scripted::start(|request| {
        if !is_listing(request) {
            return Reply::new(200).body("x");
        }
        let after = parameter(request, "marker").unwrap_or_default().replace("%2F", "/");
        page(&KEYS, &after, None)
    });
    let directory = tempfile::tempdir().unwrap();
    let ran = fetch(&server.endpoint, directory.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(files_below(directory.path()).len(), 5);
}

#[test]
fn a_listing_that_cannot_be_continued_is_not_all() {
    // One that ignores what it is asked to go on from; one that fails on the way; one whose token
    // leads nowhere.
    type Answer = fn(&Request) -> Reply;
    let ignores: Answer = |_| page(&KEYS, "", None);
    let fails: Answer = |request| match parameter(request, "continuation-token") {
        None => page(&KEYS, "", Some("next")),
        Some(_) => Reply::error(403, "AccessDenied", "Access Denied"),
    };
    let circles: Answer = |_| page(&KEYS, "", Some("same"));
    for (answer, reason) in [
        (ignores, "lists the same keys again"),
        (fails, "AccessDenied"),
        (circles, "lists the same keys again"),
    ] {
        let server = Scripted::start(move |request| {
            if is_listing(request) { answer(request) } else { Reply::new(200).body("x") }
        });
        let directory = tempfile::tempdir().unwrap();
        let ran = fetch(&server.endpoint, directory.path(), &[]);
        assert_eq!(ran.code, 1);
        assert_eq!(files_below(directory.path()).len(), 2);
        assert_says(&ran, &["only 2 objects of s3://traces/k3s-vllm/ could be listed", reason]);
        assert!(!ran.stderr.contains("all of s3://"), "{}", ran.stderr);
    }
}

#[test]
fn keys_that_xml_cannot_hold_do_not_hide_the_others() {
    let server = Scripted::start(|request| {
        if !is_listing(request) {
            return Reply::new(200).body("x");
        }
        if parameter(request, "encoding-type") == Some("url") {
            let text = "<ListBucketResult><EncodingType>url</EncodingType>\
                        <Contents><Key>k3s-vllm/bad%01</Key><Size>1</Size></Contents>\
                        <Contents><Key>k3s-vllm/good+one</Key><Size>1</Size></Contents>\
                        </ListBucketResult>";
            return Reply::new(200).body(text);
        }
        Reply::listing(&[("k3s-vllm/bad\u{1}", 1), ("k3s-vllm/good one", 1)])
    });
    let directory = tempfile::tempdir().unwrap();
    let ran = fetch(&server.endpoint, directory.path(), &[]);
    assert_eq!(ran.code, 1);
    assert_eq!(files_below(directory.path()).keys().collect::<Vec<_>>(), ["good one"]);
    assert_says(&ran, &["cannot save s3://traces/k3s-vllm/bad\\u{1}", "control characters"]);
}
