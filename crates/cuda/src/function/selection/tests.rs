use super::*;

fn selects(text: &str, name: &str) -> bool {
    Selection::parse(text).unwrap().contains(name)
}

#[test]
fn terms_add_up_and_later_ones_win() {
    let selection = Selection::parse("default, cuMem*,!cudaEventQuery , launch").unwrap();
    for name in [
        "cudaMalloc",
        "cuMemGetAllocationGranularity",
        "cuMemcpyPeer",
        "cuLaunchKernel",
        "__cudaPushCallConfiguration",
    ] {
        assert!(selection.contains(name), "{name}");
    }
    for name in ["cudaEventQuery", "cudaGetDevice", "cudaGetLastError"] {
        assert!(!selection.contains(name), "{name}");
    }
    assert!(selects("all,!cuMem*,cuMemAlloc", "cuMemAlloc_v2"));
    assert!(!selects("all,!cuMem*,cuMemAlloc", "cuMemFree_v2"));
    assert!(!selects("cuMemAlloc,launch,!cuMem*", "cuMemAlloc_v2"));
}

#[test]
fn a_leading_exclusion_is_taken_from_default() {
    assert!(selects("!cudaMalloc", "cuLaunchKernel"));
    assert!(!selects("!cudaMalloc", "cudaMalloc"));
    assert!(!selects("!cudaMalloc", "cudaGetDevice"));
    assert_eq!(Selection::default(), Selection::parse("default").unwrap());
}

#[test]
fn a_canonical_name_means_all_variants_and_a_variant_only_itself() {
    let all = Selection::parse("cuMemcpyHtoDAsync").unwrap();
    let names: Vec<_> = all.known().collect();
    assert_eq!(names, ["cuMemcpyHtoDAsync", "cuMemcpyHtoDAsync_v2", "cuMemcpyHtoDAsync_v2_ptsz"]);
    // Newer variants of the function are variants too.
    assert!(all.contains("cuMemcpyHtoDAsync_v9_ptsz"));

    let one: Vec<_> = Selection::parse("cuMemcpyHtoDAsync_v2").unwrap().known().collect();
    assert_eq!(one, ["cuMemcpyHtoDAsync_v2"]);
    assert!(!selects("cuMemcpyHtoD", "cuMemcpyHtoDAsync_v2"));
}

#[test]
fn sets_hold_their_class() {
    let launches: Vec<_> = Selection::parse("launch").unwrap().known().collect();
    for name in [
        "cuLaunchKernel",
        "cuLaunchKernelEx_ptsz",
        "cudaLaunchKernelExC",
        "__cudaLaunchKernel",
        "cudaLaunchHostFunc",
    ] {
        assert!(launches.contains(&name), "{name}");
    }
    assert!(launches.iter().all(|name| class(name) == Class::Launch));
    for class in Class::ALL {
        assert!(
            Selection::parse(class.name()).is_ok_and(|selection| selection.known().count() > 0),
            "{class}"
        );
    }
    assert_eq!(Selection::parse("all").unwrap().known().count(), KNOWN.len());
}

#[test]
fn functions_newer_than_the_catalogue_are_selected_by_sets_and_globs() {
    assert!(selects("all", "cuFrobnicate"));
    assert!(selects("cu*", "cuFrobnicate_v2"));
    assert!(selects("copy", "cudaMemcpySideways"));
    assert!(!selects("default", "cuFrobnicate"));
    // What is no CUDA API function is never selected.
    for name in ["cudbgMain", "_init", "cublasCreate_v2", "malloc"] {
        assert!(!selects("all,*", name), "{name}");
    }
}

#[test]
fn what_matches_nothing_is_an_error_that_helps() {
    let error = |text: &str| Selection::parse(text).unwrap_err().to_string();
    assert_eq!(
        error("default,cudaMaloc"),
        "no CUDA function or set matches `cudaMaloc`: did you mean `cudaMalloc`?"
    );
    assert_eq!(error("lanuch"), "no CUDA function or set matches `lanuch`: did you mean `launch`?");
    assert_eq!(
        error("!cudagetdevice"),
        "no CUDA function or set matches `!cudagetdevice`: did you mean `cudaGetDevice`?"
    );
    assert_eq!(
        error("cuMemAloc*"),
        "no CUDA function or set matches `cuMemAloc*`: did you mean `cuMemAlloc`?"
    );
    assert_eq!(
        error("cuMemAlloc_v7"),
        "no CUDA function or set matches `cuMemAlloc_v7`: did you mean `cuMemAlloc_v2`?"
    );
    assert!(error("zzzzzzzzzzzz").contains("the sets are `default`, `all`, `init`"));
    assert!(error("cudbgMain").starts_with("no CUDA function or set matches `cudbgMain`"));
}

#[test]
fn empty_selections_are_errors() {
    assert_eq!(Selection::parse(""), Err(SelectionError::Empty));
    assert_eq!(Selection::parse("  \n"), Err(SelectionError::Empty));
    for text in ["default,", ",default", "default,,launch", "default,!", ","] {
        assert_eq!(Selection::parse(text), Err(SelectionError::EmptyTerm), "{text}");
    }
    for text in ["!default", "launch,!launch", "cuInit,!cu*"] {
        assert!(
            matches!(Selection::parse(text), Err(SelectionError::SelectsNothing { .. })),
            "{text}"
        );
    }
}
