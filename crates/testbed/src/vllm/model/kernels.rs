//! The kernels: registered with the runtime as compiled code does, or loaded through the driver as Triton and cuBLAS do.

use anyhow::Result;

use super::TOKENS_PER_WAVE;
use crate::vllm::gpu::{Gpu, address, call};
use crate::vllm::scheduler::Step;

/// One block on each of the H100's multiprocessors.
const WAVE: usize = 132;

/// How much a step computes, as far as launches show it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    blocks: usize,
    sequences: usize,
}

impl Shape {
    /// Decoding fits on the device at once; prompts need more waves of blocks the longer they are.
    pub(super) fn of(step: Step) -> Self {
        let waves = step.prefill_tokens / TOKENS_PER_WAVE;
        let blocks =
            if waves == 0 { (step.sequences * 8).clamp(1, WAVE) } else { WAVE * (1 + waves) };
        Self { blocks, sequences: step.sequences }
    }
}

/// Kernels of compiled code, in the order of their host symbols.
const COMPILED: [&std::ffi::CStr; 11] = [
    c"_ZN4vllm15rms_norm_kernelIN3c104HalfELi8EEEvPT_PKS3_lS6_fii",
    c"_ZN4vllm23rotary_embedding_kernelIN3c104HalfELb1EEEvPKlPT_S6_PKS5_illliii",
    c"_ZN4vllm30reshape_and_cache_flash_kernelIttLNS_18Fp8KVCacheDataTypeE0EEEvPKT_S4_PT0_S6_PKlllllliiiPKfSA_",
    c"_ZN5flash32prepare_varlen_num_blocks_kernelILi1ELb0EEEviiiPKiS2_S2_S2_S2_S2_iiiiiPiS3_b",
    c"_ZN7cutlass13device_kernelIN5flash11enable_sm90INS1_16FlashAttnFwdSm90EEEEEvNT_6ParamsE",
    c"_ZN7cutlass13device_kernelIN5flash19FlashAttnFwdCombineEEEvNT_6ParamsE",
    c"_ZN4vllm25fused_add_rms_norm_kernelIN3c104HalfELi8EEEvPT_lS4_PKS3_fii",
    c"_ZN4vllm18act_and_mul_kernelIN3c104HalfELb1EEEvPT_PKS3_i",
    c"_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_11FillFunctorIlEESt5arrayIPcLm1EEEEviT0_T1_",
    c"_ZN2at6native13reduce_kernelILi512ELi1ENS0_8ReduceOpIfNS0_9ArgMaxOpsIfEEjlLi4ELi4EEEEEvT1_",
    c"_ZN2at6native29vectorized_gather_kernelILi16ElEEvPcS2_PT0_illllb",
];

const RMS_NORM: usize = 0;
const ROTARY: usize = 1;
const RESHAPE_AND_CACHE: usize = 2;
const ATTENTION_PLAN: usize = 3;
const ATTENTION: usize = 4;
const ATTENTION_COMBINE: usize = 5;
const ADD_RMS_NORM: usize = 6;
const SILU_AND_MUL: usize = 7;
const FILL: usize = 8;
const ARGMAX: usize = 9;
const GATHER: usize = 10;

/// The addresses that compiled code has for its kernels' host functions.
static HOST_SYMBOLS: [u8; COMPILED.len()] = [0; COMPILED.len()];

#[derive(Debug)]
pub(super) struct Kernels {
    /// cuBLAS, one per shape of matrix.
    projections: [usize; 4],
    logits: usize,
    /// Triton.
    fused: usize,
    slot_mapping: usize,
}

