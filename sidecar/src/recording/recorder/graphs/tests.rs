use cuda::function::arguments::{Place, capture};

use super::*;

const PID: u32 = 7;

fn stream(stream: u64) -> Handles {
    Handles { stream: Some(stream), ..Handles::default() }
}

fn launch(graphs: &mut Graphs, on: u64, kernel: u32) {
    graphs.follow(PID, Step::LaunchKernel, Handles { kernel: Some(kernel), ..stream(on) });
}

fn event(graphs: &mut Graphs, step: Step, on: u64, event: u64) {
    graphs.follow(PID, step, Handles { event: Some(event), ..stream(on) });
}

fn instantiate(graphs: &mut Graphs, graph: u64, executable: u64) {
    let handles =
        Handles { graph: Some(graph), graph_exec: Some(executable), ..Handles::default() };
    graphs.follow(PID, Step::Instantiate, handles);
}

#[test]
fn a_capture_holds_what_was_launched_on_its_streams_and_on_those_that_joined() {
    let mut graphs = Graphs::default();
    launch(&mut graphs, 1, 90);
    graphs.follow(PID, Step::BeginCapture, stream(1));
    launch(&mut graphs, 1, 10);
    launch(&mut graphs, 2, 91);
    event(&mut graphs, Step::RecordEvent, 1, 0xe);
    event(&mut graphs, Step::WaitForEvent, 2, 0xe);
    launch(&mut graphs, 2, 11);
    event(&mut graphs, Step::RecordEvent, 2, 0xf);
    event(&mut graphs, Step::WaitForEvent, 1, 0xf);
    launch(&mut graphs, 1, 10);
    graphs.follow(PID, Step::EndCapture, Handles { graph: Some(0x6), ..stream(1) });
    launch(&mut graphs, 2, 92);
    instantiate(&mut graphs, 0x6, 0x7);
    assert_eq!(*graphs.due(PID, 0x7).unwrap(), [10, 11, 10]);
    assert!(graphs.due(PID, 0x7).is_none(), "once in a segment");
    graphs.begin_segment();
    assert!(graphs.due(PID, 0x7).is_some());
}

#[test]
fn a_graph_outlives_its_source_and_says_anew_what_it_holds_when_it_is_updated() {
    let mut graphs = Graphs::default();
    capture_of(&mut graphs, 5, &[3]);
    end_capture(&mut graphs, 5, 1);
    instantiate(&mut graphs, 1, 2);
    capture_of(&mut graphs, 5, &[3, 4]);
    end_capture(&mut graphs, 5, 1);
    graphs.follow(PID, Step::Destroy, Handles { graph: Some(9), ..Handles::default() });
    assert_eq!(*graphs.due(PID, 2).unwrap(), [3]);
    let update = Handles { graph: Some(1), graph_exec: Some(2), ..Handles::default() };
    graphs.follow(PID, Step::Update, update);
    graphs.follow(PID, Step::Destroy, update);
    assert_eq!(*graphs.due(PID, 2).unwrap(), [3, 4]);
}

fn end_capture(graphs: &mut Graphs, on: u64, graph: u64) {
    graphs.follow(PID, Step::EndCapture, Handles { graph: Some(graph), ..stream(on) });
}

fn capture_of(graphs: &mut Graphs, on: u64, kernels: &[u32]) {
    graphs.follow(PID, Step::BeginCapture, stream(on));
    for kernel in kernels {
        launch(graphs, on, *kernel);
    }
}

fn create(graphs: &mut Graphs, graph: u64) {
    graphs.follow(PID, Step::Create, Handles { graph: Some(graph), ..Handles::default() });
}

fn add(graphs: &mut Graphs, graph: u64, kernel: u32) {
    let handles = Handles { graph: Some(graph), kernel: Some(kernel), ..Handles::default() };
    graphs.follow(PID, Step::AddKernel, handles);
}

fn clone(graphs: &mut Graphs, original: u64, graph: u64) {
    let handles = Handles { graph: Some(graph), original: Some(original), ..Handles::default() };
    graphs.follow(PID, Step::Clone, handles);
}

#[test]
fn a_graph_that_was_built_holds_the_kernels_of_its_nodes() {
    let mut graphs = Graphs::default();
    create(&mut graphs, 0x6);
    add(&mut graphs, 0x6, 10);
    add(&mut graphs, 0x6, 11);
    instantiate(&mut graphs, 0x6, 0x7);
    add(&mut graphs, 0x6, 12);
    instantiate(&mut graphs, 0x6, 0x8);
    assert_eq!(*graphs.due(PID, 0x7).unwrap(), [10, 11]);
    assert_eq!(*graphs.due(PID, 0x8).unwrap(), [10, 11, 12]);
    // The handle of a graph that is gone.
    create(&mut graphs, 0x6);
    instantiate(&mut graphs, 0x6, 0x7);
    assert!(graphs.due(PID, 0x7).unwrap().is_empty());
}

