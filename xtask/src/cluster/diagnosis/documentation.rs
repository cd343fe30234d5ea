//! The tables of `docs/troubleshooting.md` say what the code says.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tasks::{
    advice::{Advice, Rules, commands, logs, of_output, of_tracer_log, of_vllm_log},
    ctx::workspace_root,
};

use crate::cluster::{
    diagnosis::{Finding, diagnose, of_secrets, of_tracer},
    observe::Snapshot,
    stopping::{Does, Stopping},
    tracer::{Failing, Status, Uploads},
};
use settings::names::{
    DEPLOYMENT, RUNTIME_CLASS, SECRETS_ANNOTATION, TRACER_CONTAINER, VLLM_CONTAINER,
};

/// A row; marks of code are taken out, here and from what the code says.
struct Row {
    /// What is seen; each is explained by the rest of the row.
    signs: Vec<String>,
    cause: String,
    next: String,
}

fn plain(text: &str) -> String {
    text.replace('`', "")
}

/// Rows of the table below a heading; in the first cell `;` stands between signs.
fn rows(heading: &str) -> Vec<Row> {
    let document = fs::read_to_string(workspace_root().join("docs/troubleshooting.md")).unwrap();
    let start = format!("\n## {heading}\n");
    let section = document.split_once(&start).unwrap_or_else(|| panic!("no {heading:?}")).1;
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<Row> = section.lines().filter(|line| line.starts_with("| `")).map(row).collect();
    assert!(!rows.is_empty(), "{heading:?} has no rows");
    rows
}

fn row(line: &str) -> Row {
    // A bar inside a cell is written with a backslash.
    let line = plain(line).replace(r"\|", "\0");
    let cells: Vec<String> =
        line.split('|').map(|cell| cell.replace('\0', "|").trim().to_owned()).collect();
    let [_, signs, cause, next, _] = &cells[..] else { panic!("not three cells: {line}") };
    let signs = signs.split("; ").map(str::to_owned).collect();
    Row { signs, cause: cause.clone(), next: next.clone() }
}

fn holds(heading: &str, rules: Rules, find: impl Fn(&str) -> Option<Advice>) {
    let rows = rows(heading);
    for Row { signs, cause, next } in &rows {
        for sign in signs {
            let advice = find(sign).unwrap_or_else(|| panic!("the code does not know {sign:?}"));
            assert_eq!([plain(advice.cause), plain(advice.next)], [&cause[..], next], "{sign}");
        }
    }
    let has_row = |needles: &[&str]| {
        let mut signs = rows.iter().flat_map(|row| &row.signs).map(|sign| sign.to_lowercase());
        signs.any(|sign| needles.iter().all(|needle| sign.contains(needle)))
    };
    let missing: Vec<String> = rules
        .iter()
        .filter(|(needles, _)| !has_row(needles))
        .map(|(needles, advice)| {
            let next = advice.next.replace('|', r"\|");
            format!("| `{}` | {} | {next} |", needles.join("` … `"), advice.cause)
        })
        .collect();
    let missing = missing.join("\n");
    assert!(missing.is_empty(), "docs/troubleshooting.md lacks below {heading:?}:\n{missing}");
}

#[test]
fn what_commands_say_is_explained() {
    holds("What a command says", commands::RULES, of_output);
}

#[test]
fn what_vllm_logs_is_explained() {
    holds("What vLLM logs", logs::VLLM, |log| of_vllm_log(log).map(|(advice, _)| advice));
}

#[test]
fn what_the_tracer_logs_is_explained() {
    holds("What the tracer logs", logs::TRACER, |log| of_tracer_log(log).map(|(advice, _)| advice));
}

