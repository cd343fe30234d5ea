use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::*;
use crate::time_limit;

/// Above any real pid of this machine's namespace while the test runs.
const GONE: u32 = 4_000_001;

fn identity(executable: &str, command: &str, comm: &str) -> Identity {
    Identity {
        executable: Some(executable.into()),
        command: Some(command.to_owned()),
        comm: Some(comm.to_owned()),
        is_command_unread: false,
    }
}

/// A process whose memory does not answer, until what is returned is dropped.
fn let_hang(child: &Child) -> std::sync::mpsc::Sender<()> {
    let (answer, waits) = std::sync::mpsc::channel();
    let hung = time_limit::run(child.id(), "test", Duration::from_millis(1), move || waits.recv());
    assert_eq!(hung, None);
    answer
}

fn processes_that_match_this_test() -> Processes {
    let executable = std::env::current_exe().unwrap();
    Processes::new(executable.file_name().unwrap().to_str().unwrap())
}

/// A shell that becomes `cat` when it is given a line.
fn shell_that_becomes_cat() -> Child {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read line; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn executable_of(child: &Child) -> Option<PathBuf> {
    std::fs::read_link(Path::new("/proc").join(child.id().to_string()).join("exe")).ok()
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

/// Its calls would be dropped in the kernel, and nobody would know.
#[test]
fn a_process_that_does_not_answer_is_kept_and_asked_again_until_it_does() {
    let mut child = shell_that_becomes_cat();
    let pid = child.id();
    wait_until("its arguments can be read", || !arguments(pid).is_empty());
    let answer = let_hang(&child);
    let mut processes = Processes::new("read line; exec");
    assert_eq!(processes.known(pid).verdict, Verdict::Target(MatchedBy::Unread));
    assert!(processes.is_unfinished(pid), "to be looked at again");
    processes.forked(GONE, pid);
    assert!(!processes.is_target(GONE), "doubt is not inherited");
    let mut strangers = Processes::new("no process is called like this");
    assert_eq!(strangers.known(pid).verdict, Verdict::Target(MatchedBy::Unread));
    drop(answer);
    wait_until("it is read", || !processes.known(pid).verdict.is_open());
    let verdicts = [&mut processes, &mut strangers].map(|seen| seen.known(pid).verdict);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(verdicts, [Verdict::Target(MatchedBy::Command), Verdict::Foreign]);
}

#[test]
fn a_process_below_one_that_does_not_answer_is_kept_too() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "sleep 60 & echo $!; read line; kill $!"]);
    let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut below = String::new();
    let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut below).unwrap();
    let below = below.trim().parse().unwrap();
    wait_until("it executes sleep", || arguments(below).starts_with(b"sleep"));
    let answer = let_hang(&shell);
    let verdict = Processes::new("no process is called like this").known(below).verdict;
    drop(answer);
    drop(shell.stdin.take());
    shell.wait().unwrap();
    assert_eq!(verdict, Verdict::Target(MatchedBy::Unread));
}

