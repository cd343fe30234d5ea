//! `secrets`: values reach the cluster, and nothing else.

use crate::scripted::Machine;

const TOKEN: &str = "hf_secret_value";

#[test]
fn a_token_goes_over_stdin_and_shows_nowhere() {
    let machine = Machine::node();
    let run = machine.run_with(&["secrets"], &[("HF_TOKEN", " hf_secret_value\n")]);
    run.succeeds();
    let applied = std::fs::read_to_string(machine.path("state").join("applied")).unwrap();
    assert!(applied.contains(&format!("\"stringData\":{{\"token\":\"{TOKEN}\"}}")), "{applied}");
    for text in [&run.stdout, &run.stderr, &machine.calls().join("\n")] {
        assert!(!text.contains(TOKEN), "{text}");
    }
    machine.forget_calls();
    let again = machine.run_with(&["secrets"], &[("HF_TOKEN", TOKEN)]);
    again.succeeds();
    assert!(again.stderr.contains("ok      secret hf-token: there, with these values"));
    assert!(!machine.calls().iter().any(|call| call.contains("apply")));
}

#[test]
fn an_error_of_the_server_does_not_repeat_the_token() {
    let machine = Machine::node();
    machine.state("apply_error", "Error from server: admission webhook denied hf_secret_value\n");
    let run = machine.run_with(&["secrets"], &[("HF_TOKEN", TOKEN)]);
    assert_eq!(run.code, Some(1));
    assert!(!run.stderr.contains(TOKEN) && run.stderr.contains("denied"), "{}", run.stderr);
}

#[test]
fn aws_keys_come_from_the_environment_or_from_a_profile() {
    let machine = Machine::node();
    machine.state("aws_after", "AWS_ACCESS_KEY_ID=AKIA1\nAWS_SECRET_ACCESS_KEY=shhh\n");
    let keys = [("AWS_ACCESS_KEY_ID", "AKIA1"), ("AWS_SECRET_ACCESS_KEY", "shhh")];
    let run = machine.run_with(&["secrets", "--no-hf-token", "--aws"], &keys);
    run.succeeds();
    assert!(!run.stderr.contains("shhh"), "{}", run.stderr);
    let half = machine.run_with(&["secrets", "--no-hf-token", "--aws"], &keys[..1]);
    half.fails_with(&["AWS_SECRET_ACCESS_KEY is missing"]);
    machine
        .run(&["secrets", "--no-hf-token", "--aws"])
        .fails_with(&["no AWS keys", ".aws/credentials"]);
}

#[test]
fn without_a_token_the_ways_to_give_one_are_said() {
    let machine = Machine::node();
    machine.run(&["secrets"]).fails_with(&["HF_TOKEN", "--hf-token-file"]);
    assert!(!machine.calls().iter().any(|call| call.contains("apply")));
}