#[test]
fn a_captured_graph_is_built_on_and_one_of_unknown_beginning_stays_unknown() {
    let mut graphs = Graphs::default();
    capture_of(&mut graphs, 1, &[10]);
    end_capture(&mut graphs, 1, 0x6);
    add(&mut graphs, 0x6, 11);
    instantiate(&mut graphs, 0x6, 0x7);
    assert_eq!(*graphs.due(PID, 0x7).unwrap(), [10, 11]);
    add(&mut graphs, 0x9, 12);
    instantiate(&mut graphs, 0x9, 0x8);
    assert!(graphs.due(PID, 0x8).is_none());
}

#[test]
fn a_clone_holds_what_its_original_held_then() {
    let mut graphs = Graphs::default();
    create(&mut graphs, 0x6);
    add(&mut graphs, 0x6, 10);
    clone(&mut graphs, 0x6, 0x9);
    add(&mut graphs, 0x6, 11);
    add(&mut graphs, 0x9, 12);
    instantiate(&mut graphs, 0x9, 0x7);
    assert_eq!(*graphs.due(PID, 0x7).unwrap(), [10, 12]);
    // Of a graph that is not known, by a handle that had another meaning before.
    clone(&mut graphs, 0x5, 0x9);
    instantiate(&mut graphs, 0x9, 0x7);
    assert!(graphs.due(PID, 0x7).is_none());
}

#[test]
fn what_says_which_graph_was_cloned_is_copied() {
    let place = Step::of("cuGraphClone").unwrap().original().unwrap().place;
    assert_eq!(place, Place::Register(1));
    assert!(capture("cuGraphClone").registers);
}

/// Nothing is kept of captures, so that nothing grows.
fn nothing_is_captured(graphs: &Graphs) -> bool {
    let process = &graphs.processes[&PID];
    process.captures.is_empty() && process.streams.is_empty() && process.events.is_empty()
}

#[test]
fn a_capture_ends_for_all_its_streams_also_when_ending_it_fails() {
    let mut graphs = Graphs::default();
    capture_of(&mut graphs, 1, &[10]);
    event(&mut graphs, Step::RecordEvent, 1, 0xe);
    event(&mut graphs, Step::WaitForEvent, 2, 0xe);
    // What such a call leaves where the graph would be is no graph.
    graphs.failed(PID, Step::EndCapture, Handles { graph: Some(0x6), ..stream(1) });
    assert!(nothing_is_captured(&graphs));
    launch(&mut graphs, 2, 11);
    instantiate(&mut graphs, 0x6, 0x7);
    assert!(graphs.due(PID, 0x7).is_none());
    capture_of(&mut graphs, 1, &[12]);
    graphs.failed(PID, Step::BeginCapture, stream(1));
    end_capture(&mut graphs, 1, 0x6);
    instantiate(&mut graphs, 0x6, 0x7);
    assert_eq!(*graphs.due(PID, 0x7).unwrap(), [12], "only the end is followed");
}

#[test]
fn a_capture_whose_end_was_lost_gives_way_to_the_next_one_of_its_stream() {
    let mut graphs = Graphs::default();
    for lost in [10, 11, 12] {
        capture_of(&mut graphs, 1, &[lost]);
    }
    assert_eq!(graphs.processes[&PID].captures.len(), 1);
    end_capture(&mut graphs, 1, 0x6);
    instantiate(&mut graphs, 0x6, 0x7);
    assert_eq!(*graphs.due(PID, 0x7).unwrap(), [12]);
    assert!(nothing_is_captured(&graphs));
}

#[test]
fn a_capture_that_goes_on_for_ever_is_given_up_and_its_graph_unknown() {
    let mut graphs = Graphs::default();
    capture_of(&mut graphs, 1, &[10]);
    end_capture(&mut graphs, 1, 0x6);
    instantiate(&mut graphs, 0x6, 0x7);
    capture_of(&mut graphs, 1, &[11]);
    for _ in 1..budget::MAX_KERNELS {
        launch(&mut graphs, 1, 11);
    }
    assert!(!nothing_is_captured(&graphs));
    launch(&mut graphs, 1, 11);
    assert!(nothing_is_captured(&graphs));
    // The handles had another meaning before.
    end_capture(&mut graphs, 1, 0x6);
    instantiate(&mut graphs, 0x6, 0x7);
    assert!(graphs.due(PID, 0x7).is_none());
}

#[test]
fn an_unknown_graph_is_not_invented() {
    let mut graphs = Graphs::default();
    instantiate(&mut graphs, 1, 2);
    assert!(graphs.due(PID, 2).is_none());
    graphs.follow(PID, Step::EndCapture, Handles { graph: Some(6), ..stream(1) });
    assert!(graphs.due(PID, 2).is_none());
}