#[test]
fn a_target_that_was_left_out_before_says_since_when_it_is_one() {
    let mut child = shell_that_becomes_cat();
    let pid = child.id();
    wait_until("its arguments can be read", || !arguments(pid).is_empty());
    let mut processes = Processes::new("no process is called like this");
    assert_eq!(processes.known(pid).verdict, Verdict::Foreign);
    assert_eq!(processes.late_ns(pid), None);
    // As if it had taken this title since; the recorder sees it first.
    processes.target = "read line; exec".to_owned();
    let before_ns = clock::monotonic_ns();
    assert!(processes.known(pid).verdict.is_target());
    let late_ns = processes.late_ns(pid);
    assert!(late_ns.is_some_and(|late_ns| late_ns >= before_ns));
    processes.examine(pid);
    assert_eq!(processes.late_ns(pid), late_ns, "once");
    assert_eq!([processes.take_late(), processes.take_late()], [vec![pid], vec![]]);
    // The kernel leaves nothing of another program out.
    processes.executed(pid, "cat", true);
    assert_eq!(processes.late_ns(pid), None);
    drop(child.stdin.take());
    child.wait().unwrap();
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
fn a_stranger_that_calls_may_have_executed_something_that_nobody_has_told_of_yet() {
    let mut child = shell_that_becomes_cat();
    let mut processes = Processes::new("/cat");
    wait_until("its arguments can be read", || {
        processes.examine(child.id());
        !processes.is_unfinished(child.id())
    });
    assert!(!processes.is_target(child.id()));
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    wait_until("the shell executes cat", || {
        executable_of(&child).is_some_and(|path| path.ends_with("cat"))
    });
    let verdict = processes.known(child.id()).verdict;
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(verdict, Verdict::Target(MatchedBy::Executable));
}

/// The kernel has told of the fork, not yet of the program; and nobody has waited for the process.
#[test]
fn a_zombie_is_judged_by_its_own_name_and_not_by_what_forked_it() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    wait_until("it ends", || executable_of(&child).is_none());
    let known_of = |target: &str| {
        let mut processes = Processes::new(target);
        processes.forked(pid, std::process::id());
        processes.known(pid)
    };
    let (by_name, by_doubt) = (known_of("true"), known_of("no process is called like this"));
    child.wait().unwrap();
    assert_eq!(by_name.verdict, Verdict::Target(MatchedBy::Comm));
    assert_eq!(by_name.identity.executable, None, "that of its parent is not its own");
    assert_eq!(by_doubt.verdict, Verdict::Target(MatchedBy::Unexamined));
}

#[test]
fn of_a_stranger_that_is_gone_doubt_remains_until_its_end_is_heard_of() {
    let mut child = shell_that_becomes_cat();
    let pid = child.id();
    let mut processes = Processes::new("no process is called like this");
    wait_until("its arguments can be read", || {
        processes.examine(pid);
        !processes.is_unfinished(pid)
    });
    drop(child.stdin.take());
    child.wait().unwrap();
    let mut heard = Processes { known: processes.known.clone(), ..Processes::new("") };
    heard.exited(pid);
    assert_eq!(heard.known(pid).verdict, Verdict::Foreign);
    assert_eq!(processes.known(pid).verdict, Verdict::Target(MatchedBy::Unexamined));
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

#[test]
fn what_a_process_forks_shares_what_is_known_of_its_parent() {
    let mut processes = processes_that_match_this_test();
    let own = std::process::id();
    processes.examine(own);
    processes.forked(GONE, own);
    let [parent, child] = [own, GONE].map(|pid| Arc::clone(&processes.get(pid).unwrap().identity));
    assert!(Arc::ptr_eq(&parent, &child));
}

#[test]
fn a_target_is_told_by_the_whole_of_what_was_read_although_only_the_beginning_is_kept() {
    let padding = "x".repeat(10_000);
    let script = "read line; exit";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, &padding, "the-word"]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pid = child.id();
    let mut processes = Processes::new("the-word");
    wait_until("its arguments can be read", || {
        processes.examine(pid);
        processes.is_target(pid)
    });
    let known = processes.known(pid);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(known.verdict, Verdict::Target(MatchedBy::Command));
    let kept = known.identity.command.clone().unwrap();
    assert!(kept.starts_with("/bin/sh -c read") && kept.ends_with("xx..."), "{kept}");
    assert!(kept.len() < padding.len() / 2);
}

#[test]
fn ended_processes_are_bounded_and_the_first_to_end_is_the_first_to_be_forgotten() {
    let mut processes = Processes::new("python");
    let all = u32::try_from(MAX_EXITED).unwrap() + 10;
    // Living ones, also under a pid that has ended before, are not among them.
    processes.forked(GONE, 1);
    processes.exited(GONE);
    processes.forked(GONE, 1);
    for pid in GONE + 1..=GONE + all {
        processes.executed(pid, "python3", true);
    }
    assert!(processes.get(GONE).is_some(), "it lives");
    assert!(processes.get(GONE + 1).is_none());
    assert!(processes.is_target(GONE + all));
    // And its parent.
    assert_eq!(processes.known.len(), MAX_EXITED + 2);
    processes.forget_exited(Duration::ZERO);
    assert!(processes.ended.is_empty());
    assert_eq!(processes.known.len(), 2);
}
