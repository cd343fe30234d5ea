use super::super::{KNOWN, canonical};
use super::*;
use std::collections::BTreeMap;

#[test]
fn the_functions_of_a_real_run_have_the_right_class() {
    for (name, expected) in [
        ("cuInit", Class::Init),
        ("cuGetProcAddress_v2", Class::Init),
        ("cudaSetDevice", Class::Device),
        ("cudaDeviceReset", Class::Device),
        ("cuDevicePrimaryCtxRetain", Class::Context),
        ("cuCtxSetCurrent", Class::Context),
        ("cuModuleGetFunction", Class::Module),
        ("cuLibraryGetKernel", Class::Module),
        ("__cudaRegisterFunction", Class::Module),
        ("__cudaGetKernel", Class::Module),
        ("cuMemAlloc_v2", Class::Memory),
        ("cudaMalloc", Class::Memory),
        ("cudaHostAlloc", Class::Memory),
        ("cuMemAddressReserve", Class::Memory),
        ("cuMemAllocFromPoolAsync_ptsz", Class::Memory),
        ("cudaMemGetInfo", Class::Memory),
        ("cudaMemcpyAsync_ptsz", Class::Copy),
        ("cuMemcpyHtoDAsync_v2", Class::Copy),
        ("cuMemsetD8Async", Class::Set),
        ("cudaMemset", Class::Set),
        ("cuLaunchKernelEx_ptsz", Class::Launch),
        ("__cudaLaunchKernel", Class::Launch),
        ("__cudaPushCallConfiguration", Class::Launch),
        ("cudaLaunchHostFunc", Class::Launch),
        ("cuGraphLaunch", Class::Graph),
        ("cudaStreamBeginCapture", Class::Graph),
        ("cudaStreamCreateWithFlags", Class::Stream),
        ("cuStreamWaitEvent", Class::Stream),
        ("cudaEventRecordWithFlags", Class::Event),
        ("cudaEventElapsedTime", Class::Event),
        ("cudaEventSynchronize", Class::Sync),
        ("cuCtxSynchronize", Class::Sync),
        ("cudaThreadSynchronize", Class::Sync),
        ("cuTensorMapEncodeTiled", Class::Texture),
        ("cuGraphicsMapResources", Class::Graphics),
        ("cudaGetDevice", Class::Getter),
        ("cuCtxGetDevice_v2", Class::Getter),
        ("cuDevicePrimaryCtxGetState", Class::Getter),
        ("cudaStreamIsCapturing", Class::Getter),
        ("cuPointerGetAttribute", Class::Getter),
        ("cudaProfilerStart", Class::Other),
    ] {
        assert_eq!(class(name), expected, "{name}");
    }
}

#[test]
fn a_function_newer_than_the_catalogue_still_has_a_class() {
    assert_eq!(class("cuMemcpySidewaysAsync_v7_ptsz"), Class::Copy);
    assert_eq!(class("cudaLaunchKernelTwice"), Class::Launch);
    assert_eq!(class("cuFrobnicate"), Class::Other);
}

#[test]
fn variants_share_a_class_and_every_class_is_used() {
    let mut by_class: BTreeMap<Class, usize> = BTreeMap::new();
    for name in KNOWN.iter() {
        assert_eq!(class(name), class(canonical(name)), "{name}");
        *by_class.entry(class(name)).or_default() += 1;
    }
    assert_eq!(by_class.len(), Class::ALL.len(), "{by_class:?}");
    assert!(by_class[&Class::Other] < 60, "too many functions of no class: {by_class:?}");
}

#[test]
fn names_of_classes_read_back() {
    for class in Class::ALL {
        assert_eq!(Class::named(class.name()), Some(class));
    }
    assert_eq!(Class::named("memset"), Some(Class::Set));
    assert_eq!(Class::named("Launch"), None);
}

#[test]
fn no_pattern_is_dead() {
    for pattern in RULES.iter().flat_map(|(_, patterns)| *patterns) {
        assert!(
            KNOWN.iter().any(|name| glob::matches(pattern, stem(name))),
            "{pattern} matches nothing"
        );
    }
}
