//! `secrets`: values reach the cluster, and nothing else.

use crate::scripted::Machine;

const TOKEN: &str = "hf_secret_value";

#[test]
fn a_token_goes_over_stdin_and_shows_nowhere() {
    let machine = Machine::node();
    let run = machine.run_with(&["secrets"], &[("HF_TOKEN", " hf_secret_value\n")]);
    run.succeeds();
    let encoded = "aGZfc2VjcmV0X3ZhbHVl";
    let applied = machine.read("applied");
    assert!(applied.contains(&format!("\"data\":{{\"token\":\"{encoded}\"}}")), "{applied}");
    for text in [&run.stdout, &run.stderr, &machine.calls().join("\n")] {
        assert!(!text.contains(TOKEN) && !text.contains(encoded), "{text}");
    }
    machine.forget_calls();
    let again = machine.run_with(&["secrets"], &[("HF_TOKEN", TOKEN)]);
    again.succeeds();
    assert!(again.stderr.contains("ok      secret hf-token: there, with these values"));
    assert!(!machine.has_called("apply"));
    let other = machine.run_with(&["secrets"], &[("HF_TOKEN", "hf_other")]);
    other.succeeds();
    assert!(other.stderr.contains("change  secret hf-token: there, with other values"));
    assert!(other.stderr.contains("cargo xtask deploy --restart"), "{}", other.stderr);
}

#[test]
fn an_error_of_the_server_does_not_repeat_the_token() {
    let machine = Machine::node();
    let denied =
        "Error from server: admission webhook denied hf_secret_value, aGZfc2VjcmV0X3ZhbHVl\n";
    machine.state("apply_error", denied);
    let run = machine.run_with(&["secrets"], &[("HF_TOKEN", TOKEN)]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("webhook denied ***, ***"), "{}", run.stderr);
    assert!(!run.stderr.contains(TOKEN) && !run.stderr.contains("aGZf"), "{}", run.stderr);
}

#[test]
fn aws_keys_come_from_the_environment_or_from_a_profile() {
    let machine = Machine::node();
    let keys = [("AWS_ACCESS_KEY_ID", "AKIA1"), ("AWS_SECRET_ACCESS_KEY", "shhh")];
    let run = machine.run_with(&["secrets", "--no-hf-token", "--aws"], &keys);
    run.succeeds();
    assert!(!run.stderr.contains("shhh"), "{}", run.stderr);
    let half = machine.run_with(&["secrets", "--no-hf-token", "--aws"], &keys[..1]);
    half.fails_with(&["AWS_SECRET_ACCESS_KEY is missing"]);
    machine.run(&["secrets", "--no-hf-token", "--aws"]).fails_with(&[
        "there are no AWS keys",
        ".aws/credentials",
        "--aws-credentials-file",
    ]);
    machine
        .state("credentials", "[lab]\naws_access_key_id = AKIA2\naws_secret_access_key = hush\n");
    let file = machine.path("state").join("credentials");
    let of_file = ["--aws-credentials-file", file.to_str().unwrap(), "--aws-profile", "lab"];
    machine.run(&[&["secrets", "--no-hf-token", "--aws"], &of_file[..]].concat()).succeeds();
    let stored = "AWS_ACCESS_KEY_ID=\"AKIA2\"\nAWS_SECRET_ACCESS_KEY=\"hush\"\n";
    assert_eq!(machine.read("stored-aws-credentials"), stored);
}

/// A session token that is stored beside lasting keys would make them invalid.
#[test]
fn a_key_that_is_not_given_any_more_is_not_kept() {
    let machine = Machine::node();
    let keys = [
        ("AWS_ACCESS_KEY_ID", "ASIA1"),
        ("AWS_SECRET_ACCESS_KEY", "shhh"),
        ("AWS_SESSION_TOKEN", "temporary"),
    ];
    let secrets = ["secrets", "--no-hf-token", "--aws"];
    machine.run_with(&secrets, &keys).succeeds();
    assert!(machine.read("stored-aws-credentials").contains("temporary"));
    machine.run_with(&secrets, &keys[..2]).succeeds();
    assert!(!machine.read("stored-aws-credentials").contains("AWS_SESSION_TOKEN"));
    // `stringData` would leave it there, which no script here can show.
    assert!(!machine.read("applied").contains("stringData"));
}

#[test]
fn without_a_token_the_ways_to_give_one_are_said() {
    let machine = Machine::node();
    machine.run(&["secrets"]).fails_with(&[
        "there is no Hugging Face token",
        "set HF_TOKEN",
        "--hf-token-file",
    ]);
    assert!(!machine.has_called("apply"));
}

const ID: &str = "aws_access_key_id = AKIA2\naws_secret_access_key = hush\n";
const AWS: [&str; 3] = ["secrets", "--no-hf-token", "--aws"];

#[test]
fn a_profile_is_read_where_the_sdk_reads_it() {
    let stored = "AWS_ACCESS_KEY_ID=\"AKIA2\"\nAWS_SECRET_ACCESS_KEY=\"hush\"\n";
    // The file, what is in it, and the variables.
    for (file, content, variables) in [
        ("home/.aws/credentials", format!("[default]\n{ID}"), &[][..]),
        ("home/.aws/credentials", format!("\u{feff}[ default ] # mine\r\n{ID}"), &[]),
        ("home/.aws/config", format!("[default]\n{ID}"), &[]),
        ("home/.aws/config", format!("[profile lab]\n{ID}"), &[("AWS_PROFILE", "lab")]),
        ("home/.aws/credentials", format!("[lab]\n{ID}"), &[("AWS_PROFILE", "lab")]),
        ("elsewhere", format!("[default]\n{ID}"), &[("AWS_SHARED_CREDENTIALS_FILE", "elsewhere")]),
        ("elsewhere", format!("[profile default]\n{ID}"), &[("AWS_CONFIG_FILE", "elsewhere")]),
    ] {
        let machine = Machine::node();
        let path = machine.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &content).unwrap();
        let path = path.display().to_string();
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|&(name, value)| (name, if value == "elsewhere" { &path } else { value }))
            .collect();
        let run = machine.run_with(&AWS, &variables);
        run.succeeds();
        assert_eq!(machine.read("stored-aws-credentials"), stored, "{file}: {content}");
        assert!(!run.stderr.contains("hush"), "{}", run.stderr);
    }
}

#[test]
fn a_profile_without_keys_is_named_with_the_way_out() {
    for (content, how) in [
        ("[default]\nsso_session = x\n", "signs in by IAM Identity Center (SSO) (sso_session"),
        ("[default]\nsso_start_url = x\n", "signs in by IAM Identity Center (SSO)"),
        ("[default]\nrole_arn = x\nsource_profile = base\n", "assumes a role (role_arn"),
        ("[default]\ncredential_process = /bin/x hush\n", "asks a program (credential_process"),
    ] {
        let machine = Machine::node();
        let path = machine.path("home/.aws/config");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let run = machine.run(&AWS);
        run.fails_with(&[
            "the profile \"default\" has no keys that could be stored",
            how,
            ".aws/config",
            "aws configure export-credentials --profile default",
        ]);
        assert!(!machine.has_called("apply") && !run.stderr.contains("hush"), "{}", run.stderr);
    }
    let machine = Machine::node();
    machine.run_with(&AWS, &[("AWS_PROFILE", "lab")]).fails_with(&[
        "no profile \"lab\" is in ",
        ".aws/credentials",
        "--aws-profile",
    ]);
}