impl Kernels {
    /// Needs an initialised driver.
    pub(super) fn load(gpu: &Gpu) -> Result<Self> {
        let (mut library, mut module) = (0_usize, 0_usize);
        call!(gpu.driver, cuLibraryLoadData(address(&mut library), c"cublasLt".as_ptr().addr()))?;
        let matrix = |name: &std::ffi::CStr| -> Result<usize> {
            let mut kernel = 0_usize;
            call!(
                gpu.driver,
                cuLibraryGetKernel(address(&mut kernel), library, name.as_ptr().addr())
            )?;
            Ok(kernel)
        };
        let projections = [
            matrix(c"nvjet_sm90_hsh_64x8_64x16_4x1_v_bz_TNT")?,
            matrix(c"nvjet_sm90_hsh_64x8_64x16_1x4_v_bz_splitK_TNT")?,
            matrix(c"nvjet_sm90_hsh_128x64_64x9_2x1_v_bz_TNT")?,
            matrix(c"nvjet_sm90_hsh_64x64_64x11_4x1_v_bz_splitK_TNT")?,
        ];
        let logits = matrix(c"nvjet_sm90_hss_192x64_64x6_2x1_v_bz_TNT")?;
        call!(gpu.driver, cuModuleLoadData(address(&mut module), c"triton".as_ptr().addr()))?;
        let generated = |name: &std::ffi::CStr| -> Result<usize> {
            let mut function = 0_usize;
            call!(
                gpu.driver,
                cuModuleGetFunction(address(&mut function), module, name.as_ptr().addr())
            )?;
            call!(gpu.driver, cuFuncSetAttribute(function, 8, 65536))?;
            Ok(function)
        };
        let fused = generated(c"triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0")?;
        let slot_mapping = generated(c"_compute_slot_mapping_kernel")?;
        call!(gpu.runtime, cudaFuncSetAttribute(host_symbol(ATTENTION), 8, 230_000))?;
        Ok(Self { projections, logits, fused, slot_mapping })
    }

    /// Fourteen launches: nine through the runtime, five directly.
    pub(super) fn layer(
        &self,
        gpu: &Gpu,
        shape: Shape,
        stream: usize,
        tensor: usize,
    ) -> Result<()> {
        let Shape { blocks, sequences } = shape;
        let [query_key_value, output, gate_up, down] = self.projections;
        launch(gpu, RMS_NORM, blocks, 256, 0, stream)?;
        tensor_map(gpu, tensor)?;
        launch_directly(gpu, query_key_value, blocks, 384, 214_016, stream)?;
        launch(gpu, ROTARY, sequences.min(WAVE), 128, 0, stream)?;
        launch(gpu, RESHAPE_AND_CACHE, sequences.min(WAVE), 512, 0, stream)?;
        launch(gpu, ATTENTION_PLAN, 1, 1024, 0, stream)?;
        launch_with_config(gpu, ATTENTION, blocks, 384, 229_376, stream)?;
        launch(gpu, ATTENTION_COMBINE, blocks, 256, 20_480, stream)?;
        launch_directly(gpu, output, blocks, 384, 214_016, stream)?;
        launch(gpu, ADD_RMS_NORM, blocks, 256, 0, stream)?;
        launch_directly(gpu, gate_up, blocks, 384, 198_656, stream)?;
        launch(gpu, SILU_AND_MUL, blocks, 1024, 0, stream)?;
        launch_directly(gpu, down, blocks, 384, 214_016, stream)?;
        launch_directly(gpu, self.fused, blocks, 256, 64, stream)?;
        launch(gpu, FILL, 1, 128, 0, stream)
    }

    pub(super) fn slot_mapping(&self, gpu: &Gpu, stream: usize) -> Result<()> {
        launch_directly(gpu, self.slot_mapping, 1, 128, 0, stream)
    }

    pub(super) fn logits(&self, gpu: &Gpu, shape: Shape, stream: usize) -> Result<()> {
        launch_directly(gpu, self.logits, shape.blocks, 384, 214_016, stream)
    }
}

pub(super) fn elementwise(gpu: &Gpu, stream: usize) -> Result<()> {
    launch(gpu, GATHER, 1, 128, 0, stream)
}

