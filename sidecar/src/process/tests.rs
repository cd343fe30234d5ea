use super::*;

/// Above any real pid of this machine's namespace while the test runs.
const GONE: u32 = 4_000_001;

fn identity(executable: &str, command: &str, comm: &str) -> Identity {
    Identity {
        executable: Some(executable.into()),
        command: Some(command.to_owned()),
        comm: Some(comm.to_owned()),
    }
}

fn processes_that_match_this_test() -> Processes {
    let executable = std::env::current_exe().unwrap();
    Processes::new(executable.file_name().unwrap().to_str().unwrap())
}

#[test]
fn executable_comm_and_command_match_in_this_order() {
    let engine = identity("/usr/bin/python3.12", "VLLM::EngineCore", "VLLM::EngineCor");
    assert_eq!(matches("python", &engine), Some(MatchedBy::Executable));
    assert_eq!(matches("VLLM", &engine), Some(MatchedBy::Comm));
    assert_eq!(matches("EngineCore", &engine), Some(MatchedBy::Command));
    assert_eq!(matches("vllm serve", &engine), None);
}

#[test]
fn what_a_target_forks_is_a_target_and_so_is_what_that_forks() {
    let own = std::process::id();
    let mut processes = processes_that_match_this_test();
    assert_eq!(processes.known(own).verdict, Verdict::Target(MatchedBy::Executable));
    processes.forked(GONE, own);
    assert_eq!(processes.known(GONE).verdict, Verdict::Target(MatchedBy::Ancestor));
    processes.forked(GONE + 1, GONE);
    assert_eq!(processes.known(GONE + 1).verdict, Verdict::Target(MatchedBy::Ancestor));
}

#[test]
fn a_stranger_is_foreign() {
    let mut processes = Processes::new("no process is called like this");
    assert_eq!(processes.known(std::process::id()).verdict, Verdict::Foreign);
}

#[test]
fn a_name_is_enough_for_a_program_that_ended_at_once() {
    let mut processes = Processes::new("python");
    processes.executed(GONE, "python3", true);
    assert_eq!(processes.known(GONE).verdict, Verdict::Target(MatchedBy::Comm));
}

#[test]
fn a_caller_that_is_gone_is_kept_rather_than_lost() {
    let mut processes = Processes::new("python");
    processes.executed(GONE, "something", true);
    assert!(!processes.is_target(GONE), "doubt is for callers of CUDA only");
    let known = processes.known(GONE);
    assert_eq!(known.verdict, Verdict::Target(MatchedBy::Unexamined));
    assert_eq!(known.identity.comm.as_deref(), Some("something"));
}

#[test]
fn doubt_is_not_inherited() {
    let mut processes = Processes::new("python");
    assert_eq!(processes.known(GONE).verdict, Verdict::Target(MatchedBy::Unexamined));
    processes.forked(GONE + 1, GONE);
    assert!(!processes.is_target(GONE + 1));
}

#[test]
fn an_ended_process_is_remembered_for_a_while_and_then_forgotten() {
    let mut processes = Processes::new("python");
    processes.executed(GONE, "python3", true);
    processes.exited(GONE);
    processes.forget_exited(Duration::from_secs(60));
    assert!(processes.is_target(GONE));
    processes.forget_exited(Duration::ZERO);
    assert!(processes.get(GONE).is_none());
}

#[test]
fn a_reused_pid_does_not_inherit_from_the_process_before_it() {
    let mut processes = processes_that_match_this_test();
    processes.forked(GONE, std::process::id());
    assert!(processes.is_target(GONE));
    processes.exited(GONE);
    processes.forked(GONE, 1);
    assert!(!processes.is_target(GONE));
}

#[test]
fn after_lost_events_what_is_gone_is_found() {
    let mut processes = processes_that_match_this_test();
    let own = std::process::id();
    processes.examine(own);
    processes.forked(GONE, own);
    assert_eq!(processes.find_exited(), [GONE]);
    assert_eq!(processes.targets(), [own]);
}
