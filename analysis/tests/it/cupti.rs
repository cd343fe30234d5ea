//! Kernels against CUPTI: seventeen steps of a vLLM on an H200, with a prefill, graphs and single
//! launches.

use std::collections::BTreeMap;

use analysis::{
    pass::{Moment, Window},
    questions::Name,
};
use serde::Deserialize;

use super::{ask, data};

/// What CUPTI saw: each launching call with the kernels that ran for it.
#[derive(Deserialize)]
struct Cupti {
    from_unix_ns: i64,
    to_unix_ns: i64,
    names: Vec<String>,
    launches: Vec<(String, Vec<usize>)>,
}

#[test]
fn kernels_and_their_counts_are_those_of_cupti() {
    let cupti: Cupti =
        serde_json::from_str(&std::fs::read_to_string(data("cupti-h200.json")).unwrap()).unwrap();
    let window = Window {
        from: Some(Moment::Unix(cupti.from_unix_ns)),
        to: Some(Moment::Unix(cupti.to_unix_ns)),
    };
    let answer = &ask(&[&data("vllm-h200.jsonl")], &[Name::Launches], &window)[0];

    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for kernel in cupti.launches.iter().flat_map(|(_, kernels)| kernels) {
        *expected.entry(plain(&cupti.names[*kernel])).or_default() += 1;
    }
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for row in answer["kernels"].as_array().unwrap() {
        if row["runs"] != 0 {
            let name = plain(row["full_name"].as_str().unwrap());
            *found.entry(name).or_default() += row["runs"].as_u64().unwrap();
        }
    }
    assert_eq!(found, expected);
    assert_eq!(expected.len(), cupti.names.len(), "names stay apart");

    let replays = cupti.launches.iter().filter(|(name, _)| name == "cudaGraphLaunch").count();
    let figures = &answer["figures"];
    assert_eq!(figures["replays"]["value"], replays);
    assert_eq!(figures["launches"]["value"], cupti.launches.len() - replays);
    assert_eq!(figures["kernels"]["grade"], "exact_within");
}

/// The sidecar that recorded the trace spelled names in its own way: types of numbers, parentheses and return types
/// within. A newer one spells them as CUPTI does.
fn plain(name: &str) -> String {
    let mut name =
        name.replace("void ", "").replace("(unsigned long)", "").replace("const ", "const");
    for digit in '0'..='9' {
        name = name.replace(&format!("{digit}ul"), &digit.to_string());
    }
    name.retain(|c| !" ()&".contains(c));
    name
}
