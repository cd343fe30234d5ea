//! Weights, cache and buffers.

use anyhow::{Result, ensure};

use super::LAYERS;
use crate::vllm::gpu::{Gpu, address, call};

const HIDDEN: usize = 2048;
const INTERMEDIATE: usize = 8192;
const KEY_VALUE: usize = 512;
const VOCABULARY: usize = 128_256;
/// float16
const ELEMENT: usize = 2;
/// Pinned memory through which weights are copied.
const STAGING: usize = 16 << 20;
/// As PyTorch's allocator: small tensors share a segment.
const SEGMENT: usize = 2 << 20;
const SMALL: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Memory {
    allocations: Vec<usize>,
    staging: usize,
    inputs: usize,
    cache_tokens: usize,
}

impl Memory {
    pub(super) fn load_weights(gpu: &Gpu, stream: usize) -> Result<Self> {
        let mut memory = Self { allocations: Vec::new(), staging: 0, inputs: 0, cache_tokens: 0 };
        call!(gpu.runtime, cudaHostAlloc(address(&mut memory.staging), STAGING, 0))?;
        memory.inputs = memory.allocate(gpu, SEGMENT)?;
        call!(gpu.runtime, cudaMemsetAsync(memory.inputs, 0, SEGMENT, stream))?;
        let (mut segment, mut used) = (0, SEGMENT);
        for bytes in tensors() {
            let tensor = if bytes >= SMALL {
                memory.allocate(gpu, bytes)?
            } else {
                if used + bytes > SEGMENT {
                    (segment, used) = (memory.allocate(gpu, SEGMENT)?, 0);
                }
                used += bytes.next_multiple_of(512);
                segment + used - bytes.next_multiple_of(512)
            };
            for start in (0..bytes).step_by(STAGING) {
                let piece = STAGING.min(bytes - start);
                call!(
                    gpu.runtime,
                    cudaMemcpyAsync(tensor + start, memory.staging, piece, 1, stream)
                )?;
                call!(gpu.runtime, cudaStreamSynchronize(stream))?;
            }
        }
        Ok(memory)
    }

    /// Takes what the utilization leaves for keys and values, a part for each layer.
    pub(super) fn take_cache(&mut self, gpu: &Gpu, utilization: f64) -> Result<()> {
        let (mut free, mut total) = (0_usize, 0_usize);
        call!(gpu.runtime, cudaMemGetInfo(address(&mut free), address(&mut total)))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a size is a size"
        )]
        let allowed = (total as f64 * utilization) as usize;
        let cache = allowed.saturating_sub(total - free);
        let token = 2 * KEY_VALUE * ELEMENT * LAYERS;
        self.cache_tokens = cache / token;
        ensure!(
            self.cache_tokens > 0,
            "no memory is left for the cache: the weights take {} MiB of the {} MiB allowed; raise --gpu-memory-utilization",
            (total - free) >> 20,
            allowed >> 20
        );
        for _ in 0..LAYERS {
            self.allocate(gpu, self.cache_tokens * token / LAYERS)?;
        }
        Ok(())
    }

    pub(super) fn cache_tokens(&self) -> usize {
        self.cache_tokens
    }

    /// Pinned host memory.
    pub(super) fn staging(&self) -> usize {
        self.staging
    }

    /// Device memory for what steps put in and take out.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn free(&self, gpu: &Gpu) -> Result<()> {
        for allocation in &self.allocations {
            call!(gpu.runtime, cudaFree(*allocation))?;
        }
        call!(gpu.runtime, cudaFreeHost(self.staging))
    }

    fn allocate(&mut self, gpu: &Gpu, bytes: usize) -> Result<usize> {
        let mut start = 0_usize;
        call!(gpu.runtime, cudaMalloc(address(&mut start), bytes))?;
        self.allocations.push(start);
        Ok(start)
    }
}

/// The sizes of the weights in bytes, in the order of their loading.
fn tensors() -> Vec<usize> {
    let layer = [
        HIDDEN * (HIDDEN + 2 * KEY_VALUE),
        HIDDEN * HIDDEN,
        HIDDEN * 2 * INTERMEDIATE,
        INTERMEDIATE * HIDDEN,
        HIDDEN,
        HIDDEN,
    ];
    let embedding = VOCABULARY * HIDDEN;
    let elements = std::iter::once(embedding)
        .chain(std::iter::repeat_n(layer, LAYERS).flatten())
        .chain([HIDDEN, embedding]);
    elements.map(|elements| elements * ELEMENT).collect()
}