/// Every place where Kubernetes may say it.
fn snapshots(sign: &str) -> Vec<Snapshot> {
    let reason = sign.split([':', ',', ' ']).next().unwrap();
    let snapshot = |pod: Option<Value>, event: Option<[&str; 3]>| {
        let events = event.map(|[reason, kind, name]| {
            json!({ "reason": reason, "message": sign, "involvedObject": { "kind": kind, "name": name } })
        });
        // What is wrong with a pod counts once the deployment has made one.
        let deployment = json!({
            "metadata": { "name": DEPLOYMENT },
            "status": { "updatedReplicas": u32::from(pod.is_some()) },
        });
        let claim = json!({ "metadata": { "name": "claim" }, "status": { "phase": "Pending" } });
        Snapshot {
            deployment: Some(serde_json::from_value(deployment).unwrap()),
            pods: pod.into_iter().map(|pod| serde_json::from_value(pod).unwrap()).collect(),
            replica_set: Some(
                serde_json::from_value(json!({
                    "metadata": { "name": "set" },
                    "status": { "conditions": [{ "type": "ReplicaFailure", "status": "True" }] },
                }))
                .unwrap(),
            ),
            claims: vec![serde_json::from_value(claim).unwrap()],
            events: events.into_iter().map(|one| serde_json::from_value(one).unwrap()).collect(),
            ..Snapshot::default()
        }
    };
    let pod = |status: Value| Some(json!({ "metadata": { "name": "pod" }, "status": status }));
    let unschedulable = json!({ "conditions": [
        { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": sign }
    ]});
    let stopping = Stopping {
        pod: "pod".to_owned(),
        since: Duration::ZERO,
        left: Duration::ZERO,
        does: Does::Vllm,
    };
    let mut all = vec![
        Snapshot::default(),
        Snapshot { stopping: vec![stopping], ..Snapshot::default() },
        snapshot(None, Some(["FailedCreate", "ReplicaSet", "set"])),
        snapshot(pod(json!({})), Some(["FailedCreatePodSandBox", "Pod", "pod"])),
        snapshot(pod(json!({})), Some(["FailedMount", "Pod", "pod"])),
        snapshot(pod(json!({})), Some(["ProvisioningFailed", "PersistentVolumeClaim", "claim"])),
        snapshot(pod(unschedulable), None),
        snapshot(pod(json!({ "reason": reason, "message": sign })), None),
    ];
    // As in `Error, exit code 137`.
    let exit_code = sign.rsplit_once("exit code ").map_or(1, |(_, code)| code.parse().unwrap());
    for container in [VLLM_CONTAINER, TRACER_CONTAINER] {
        let waits = json!([{ "name": container, "image": "IMAGE",
            "state": { "waiting": { "reason": reason, "message": sign } } }]);
        let ended = json!([{ "name": container,
            "lastState": { "terminated": { "reason": reason, "exitCode": exit_code } } }]);
        all.push(snapshot(pod(json!({ "containerStatuses": waits })), None));
        all.push(snapshot(
            pod(json!({ "containerStatuses": &ended })),
            Some(["Unhealthy", "Pod", "pod"]),
        ));
        let mut logged = snapshot(pod(json!({ "containerStatuses": ended })), None);
        logged.logs.insert(container.to_owned(), "RuntimeError: odd".to_owned());
        all.push(logged);
        let killed = json!([{ "name": container,
            "lastState": { "terminated": { "reason": "Error", "exitCode": 137 } } }]);
        all.push(snapshot(
            pod(json!({ "containerStatuses": killed })),
            Some(["Killing", "Pod", "pod"]),
        ));
    }
    all
}

/// All that the tracer's own answer, or the pod's secrets, can be a reason for.
fn of_the_tracer() -> Vec<Finding> {
    let answer = |change: &dyn Fn(&mut Status)| {
        let mut status = Status::default();
        change(&mut status);
        of_tracer(&Ok(status))
    };
    let failing = |status: &mut Status| {
        let failing = Some(Failing { since: "x".to_owned(), error: "odd".to_owned() });
        status.uploads = Some(Uploads { failing, ..Uploads::default() });
    };
    let pod = json!({ "metadata": { "annotations": { SECRETS_ANNOTATION: "old" } } });
    let deployment = json!({ "status": { "updatedReplicas": 1 } });
    let snapshot = Snapshot {
        deployment: Some(serde_json::from_value(deployment).unwrap()),
        pods: vec![serde_json::from_value(pod).unwrap()],
        ..Snapshot::default()
    };
    [
        of_tracer(&Err("it hangs".to_owned())),
        answer(&|status| status.phase = "failed".to_owned()),
        answer(&|status| status.segments.is_paused = true),
        answer(&|status| {
            failing(status);
            status.segments.is_paused = true;
        }),
        answer(&|status| status.calls.dropped_at_disk = 1),
        answer(&|status| status.calls.dropped_at_ring = 1),
        of_secrets(&snapshot, Some("new")).into_iter().collect(),
    ]
    .concat()
}

#[test]
fn what_kubernetes_says_of_the_pod_is_explained() {
    let rows = rows("What Kubernetes says of the pod");
    for Row { signs, cause, next } in &rows {
        for sign in signs {
            let findings: Vec<[String; 2]> = snapshots(sign)
                .iter()
                .flat_map(diagnose)
                .chain(of_the_tracer())
                .map(|finding| [plain(&finding.cause), plain(&finding.next)])
                .collect();
            let found = findings.contains(&[cause.clone(), next.clone()]);
            assert!(found, "{sign}: the code says none of {cause:?}, {next:?}, but {findings:#?}");
        }
    }
    let documented: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {}", row.signs.concat(), row.cause, row.next))
        .collect();
    let sentences = literals(&workspace_root().join("xtask/src/cluster/diagnosis"));
    let missing: Vec<&String> = sentences
        .iter()
        .filter(|text| text.matches(' ').count() > 1 && !text.contains('{'))
        .filter(|text| !documented.iter().any(|row| row.contains(&plain(text))))
        .collect();
    assert!(missing.is_empty(), "in no row of docs/troubleshooting.md: {missing:#?}");
}

#[test]
fn what_installing_and_waiting_say_is_the_code_s_own() {
    let said = literals(&workspace_root().join("xtask/src"));
    let said: Vec<String> =
        said.into_iter().map(|text| text.replace("{RUNTIME_CLASS}", RUNTIME_CLASS)).collect();
    for Row { cause, next, .. } in rows("What `install`, `build` and `deploy` say") {
        for text in [cause, next] {
            assert!(said.iter().any(|one| plain(one).contains(&text)), "no task says {text:?}");
        }
    }
    for Row { signs, .. } in rows("What `verify` finds") {
        assert!(said.contains(&signs[0]), "no check has the name {:?}", signs[0]);
    }
}

/// The string literals in the sources below a directory, without those of tests.
fn literals(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut literals(&path));
        } else if !path.ends_with("tests.rs") && !path.ends_with("diagnosis/documentation.rs") {
            let source = fs::read_to_string(&path).unwrap();
            found.append(&mut literals_of(source.split("#[cfg(test)]").next().unwrap()));
        }
    }
    found
}

fn literals_of(source: &str) -> Vec<String> {
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    let mut chars = code.replace("'\"'", "").chars().collect::<Vec<_>>().into_iter().peekable();
    while chars.any(|c| c == '"') {
        let mut literal = String::new();
        while let Some(c) = chars.next().filter(|&c| c != '"') {
            match (c, chars.peek()) {
                ('\\', Some('\n')) => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                ('\\', Some(_)) => literal.extend(chars.next()),
                _ => literal.push(c),
            }
        }
        found.push(literal);
    }
    found
}