#[test]
fn a_graph_with_a_node_of_unknown_kernels_is_unknown() {
    let mut graphs = Graphs::default();
    create(&mut graphs, 0x6);
    add(&mut graphs, 0x6, 10);
    let node = Handles { graph: Some(0x6), ..Handles::default() };
    graphs.follow(PID, Step::AddUnknown, node);
    add(&mut graphs, 0x6, 11);
    instantiate(&mut graphs, 0x6, 0x7);
    assert!(graphs.due(PID, 0x7).is_none());
}

#[test]
fn a_graph_is_unknown_once_a_kernel_of_it_was_not_read() {
    let mut graphs = Graphs::default();
    create(&mut graphs, 0x6);
    graphs.follow(PID, Step::AddKernel, Handles { graph: Some(0x6), ..Handles::default() });
    add(&mut graphs, 0x6, 11);
    instantiate(&mut graphs, 0x6, 0x7);
    assert!(graphs.due(PID, 0x7).is_none());
    capture_of(&mut graphs, 1, &[10]);
    graphs.follow(PID, Step::LaunchKernel, stream(1));
    end_capture(&mut graphs, 1, 0x8);
    instantiate(&mut graphs, 0x8, 0x9);
    assert!(graphs.due(PID, 0x9).is_none());
}

#[test]
fn a_capture_adds_to_a_known_graph_and_makes_no_unknown_one_known() {
    let mut graphs = Graphs::default();
    create(&mut graphs, 0x6);
    add(&mut graphs, 0x6, 10);
    for (graph, executable) in [(0x6, 0x7), (0x9, 0x8)] {
        let into = Handles { graph: Some(graph), ..stream(1) };
        graphs.follow(PID, Step::BeginCapture, into);
        launch(&mut graphs, 1, 11);
        end_capture(&mut graphs, 1, graph);
        instantiate(&mut graphs, graph, executable);
    }
    assert_eq!(*graphs.due(PID, 0x7).unwrap(), [10, 11]);
    assert!(graphs.due(PID, 0x8).is_none());
}

#[test]
fn of_what_there_is_no_room_for_nothing_is_said_rather_than_something_wrong() {
    let graph = |graph: u64| Handles { graph: Some(graph), ..Handles::default() };
    let mut graphs = Graphs::default();
    // Known before, and instantiated when there is no room for another handle.
    capture_of(&mut graphs, 5, &[3]);
    end_capture(&mut graphs, 5, 1);
    instantiate(&mut graphs, 1, 2);
    // A capture that is open then.
    capture_of(&mut graphs, 6, &[4]);
    graphs.budget.fill();
    instantiate(&mut graphs, 1, 3);
    assert!(graphs.due(PID, 3).is_none());
    instantiate(&mut graphs, 1, 2);
    assert_eq!(*graphs.due(PID, 2).unwrap(), [3], "what is known stays known");
    // Who joins it by this event would not be seen, so that what it holds is not known any more.
    event(&mut graphs, Step::RecordEvent, 6, 0xe);
    event(&mut graphs, Step::WaitForEvent, 7, 0xe);
    launch(&mut graphs, 7, 5);
    end_capture(&mut graphs, 6, 4);
    graphs.follow(PID, Step::Create, graph(8));
    graphs.follow(PID, Step::Clone, Handles { original: Some(1), ..graph(9) });
    capture_of(&mut graphs, 10, &[6]);
    end_capture(&mut graphs, 10, 10);
    graphs.budget.empty();
    for (unknown, executable) in [(4, 14), (8, 18), (9, 19), (10, 20)] {
        instantiate(&mut graphs, unknown, executable);
        assert!(graphs.due(PID, executable).is_none(), "{unknown}");
    }
    // There is room again.
    capture_of(&mut graphs, 10, &[6]);
    end_capture(&mut graphs, 10, 10);
    instantiate(&mut graphs, 10, 20);
    assert_eq!(*graphs.due(PID, 20).unwrap(), [6]);
}

#[test]
fn nothing_is_left_of_a_process_that_has_ended() {
    let mut graphs = Graphs::default();
    capture_of(&mut graphs, 5, &[3, 4]);
    event(&mut graphs, Step::RecordEvent, 5, 0xe);
    event(&mut graphs, Step::WaitForEvent, 6, 0xe);
    capture_of(&mut graphs, 7, &[1]);
    end_capture(&mut graphs, 5, 1);
    instantiate(&mut graphs, 1, 2);
    assert!(graphs.due(PID, 2).is_some());
    // A capture and its stream, a graph and what was made of it, which share their kernels.
    assert_eq!(graphs.budget.held(), (4, 3));
    graphs.forget(PID, 1);
    assert_eq!(graphs.budget.held(), (0, 0));
    assert!(graphs.processes.is_empty() && graphs.announced.is_empty());
}
