//! What is printed means the same to a reader of YAML 1.1 as to us.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use manifests::{
    access, component, component::Component, config_map, deployment::deployment, device_plugin,
    namespace, runtime_class, service, storage, yaml,
};
use serde_json::{Value, json};

use crate::yaml11_reader::read;

use crate::config;

/// Words that look like something else, from the types of YAML 1.1 and from reports of what went wrong.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO",
    "on", "On", "ON", "off", "Off", "OFF", "true", "True", "TRUE", "false", "FALSE", "oN", "tRUE",
    "0", "-0", "+1", "12", "1_000", "017", "0o17", "0O17", "0b1010_0111", "0x_0A_74", "0x1F",
    "-0x1F", "190:20:30", "12:30", "12:30:45", "1:2", "22:22", "1.5", "1.", ".5", ".", "-.5",
    "1e3", "1E3", "1e+3", "6.8523015e+5", "685_230.15", "190:20:30.15", ".inf", "-.INF", "+.Inf",
    ".nan", ".NaN", "nan", "inf", "2001-12-14", "2001-12-14t21:59:43.10-05:00",
    "2001-12-14 21:59:43.10 -5", "2001-12-15 2:59:43.10", "2026-1-1", "<<", "=", "-", "--", "---",
    "...", "- a", "a: b", "a #b", "#a", "? a", ": a", ":", "!tag", "&anchor", "*alias",
    "%directive", "@at", "`tick", "[a", "{a", "a]", "'", "\"", "\\", "a\"b'c", " a", "a ", "\ta",
    "a\tb", "\n", "a\n", "a\nb", "a\n\nb\n", "\n a", "  a\nb", "a\r\nb", "a\rb", "\u{7f}",
    "\u{85}", "a\u{2028}b", "\u{feff}", "\u{1b}", "é", "日本", "🙂", "|", ">", "|-", "key: |",
    "$(POD)", "1.2.3", "0.0.0.0:9400", "10.43.0.0/16", "512Mi", "500m", "5e", "12e03", "1__0",
    "_1", "+", "+a", "0x", "0b", "0o8", "08", "09.5", "1:60", "--model=a", "eec4b03da4537c69",
    "1234567890123456", "0123e4567", "99999999999999999999",
];

fn settings_of(words: &[String]) -> ConfigMap {
    // Each as a key and as a value, also where Kubernetes would not take such a key.
    let data: BTreeMap<String, String> =
        words.iter().map(|word| (word.clone(), word.clone())).collect();
    ConfigMap { data: Some(data), ..ConfigMap::default() }
}

fn assert_reads_back(words: &[String]) {
    let object = settings_of(words);
    let text = yaml::to_yaml(&object).unwrap();
    let read_back = read(&text);
    let [Value::Object(read_back)] = read_back.as_slice() else { panic!("{read_back:?}") };
    let expected = serde_json::to_value(&object).unwrap();
    let (expected, read_back) =
        (expected["data"].as_object().unwrap(), read_back["data"].as_object().unwrap());
    for (key, value) in expected {
        assert_eq!(read_back.get(key), Some(value), "{key:?}");
    }
    assert_eq!(read_back.len(), expected.len());
}

#[test]
fn odd_words_read_back_as_themselves() {
    let words: Vec<String> = WORDS.iter().map(|word| (*word).to_owned()).collect();
    assert_reads_back(&words);
    for word in words {
        assert_reads_back(&[word]);
    }
}

/// Every word of up to three letters of those that numbers, times and booleans consist of, and every such number with a
/// few ends that turn it into something else.
#[test]
fn all_short_words_read_back_as_themselves() {
    let letters: Vec<char> = "0178+-._:~=<eEonOyNYxbfTZ a".chars().collect();
    let mut words = vec![String::new()];
    for _ in 0..3 {
        let longer =
            words.iter().flat_map(|word| letters.iter().map(move |c| format!("{word}{c}")));
        let mut longer: Vec<String> = longer.collect();
        longer.append(&mut words);
        longer.sort();
        longer.dedup();
        words = longer;
    }
    assert!(words.len() > 19_000, "{}", words.len());
    for chunk in words.chunks(4096) {
        assert_reads_back(chunk);
    }
    for end in ["0", "0.5", ":30", "e5", "_0", "Z", "-01-01"] {
        let words: Vec<String> =
            words.iter().filter(|word| word.len() < 3).map(|word| format!("{word}{end}")).collect();
        assert_reads_back(&words);
    }
}

/// Without the guard the test above fails: this reader sees what kubectl sees.
#[test]
fn the_reader_sees_what_a_writer_of_yaml_12_leaves_bare() {
    let read_bare = |word: &str| read(&format!("key: {word}\n"))[0]["key"].clone();
    for (word, meant) in
        [("on", json!(true)), ("n", json!(false)), ("~", Value::Null), ("9400", json!(9400))]
    {
        assert_eq!(read_bare(word), meant);
    }
    for word in ["1_000", "12:30", "017", "0o17", "2026-01-01", "1e3", "0b1", "="] {
        assert!(read_bare(word).is_object(), "{word}: {}", read_bare(word));
    }
    assert_eq!(read_bare("512Mi"), json!("512Mi"));
    assert_eq!(read("key: 'on'\n")[0]["key"], json!("on"));
}

/// Each object, read by YAML 1.1, is the typed object that it came from.
#[test]
fn every_object_survives_a_round_trip() {
    let flags: [&[&str]; 3] = [
        &[],
        &["--profile=privileged"],
        // Settings that YAML 1.1 would take for something else.
        &[
            "--model=y",
            "--tracer-log=off",
            "--target-process=1_000",
            "--aws-region=2026-01-01",
            "--vllm-args=on 12:30 0x1F",
            "--vllm-env=A=no B=017 C=",
            "--storage-class=1e3",
            "--gpu-memory-utilization=1",
        ],
    ];
    for flags in flags {
        let config = &config(flags);
        let typed = [
            serde_json::to_value(namespace::namespace(config)),
            serde_json::to_value(runtime_class::runtime_class(config)),
            serde_json::to_value(device_plugin::device_plugin(config)),
            serde_json::to_value(access::service_account(config)),
            serde_json::to_value(access::role(config)),
            serde_json::to_value(access::role_binding(config)),
            serde_json::to_value(config_map::config_map(config)),
            serde_json::to_value(storage::model_cache(config).unwrap()),
            serde_json::to_value(storage::traces(config)),
            serde_json::to_value(service::service(config)),
            serde_json::to_value(deployment(config)),
        ]
        .map(Result::unwrap);
        let documents = component::render(config, &Component::ALL).unwrap();
        let read_back = read(&yaml::join(&documents));
        assert_eq!(read_back.len(), typed.len());
        for (read_back, typed) in read_back.iter().zip(&typed) {
            assert!(read_back == typed, "{flags:?}:\n{read_back:#}\nshould be\n{typed:#}");
        }
    }
}
