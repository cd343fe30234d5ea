use std::sync::Arc;

use super::*;

fn title(command: &str, comm: &str) -> Option<(&'static str, Vec<(String, u32)>)> {
    let identity = Identity {
        command: Some(command.to_owned()),
        comm: Some(comm.to_owned()),
        ..Identity::default()
    };
    let (kind, ranks) = of_title(&identity)?;
    let role = Role { kind, ranks, by: RoleBy::Title };
    Some((role.name(), role.ranks.into_iter().collect()))
}

fn ranks<const N: usize>(ranks: [(&str, u32); N]) -> Vec<(String, u32)> {
    ranks.map(|(label, rank)| (label.to_owned(), rank)).into()
}

#[test]
fn titles_of_vllm_have_a_role_and_ranks() {
    for (text, role, expected) in [
        ("VLLM::EngineCore", "engine_core", ranks([])),
        ("VLLM::EngineCore_DP1", "engine_core", ranks([("dp", 1)])),
        ("VLLM::EngineCoreProc_0", "engine_core", ranks([("dp", 0)])),
        ("VLLM::DPEngineCore_3", "engine_core", ranks([("dp", 3)])),
        ("VLLM::APIServer_2", "api_server", ranks([("server", 2)])),
        ("VLLM::Worker", "worker", ranks([])),
        ("VLLM::Worker_TP0", "worker", ranks([("tp", 0)])),
        ("VLLM::Worker_PP0_TP1", "worker", ranks([("pp", 0), ("tp", 1)])),
        ("VLLM::Worker_TP0_EP0", "worker", ranks([("ep", 0), ("tp", 0)])),
        ("VLLM::Worker_TP3_DP0", "worker", ranks([("dp", 0), ("tp", 3)])),
        (
            "VLLM::Worker_DP0_PP1_PCP0_TP12_DCP0_EP3",
            "worker",
            ranks([("dcp", 0), ("dp", 0), ("ep", 3), ("pcp", 0), ("pp", 1), ("tp", 12)]),
        ),
        ("mine::Worker_TP0", "worker", ranks([("tp", 0)])),
    ] {
        assert_eq!(title(text, "x"), Some((role, expected)), "{text}");
    }
}

#[test]
fn other_titles_have_none() {
    for text in [
        "ray::Worker",
        "ray::IDLE",
        "VLLM::DPCoordinator",
        "VLLM::Worker_x",
        "VLLM::Workers_TP0",
        "::EngineCore",
        "python3 -c print('VLLM::EngineCore')",
        "/opt/VLLM::EngineCore",
        "c++filt std::Worker_TP0",
    ] {
        assert_eq!(title(text, "x"), None, "{text}");
    }
}

#[test]
fn a_comm_tells_what_its_fifteen_bytes_are_enough_for() {
    let of_comm = |comm| title("python3 -c from multiprocessing.spawn import spawn_main", comm);
    assert_eq!(of_comm("VLLM::EngineCor"), Some(("engine_core", ranks([]))));
    assert_eq!(of_comm("V::EngineCore"), Some(("engine_core", ranks([]))));
    assert_eq!(of_comm("VLLM::APIServer"), Some(("api_server", ranks([]))));
    // VLLM::Worker_TP0 and VLLM::Worker_PP0_TP1.
    assert_eq!(of_comm("VLLM::Worker_TP"), Some(("worker", ranks([]))));
    assert_eq!(of_comm("VLLM::Worker_PP"), Some(("worker", ranks([]))));
    // V::Worker_TP1_EP10: the second number may go on.
    assert_eq!(of_comm("V::Worker_TP1_E"), Some(("worker", ranks([("tp", 1)]))));
    assert_eq!(of_comm("A_LONG::EngineC"), None);
    assert_eq!(of_comm("VLLM::EngineCo"), None, "that is a whole title, and not vLLM's");
    // The command line has all of it.
    assert_eq!(title("VLLM::Worker_TP1", "VLLM::Worker_TP"), Some(("worker", ranks([("tp", 1)]))));
}

