//! Secrets that people put where they should not: what tasks print, and what other users of the
//! machine see of the programs that they run, has none of them.

use crate::scripted::Machine;

const SECRETS: [&str; 5] = [
    "AKIAPLANTEDPLANTED12",
    "planted-secret-key",
    "planted-session",
    "hf_plantedplantedplanted",
    "pl4nted",
];

/// Each through every door that a setting has.
const ENVIRONMENT: &str = "AWS_SESSION_TOKEN=planted-session X_TOKEN=hf_plantedplantedplanted \
     Y_KEY=planted-secret-key Z=AKIAPLANTEDPLANTED12 HTTPS_PROXY=http://me:pl4nted@proxy:3128";

#[track_caller]
fn assert_clean(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} has {secret}:\n{text}");
    }
}

#[test]
fn settings_show_no_secrets_in_output_errors_dry_runs_and_arguments() {
    let deploy = ["deploy", "--no-wait", "--tracer-image", "a/b:1", "--s3-bucket", "traces"];
    let joined = format!("--tracer-env={ENVIRONMENT}");
    let arguments = [
        vec!["--tracer-env", ENVIRONMENT, "--vllm-env", ENVIRONMENT],
        vec![&joined, "--vllm-args", "--hf-token hf_plantedplantedplanted"],
        vec![],
    ];
    for more in arguments {
        for dry_run in [&[][..], &["--dry-run"]] {
            let machine = Machine::node();
            let variables = [("TRACER_ENV", ENVIRONMENT), ("VLLM_ENV", ENVIRONMENT)];
            let variables = if more.is_empty() { &variables[..] } else { &[] };
            let run = machine.run_with(&[dry_run, &deploy, &more].concat(), variables);
            run.succeeds();
            assert_clean("stdout", &run.stdout);
            assert_clean("stderr", &run.stderr);
            assert_clean("the arguments of programs", &machine.calls().join("\n"));
        }
    }
    // With a flag of the task behind them too.
    let machine = Machine::node();
    let run = machine.run(&[&deploy[..], &[&joined, "--dry-run"]].concat());
    run.succeeds();
    assert_clean("stderr", &run.stderr);
    assert!(!machine.has_called(" apply "), "{:?}", machine.calls());
}

#[test]
fn a_program_that_fails_does_not_repeat_them_either() {
    let machine = Machine::node();
    let script = include_str!("scripted/cargo.sh");
    machine.tool("cargo", &format!("case \"$*\" in *manifests*) echo \"error: TRACER_ENV is $TRACER_ENV\" >&2; exit 1 ;; esac\n{script}"));
    let run =
        machine.run(&["deploy", "--no-wait", "--s3-bucket", "b", "--tracer-env", ENVIRONMENT]);
    assert_eq!(run.code, Some(1));
    assert_clean("stderr", &run.stderr);
}
