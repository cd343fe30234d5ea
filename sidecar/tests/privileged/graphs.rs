//! Graphs that are built by hand: their nodes are decoded, and their launches say what they hold.

use std::collections::HashMap;

use testbed::{
    libraries::Driver,
    sequence::{BLOCK, DRIVER_KERNEL, GRID, RUNTIME_KERNEL, SHARED_MEMORY},
};
use trace::line::{Address, Call, Line, Meta};

use crate::calls::{address, kernels, tour};

/// The kernel that the tour puts into its graphs, the driver's and the runtime's.
fn expected(call: &Call) -> &'static str {
    match call.detail.depth {
        Some(0) if !call.func.starts_with("cuda") => DRIVER_KERNEL,
        _ => RUNTIME_KERNEL,
    }
}

#[test]
fn an_added_node_says_what_it_launches_and_where() {
    for driver in [Driver::R550, Driver::R580] {
        let (scene, handles) = tour(driver, &[]);
        let (calls, kernels) = (scene.calls(), kernels(&scene));
        let mut graphs = Vec::new();
        for call in calls.iter().filter(|call| call.func.contains("GraphAddKernelNode")) {
            let detail = &call.detail;
            assert_eq!(detail.ret, Some(0), "{call:?}");
            assert_eq!(detail.grid, Some(GRID), "{call:?}");
            assert_eq!(detail.block, Some(BLOCK), "{call:?}");
            assert_eq!(detail.shared_bytes, Some(SHARED_MEMORY.into()), "{call:?}");
            let name = kernels[&detail.kernel.unwrap()].as_deref();
            assert_eq!(name, Some(expected(call)), "{call:?}");
            match (call.func.as_str(), detail.depth) {
                ("cudaGraphAddKernelNode", Some(0)) => {
                    assert_eq!(detail.function, Some(address(handles.runtime_symbol)), "{call:?}");
                }
                ("cuGraphAddKernelNode_v2", Some(0)) => {
                    assert_eq!(detail.function, Some(address(handles.driver_kernel)), "{call:?}");
                }
                // The runtime passes no function, but the kernel that it is of.
                ("cuGraphAddKernelNode_v2", Some(1)) => {
                    assert!(detail.function.is_some_and(|function| function.0 != 0), "{call:?}");
                }
                _ => panic!("{call:?}"),
            }
            graphs.push(detail.graph.unwrap());
        }
        // One by the driver; then one by the runtime, with the driver's call inside.
        let [_, inner, outer] = graphs[..] else { panic!("{graphs:?}") };
        assert_eq!(inner, outer);
    }
}

#[test]
fn a_launched_graph_says_which_kernels_were_added_to_it_and_to_its_original() {
    for driver in [Driver::R550, Driver::R580] {
        let (scene, _) = tour(driver, &[]);
        let names = kernels(&scene);
        let mut graphs: HashMap<Address, Vec<Option<String>>> = HashMap::new();
        let (mut expanded, mut unknown) = (0, 0);
        for line in scene.lines() {
            match line {
                Line::Meta(line) => {
                    if let Meta::Graph(graph) = line.meta {
                        let kernels = graph.kernels.iter().map(|id| names[id].clone()).collect();
                        graphs.insert(graph.graph_exec, kernels);
                    }
                }
                Line::Call(call) if call.func.starts_with("cuGraphInstantiate") => {
                    graphs.remove(&call.detail.graph_exec.unwrap());
                }
                Line::Call(call) if call.func.starts_with("cuGraphLaunch") => {
                    match graphs.get(&call.detail.graph_exec.unwrap()) {
                        Some(kernels) => {
                            assert_eq!(*kernels, [Some(expected(&call).to_owned())], "{call:?}");
                            expanded += 1;
                        }
                        None => unknown += 1,
                    }
                }
                Line::Call(_) => {}
            }
        }
        // Of a clone, of its original by both twins, and by the runtime in four ways by both twins.
        assert_eq!(expanded, 1 + 2 + 4 * 2);
        // With nodes whose kernels no call tells.
        assert_eq!(unknown, 1);
    }
}
