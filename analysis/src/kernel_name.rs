//! What a kernel's name tells: a short form for people, and what the kernel is for.

/// What a kernel is for, by its name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    Attention,
    Gemm,
    Moe,
    Norm,
    Activation,
    Position,
    Cache,
    Sampling,
    Collective,
    Quantization,
    Copy,
    Other,
}

impl Category {
    pub fn name(self) -> &'static str {
        match self {
            Self::Attention => "attention",
            Self::Gemm => "gemm",
            Self::Moe => "moe",
            Self::Norm => "norm",
            Self::Activation => "activation",
            Self::Position => "position",
            Self::Cache => "kv_cache",
            Self::Sampling => "sampling",
            Self::Collective => "collective",
            Self::Quantization => "quantization",
            Self::Copy => "copy",
            Self::Other => "other",
        }
    }

    /// `name` is the full one, demangled where it was mangled.
    pub fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let found = PATTERNS.iter().find(|(_, parts)| parts.iter().any(|part| name.contains(part)));
        found.map_or(Self::Other, |(category, _)| *category)
    }
}

/// The first that fits: what is special stands before what its names are made of. In lower case.
const PATTERNS: [(Category, &[&str]); 11] = [
    (
        Category::Collective,
        &[
            "nccl",
            "all_reduce",
            "allreduce",
            "all_gather",
            "allgather",
            "reduce_scatter",
            "reducescatter",
            "cross_device_reduce",
            "all2all",
            "alltoall",
            "multimem",
            "nvshmem",
            "deep_ep",
            "quickreduce",
        ],
    ),
    (
        Category::Cache,
        &["reshape_and_cache", "concat_and_cache", "copy_blocks", "swap_blocks", "kv_cache_"],
    ),
    (Category::Moe, &["moe", "topk_softmax", "topkgating", "grouped_topk", "expert"]),
    (
        Category::Attention,
        &[
            "flash",
            "fmha",
            "attention",
            "attn",
            "_mla_",
            "::mla",
            "xqa",
            "batchprefill",
            "batchdecode",
            "mergestates",
            "merge_states",
        ],
    ),
    (
        Category::Sampling,
        &[
            "sampl",
            "softmax",
            "argmax",
            "topk",
            "top_k",
            "topp",
            "top_p",
            "penalt",
            "multinomial",
            "exponential",
            "gumbel",
            "logits",
            "rejection",
            "radixsort",
            "bitonicsort",
        ],
    ),
    (Category::Norm, &["norm", "rsqrt"]),
    (Category::Activation, &["silu", "gelu", "relu", "swiglu", "act_and_mul", "sigmoid"]),
    (Category::Position, &["rotary", "rope"]),
    (
        Category::Gemm,
        &[
            "gemm",
            "gemv",
            "nvjet",
            "cublas",
            "splitkreduce",
            "splitk",
            "cutlass",
            "wgmma",
            "marlin",
            "machete",
            "matmul",
            "xmma",
            "_mm_",
            "dot_kernel",
        ],
    ),
    (Category::Quantization, &["quant", "fp8", "nvfp4", "int8", "awq", "gptq"]),
    (
        Category::Copy,
        &[
            "copy",
            "memcpy",
            "memset",
            "fill",
            "cat_",
            "catarray",
            "gather",
            "scatter",
            "index",
            "embedding",
            "transpose",
            "arange",
        ],
    ),
];

/// Without return type and parameters: `vllm::rms_norm_kernel<c10::Half, 8>`.
pub fn short(name: &str) -> &str {
    let mut depth = 0_usize;
    let mut start = 0;
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            // `(anonymous namespace)` names, it has no parameters.
            b'(' if depth == 0 && !name[at..].starts_with("(anonymous") => {
                let is_call_operator = name[..at].ends_with("operator");
                if !is_call_operator {
                    return name[start..at].trim_end();
                }
                at += 1;
            }
            b'<' if name[..at].ends_with("operator") => {}
            b'<' | b'(' | b'{' | b'[' => depth += 1,
            b'>' if at > 0 && bytes[at - 1] == b'-' => {}
            b'>' | b')' | b'}' | b']' => depth = depth.saturating_sub(1),
            b' ' if depth == 0 && !name[..at].ends_with("operator") => start = at + 1,
            _ => {}
        }
        at += 1;
    }
    &name[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_has_neither_return_type_nor_parameters() {
        for (name, expected) in [
            ("add(float*, int)", "add"),
            (
                "void vllm::rms_norm_kernel<c10::Half, 8>(c10::Half*, float)",
                "vllm::rms_norm_kernel<c10::Half, 8>",
            ),
            (
                "std::enable_if<(((8)>(0)))&&true, void>::type vllm::norm<c10::Half, 8>(c10::Half*)",
                "vllm::norm<c10::Half, 8>",
            ),
            (
                "void (anonymous namespace)::softmax<4, f(float)::{lambda(char const*)#1}>(int)",
                "(anonymous namespace)::softmax<4, f(float)::{lambda(char const*)#1}>",
            ),
            ("triton_poi_fused_mul_silu_slice_1", "triton_poi_fused_mul_silu_slice_1"),
            ("void f::operator()<int>(int)", "f::operator()<int>"),
            ("", ""),
            ("(", ""),
            (">>><<<", ">>><<<"),
            ("\u{fc}(\u{fc})", "\u{fc}"),
        ] {
            assert_eq!(short(name), expected, "{name}");
        }
    }

    #[test]
    fn kernels_of_vllm_have_their_categories() {
        for (name, expected) in [
            (
                "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<x> > >(y)",
                Category::Attention,
            ),
            ("nvjet_sm90_hsh_128x16_64x11_4x1_v_bz_TNT", Category::Gemm),
            ("void cublasLt::splitKreduce_kernel<32, 16, int>(x)", Category::Gemm),
            ("void vllm::reshape_and_cache_flash_kernel<unsigned short>(x)", Category::Cache),
            ("void vllm::fused_add_rms_norm_kernel<c10::Half, 8>(c10::Half*)", Category::Norm),
            ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0", Category::Norm),
            ("triton_poi_fused_mul_silu_slice_1", Category::Activation),
            (
                "void vllm::rotary_embedding_kernel<c10::Half, true>(long const*)",
                Category::Position,
            ),
            ("void vllm::cross_device_reduce_1stage<c10::Half, 2>(x)", Category::Collective),
            (
                "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
                Category::Collective,
            ),
            (
                "void at::native::(anonymous namespace)::cunn_SoftMaxForward<4>(x)",
                Category::Sampling,
            ),
            (
                "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<int>>(x)",
                Category::Copy,
            ),
            ("fused_moe_kernel", Category::Moe),
            ("add(float*, int)", Category::Other),
        ] {
            assert_eq!(Category::of(name), expected, "{name}");
        }
    }
}