#[test]
fn an_api_server_is_what_runs_vllms_entry_point() {
    for command in [
        "python3 -m vllm.entrypoints.openai.api_server --model m",
        "/usr/bin/python3.12 -O -X dev -m vllm.entrypoints.api_server",
        "/opt/venv/bin/python3 /opt/venv/bin/vllm serve m --port 1",
        "vllm serve m",
        "python -m vllm.entrypoints.cli.main serve m",
    ] {
        assert!(runs_api_server(command), "{command}");
    }
    for command in [
        "sh -c python3 -m vllm.entrypoints.openai.api_server",
        "timeout 9 vllm serve m",
        "vllm bench serve --model m",
        "vllm chat",
        "python3 -m vllm.entrypoints.openai.run_batch -i x",
        "python3 benchmark.py vllm serve",
        "python3 -c from multiprocessing.spawn import spawn_main; vllm serve",
        "python3",
        "",
    ] {
        assert!(!runs_api_server(command), "{command}");
    }
}

/// A process of a command line, maybe with kernels launched.
fn process(command: &str, has_launched: bool) -> Known {
    let command = Some(command.to_owned());
    Known {
        identity: Arc::new(Identity { command, ..Identity::default() }),
        has_launched,
        ..Known::default()
    }
}

fn with_role(mut known: Known, parent: Option<&Known>, grandparent: Option<&Known>) -> Known {
    known.role = Role::of(4_000_001, &known, parent, grandparent, |_| false);
    known
}

fn told(known: &Known) -> Option<(&'static str, &'static str)> {
    known.role.as_ref().map(|role| (role.name(), role.by.as_str()))
}

const SERVE: &str = "python3 -m vllm.entrypoints.openai.api_server";
const SPAWNED: &str = "python3 -c from multiprocessing.spawn import spawn_main; spawn_main()";

#[test]
fn what_launches_kernels_below_an_api_server_is_its_engine_or_a_worker() {
    let server = with_role(process(SERVE, false), None, None);
    assert_eq!(told(&server), Some(("api_server", "command")));
    let idle = with_role(process(SPAWNED, false), Some(&server), None);
    assert_eq!(told(&idle), None, "it may be anything yet");
    let engine = with_role(process(SPAWNED, true), Some(&server), None);
    assert_eq!(told(&engine), Some(("engine_core", "behaviour")));
    let worker = with_role(process(SPAWNED, true), Some(&idle), Some(&server));
    assert_eq!(told(&worker), Some(("worker", "behaviour")));
    let titled = with_role(process("VLLM::EngineCore", false), Some(&server), None);
    assert_eq!(told(&titled), Some(("engine_core", "title")));
    let worker = with_role(process(SPAWNED, true), Some(&titled), Some(&server));
    assert_eq!(told(&worker), Some(("worker", "behaviour")));
    let helper = with_role(process(SPAWNED, true), Some(&engine), Some(&server));
    assert_eq!(told(&helper), None, "its parent computes itself, so it has no workers");
}

#[test]
fn a_fork_is_not_what_its_parents_command_line_says() {
    let server = with_role(process(SERVE, false), None, None);
    assert_eq!(told(&with_role(process(SERVE, false), Some(&server), None)), None);
    let engine = with_role(process(SERVE, true), Some(&server), None);
    assert_eq!(told(&engine), Some(("engine_core", "behaviour")));
}

#[test]
fn a_program_that_launches_kernels_is_not_vllm_for_that() {
    assert_eq!(told(&with_role(process("python3 train.py", true), None, None)), None);
}

#[test]
fn compiled_code_of_vllm_is_told_by_its_directory() {
    let is = |path| is_of_vllm(Path::new(path));
    assert!(is("/usr/lib/python3/dist-packages/vllm/_C.abi3.so"));
    assert!(is("/srv/vllm/cumem_allocator.abi3.so"));
    assert!(!is("/srv/vllm/python3.12") && !is("/srv/torch/lib/libc10.so"));
}
