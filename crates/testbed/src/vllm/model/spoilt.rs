//! Calls that a step should not make: one way of wasting time for each cause of [`crate::vllm::misbehaviour`].

use std::thread;

use anyhow::Result;

use super::{Model, kernels};
use crate::vllm::gpu::{address, call};
use crate::vllm::misbehaviour::{Cause, Mischief};

/// More than the queue of a stream holds.
const QUEUED: usize = 1024;

impl Model {
    /// Before the inputs of a step are copied.
    pub(super) fn spoil_beginning(&mut self, mischief: &mut Mischief) -> Result<()> {
        let runtime = &self.gpu.runtime;
        match mischief.cause {
            Cause::Errors => {
                // Either is refused, and changes nothing.
                let result = if mischief.below(2) == 0 {
                    let mut start = 0_usize;
                    // SAFETY: it writes a pointer, if anything.
                    unsafe { crate::cuda::call(runtime.cudaMalloc, [address(&mut start), 1 << 50]) }
                } else {
                    // SAFETY: a null event is refused.
                    unsafe { crate::cuda::call(runtime.cudaStreamWaitEvent, [self.stream, 0, 0]) }
                };
                anyhow::ensure!(crate::cuda::code(result) != 0, "an impossible call was done");
                // Reading the error takes it away: PyTorch does so in its own checks.
                // SAFETY: it takes nothing.
                unsafe { crate::cuda::call(runtime.cudaGetLastError, []) };
            }
            Cause::AllocationInStep => {
                for _ in 0..mischief.between(1, 6) {
                    let bytes = mischief.between(1, 64) << 16;
                    let mut start = 0_usize;
                    call!(runtime, cudaMalloc(address(&mut start), bytes))?;
                    call!(runtime, cudaMemsetAsync(start, 0, bytes, self.stream))?;
                    call!(runtime, cudaFree(start))?;
                }
            }
            Cause::CaptureWhileServing => {
                let (size, _) = self.graphs[mischief.below(self.graphs.len() as u64)];
                let executable = self.capture(size)?;
                call!(self.gpu.runtime, cudaGraphExecDestroy(executable))?;
            }
            Cause::GraphReinstantiation => {
                for _ in 0..mischief.between(1, 3) {
                    let at = mischief.below(self.graphs.len() as u64);
                    let (_, old) = self.graphs[at];
                    let mut new = 0_usize;
                    call!(
                        runtime,
                        cudaGraphInstantiate(address(&mut new), self.captured_graphs[at], 0)
                    )?;
                    call!(runtime, cudaGraphExecDestroy(old))?;
                    self.graphs[at].1 = new;
                }
            }
            Cause::ModuleLoad => {
                for _ in 0..mischief.between(1, 3) {
                    // The compiler.
                    thread::sleep(self.step_time / 20);
                    let (mut module, mut function) = (0_usize, 0_usize);
                    call!(
                        self.gpu.driver,
                        cuModuleLoadData(address(&mut module), c"triton".as_ptr().addr())
                    )?;
                    let name = c"_compute_slot_mapping_kernel".as_ptr().addr();
                    call!(
                        self.gpu.driver,
                        cuModuleGetFunction(address(&mut function), module, name)
                    )?;
                }
            }
            Cause::StreamCreation => {
                for _ in 0..mischief.between(1, 4) {
                    let mut stream = 0_usize;
                    call!(runtime, cudaStreamCreateWithPriority(address(&mut stream), 1, 0))?;
                    call!(runtime, cudaStreamDestroy(stream))?;
                }
            }
            Cause::EventCreation => {
                for _ in 0..mischief.between(400, 800) {
                    let mut event = 0_usize;
                    call!(runtime, cudaEventCreateWithFlags(address(&mut event), 2))?;
                    call!(runtime, cudaEventDestroy(event))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// When the inputs are on their way.
    pub(super) fn spoil_inputs(&mut self, mischief: &mut Mischief) -> Result<()> {
        let runtime = &self.gpu.runtime;
        let (device, staging) = (self.memory.inputs(), self.memory.staging());
        match mischief.cause {
            Cause::PageableCopy => {
                for _ in 0..mischief.between(1, 5) {
                    let bytes = mischief.between(1, self.pageable.len());
                    let from = self.pageable.as_ptr().addr();
                    call!(runtime, cudaMemcpyAsync(device, from, bytes, 1, self.stream))?;
                }
            }
            Cause::SyncCopy => {
                for _ in 0..mischief.between(1, 4) {
                    match mischief.below(3) {
                        0 => call!(runtime, cudaMemcpy(device, staging, 4096, 1))?,
                        1 => call!(runtime, cudaMemcpy(staging, device, 64, 2))?,
                        _ => call!(runtime, cudaMemset(device, 0, 4096))?,
                    }
                }
            }
            Cause::HostHeldUp => {
                // Python's garbage collection, another thread with the lock, a processor too few.
                thread::sleep(self.step_time * u32::try_from(mischief.between(3, 8))? / 2);
            }
            _ => {}
        }
        Ok(())
    }

    /// When the model has been queued, and before its output is.
    pub(super) fn spoil_model(&mut self, mischief: &mut Mischief) -> Result<()> {
        let runtime = &self.gpu.runtime;
        match mischief.cause {
            Cause::SyncInStep => match mischief.below(3) {
                0 => call!(runtime, cudaStreamSynchronize(self.stream)),
                1 => call!(runtime, cudaDeviceSynchronize()),
                _ => {
                    let mut event = 0_usize;
                    call!(runtime, cudaEventCreateWithFlags(address(&mut event), 2))?;
                    call!(runtime, cudaEventRecord(event, self.stream))?;
                    call!(runtime, cudaEventSynchronize(event))?;
                    call!(runtime, cudaEventDestroy(event))
                }
            },
            Cause::QueueFull => {
                let launches = mischief.between(QUEUED + 200, 2 * QUEUED);
                (0..launches).try_for_each(|_| kernels::elementwise(&self.gpu, self.stream))
            }
            _ => Ok(()),
        }
    }
}