pub(super) fn argmax(gpu: &Gpu, stream: usize) -> Result<()> {
    launch(gpu, ARGMAX, 1, 512, 16, stream)
}

/// Registers the kernels of compiled code with the runtime.
pub(super) fn register(gpu: &Gpu) {
    // SAFETY: registration keeps the pointers; they are to statics.
    unsafe {
        let binary =
            crate::cuda::call(gpu.runtime.__cudaRegisterFatBinary, [c"_C.abi3.so".as_ptr().addr()]);
        for (number, name) in COMPILED.iter().enumerate() {
            let name = name.as_ptr().addr();
            crate::cuda::call(
                gpu.runtime.__cudaRegisterFunction,
                [binary, host_symbol(number), name, name, usize::MAX],
            );
        }
        crate::cuda::call(gpu.runtime.__cudaRegisterFatBinaryEnd, [binary]);
    }
}

fn host_symbol(number: usize) -> usize {
    (&raw const HOST_SYMBOLS[number]).addr()
}

/// As `kernel<<<blocks, threads, shared, stream>>>` in PyTorch's code.
fn launch(
    gpu: &Gpu,
    kernel: usize,
    blocks: usize,
    threads: usize,
    shared: usize,
    stream: usize,
) -> Result<()> {
    gpu.guards()?;
    // By value, x and y of a grid share a register.
    let (grid, block) = (blocks | 1 << 32, threads | 1 << 32);
    call!(
        gpu.runtime,
        cudaLaunchKernel(host_symbol(kernel), grid, 1, block, 1, 0, shared, stream)
    )?;
    call!(gpu.runtime, cudaGetLastError())
}

/// `cudaLaunchConfig_t`, whose shared memory is a `size_t`, or `CUlaunchConfig`, in which padding follows it: on a
/// little-endian machine the same bytes.
#[repr(C)]
struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    shared_memory: usize,
    stream: usize,
    attributes: usize,
    attribute_count: u32,
}

impl Config {
    fn new(blocks: usize, threads: usize, shared_memory: usize, stream: usize) -> Self {
        let size = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            grid: [size(blocks), 1, 1],
            block: [size(threads), 1, 1],
            shared_memory,
            stream,
            attributes: 0,
            attribute_count: 0,
        }
    }
}

fn launch_with_config(
    gpu: &Gpu,
    kernel: usize,
    blocks: usize,
    threads: usize,
    shared: usize,
    stream: usize,
) -> Result<()> {
    let mut config = Config::new(blocks, threads, shared, stream);
    gpu.guards()?;
    call!(gpu.runtime, cudaLaunchKernelExC(address(&mut config), host_symbol(kernel), 0))
}

fn launch_directly(
    gpu: &Gpu,
    function: usize,
    blocks: usize,
    threads: usize,
    shared: usize,
    stream: usize,
) -> Result<()> {
    let mut config = Config::new(blocks, threads, shared, stream);
    gpu.guards()?;
    call!(gpu.driver, cuLaunchKernelEx(address(&mut config), function, 0, 0))
}

#[repr(align(64))]
struct TensorMap([u64; 16]);

/// Hopper's matrix kernels get their operands described before each launch.
fn tensor_map(gpu: &Gpu, tensor: usize) -> Result<()> {
    let mut map = TensorMap([0; 16]);
    let (mut sizes, mut strides, mut tile, mut steps) =
        ([2048_u64, 64], [4096_u64], [64_u32, 64], [1_u32, 1]);
    let shape =
        [address(&mut sizes), address(&mut strides), address(&mut tile), address(&mut steps)];
    call!(
        gpu.driver,
        cuTensorMapEncodeTiled(
            address(&mut map.0),
            6,
            2,
            tensor,
            shape[0],
            shape[1],
            shape[2],
            shape[3],
            0,
            3,
            2,
            0
        )
    )
}
