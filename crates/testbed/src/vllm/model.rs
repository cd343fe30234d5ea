//! A Llama of a billion parameters, as the CUDA calls of its loading and of its steps.
//!
//! The calls of a step, their order and their number are those that vLLM 0.20 with FlashAttention was seen to make on
//! an H100: with graphs about a dozen copies, sixteen launches and one graph launch, eagerly fourteen launches a layer.

mod kernels;
mod memory;
mod spoilt;

use std::time::Duration;

use anyhow::Result;

use super::gpu::{Gpu, address, call};
use super::misbehaviour::{Cause, Mischief};
use super::protocol::Start;
use super::scheduler::Step;
use kernels::{Kernels, Shape};
use memory::Memory;

const LAYERS: usize = 16;
const LAUNCHES_PER_LAYER: usize = 14;
/// Before the layers, and after them.
const OTHER_LAUNCHES: usize = 6 + 9;
/// Batches whose decode step is captured as a graph.
const CAPTURE_SIZES: [usize; 7] = [32, 24, 16, 8, 4, 2, 1];
/// Half of the memory for inputs.
const MAX_INPUT: usize = 1 << 20;
/// An id of 32 bits.
const BYTES_OF_A_TOKEN: usize = 4;
/// Tokens of prompts for which one block on each multiprocessor is enough.
const TOKENS_PER_WAVE: usize = 256;

/// Bytes of what is copied from memory that is not pinned, at most.
const PAGEABLE: usize = 256 << 10;

/// The device's time for one kernel, so that a decode step takes `step`.
pub(super) fn kernel_time(step: Duration) -> Duration {
    let kernels = LAYERS * LAUNCHES_PER_LAYER + OTHER_LAUNCHES;
    step / u32::try_from(kernels).expect("a few hundred")
}

#[derive(Debug)]
pub(super) struct Model {
    gpu: Gpu,
    kernels: Kernels,
    memory: Memory,
    /// Where the model runs, and where its results are copied out.
    stream: usize,
    copy_stream: usize,
    /// Executable graphs with the batch that each is for, smallest first.
    graphs: Vec<(usize, usize)>,
    /// What these were instantiated from, if that is kept.
    captured_graphs: Vec<usize>,
    /// Host memory that is not pinned.
    pageable: Vec<u8>,
    /// How long a step takes on the device.
    step_time: Duration,
    mischief: Option<Mischief>,
    keeps_graphs: bool,
}

impl Model {
    /// Registers kernels, loads weights, warms up, sizes the cache and captures graphs, in vLLM's order.
    pub(super) fn load(gpu: Gpu, start: &Start) -> Result<Self> {
        // Compiled code registers its kernels when it is loaded, before anything is initialised.
        kernels::register(&gpu);
        start_device(&gpu)?;
        let kernels = Kernels::load(&gpu)?;
        let (mut stream, mut copy_stream) = (0_usize, 0_usize);
        call!(gpu.runtime, cudaStreamCreateWithPriority(address(&mut stream), 1, 0))?;
        call!(gpu.runtime, cudaStreamCreateWithPriority(address(&mut copy_stream), 1, 0))?;
        let memory = Memory::load_weights(&gpu, stream)?;
        let mut model = Self {
            gpu,
            kernels,
            memory,
            stream,
            copy_stream,
            graphs: Vec::new(),
            captured_graphs: Vec::new(),
            pageable: vec![0; PAGEABLE],
            step_time: start.step,
            mischief: None,
            keeps_graphs: false,
        };
        let most = start.max_num_batched_tokens;
        model.step(Step { tokens: most, prefill_tokens: most, sequences: 1 })?;
        model.memory.take_cache(&model.gpu, start.gpu_memory_utilization)?;
        let mischief = start.misbehaviour.map(Mischief::new);
        model.keeps_graphs =
            mischief.as_ref().is_some_and(|it| it.cause == Cause::GraphReinstantiation);
        if !start.enforce_eager {
            let most = start.max_num_seqs.max(1);
            for size in CAPTURE_SIZES.into_iter().filter(|size| *size <= most) {
                let graph = model.capture(size)?;
                model.graphs.insert(0, (size, graph));
            }
        }
        call!(model.gpu.runtime, cudaDeviceSynchronize())?;
        model.mischief = mischief;
        Ok(model)
    }

    pub(super) fn cache_tokens(&self) -> usize {
        self.memory.cache_tokens()
    }

    /// One step of the engine; returns when the device has computed it.
    pub(super) fn step(&mut self, step: Step) -> Result<()> {
        let mut mischief = self.mischief.take();
        let done = self.step_with(step, mischief.as_mut());
        self.mischief = mischief;
        done
    }

    fn step_with(&mut self, step: Step, mischief: Option<&mut Mischief>) -> Result<()> {
        let mut mischief = mischief.and_then(|it| it.strikes().then_some(it));
        if let Some(mischief) = &mut mischief {
            self.spoil_beginning(mischief)?;
        }
        self.prepare_inputs(step)?;
        if let Some(mischief) = &mut mischief {
            self.spoil_inputs(mischief)?;
        }
        let is_eager = mischief.as_ref().is_some_and(|it| it.cause == Cause::EagerDespiteGraph);
        let graph = self.graphs.iter().find(|(size, _)| *size >= step.sequences && !is_eager);
        match graph {
            Some((_, graph)) if step.prefill_tokens == 0 => {
                self.gpu.guards()?;
                call!(self.gpu.runtime, cudaGraphLaunch(*graph, self.stream))?;
            }
            _ => self.forward(Shape::of(step))?,
        }
        if let Some(mischief) = &mut mischief {
            self.spoil_model(mischief)?;
        }
        self.sample(Shape::of(Step { prefill_tokens: 0, ..step }))?;
        self.read_tokens(step.sequences)
    }

    /// Frees what was loaded.
    pub(super) fn unload(self) -> Result<()> {
        let runtime = &self.gpu.runtime;
        call!(runtime, cudaDeviceSynchronize())?;
        for (_, graph) in &self.graphs {
            call!(runtime, cudaGraphExecDestroy(*graph))?;
        }
        for graph in &self.captured_graphs {
            call!(runtime, cudaGraphDestroy(*graph))?;
        }
        self.memory.free(&self.gpu)?;
        call!(runtime, cudaStreamDestroy(self.stream))?;
        call!(runtime, cudaStreamDestroy(self.copy_stream))
    }

    fn prepare_inputs(&self, Step { tokens, sequences, .. }: Step) -> Result<()> {
        let mut kind = 0_u32;
        // Token ids, positions, slots; ends and lengths of sequences, their blocks, what to sample.
        let of_sequences = [4 * (sequences + 1), 4 * sequences, 32 * sequences, 4 * sequences];
        for bytes in [4 * tokens, 8 * tokens, 8 * tokens].into_iter().chain(of_sequences) {
            let bytes = bytes.min(MAX_INPUT);
            self.guarded_copy(self.memory.inputs(), self.memory.staging(), bytes, 1)?;
        }
        for _ in 0..4 {
            call!(
                self.gpu.driver,
                cuPointerGetAttribute(address(&mut kind), 2, self.memory.inputs())
            )?;
            self.guarded_copy(self.memory.inputs(), self.memory.inputs() + MAX_INPUT, 256, 3)?;
        }
        self.kernels.slot_mapping(&self.gpu, self.stream)?;
        for _ in 0..5 {
            kernels::elementwise(&self.gpu, self.stream)?;
        }
        Ok(())
    }

    fn guarded_copy(&self, to: usize, from: usize, bytes: usize, kind: usize) -> Result<()> {
        let mut capturing = 0_i32;
        self.gpu.guards()?;
        call!(self.gpu.runtime, cudaStreamIsCapturing(self.stream, address(&mut capturing)))?;
        call!(self.gpu.runtime, cudaMemcpyAsync(to, from, bytes, kind, self.stream))
    }

    fn forward(&self, shape: Shape) -> Result<()> {
        (0..LAYERS).try_for_each(|_| {
            self.kernels.layer(&self.gpu, shape, self.stream, self.memory.inputs())
        })
    }

    fn sample(&self, shape: Shape) -> Result<()> {
        self.kernels.logits(&self.gpu, shape, self.stream)?;
        (0..7).try_for_each(|_| kernels::elementwise(&self.gpu, self.stream))?;
        kernels::argmax(&self.gpu, self.stream)
    }

    /// The sampled tokens go out on a stream of their own, and the processor waits for them: this is where the
    /// device's time shows.
    fn read_tokens(&self, sequences: usize) -> Result<()> {
        let runtime = &self.gpu.runtime;
        let (mut sampled, mut copied) = (0_usize, 0_usize);
        call!(runtime, cudaEventCreateWithFlags(address(&mut sampled), 2))?;
        call!(runtime, cudaEventRecordWithFlags(sampled, self.stream, 0))?;
        call!(runtime, cudaStreamWaitEvent(self.copy_stream, sampled, 0))?;
        self.gpu.guards()?;
        let (to, from) = (self.memory.staging(), self.memory.inputs());
        let bytes = BYTES_OF_A_TOKEN * sequences.max(1);
        call!(runtime, cudaMemcpyAsync(to, from, bytes, 2, self.copy_stream))?;
        call!(runtime, cudaEventCreateWithFlags(address(&mut copied), 2))?;
        call!(runtime, cudaEventRecord(copied, self.copy_stream))?;
        call!(runtime, cudaEventSynchronize(copied))?;
        call!(runtime, cudaEventQuery(copied))?;
        call!(runtime, cudaEventDestroy(sampled))?;
        call!(runtime, cudaEventDestroy(copied))
    }

    fn capture(&mut self, size: usize) -> Result<usize> {
        let runtime = &self.gpu.runtime;
        let shape = Shape::of(Step { tokens: size, prefill_tokens: 0, sequences: size });
        let (mut graph, mut executable, mut nodes) = (0_usize, 0_usize, 0_usize);
        self.forward(shape)?;
        call!(runtime, cudaStreamSynchronize(self.stream))?;
        call!(runtime, cudaStreamBeginCapture(self.stream, 1))?;
        self.forward(shape)?;
        call!(runtime, cudaStreamEndCapture(self.stream, address(&mut graph)))?;
        call!(runtime, cudaGraphGetNodes(graph, 0, address(&mut nodes)))?;
        anyhow::ensure!(
            nodes == LAYERS * LAUNCHES_PER_LAYER,
            "the graph of batch {size} has {nodes} nodes"
        );
        call!(runtime, cudaGraphInstantiate(address(&mut executable), graph, 0))?;
        if self.keeps_graphs {
            self.captured_graphs.insert(0, graph);
        } else {
            call!(runtime, cudaGraphDestroy(graph))?;
        }
        Ok(executable)
    }
}

fn start_device(gpu: &Gpu) -> Result<()> {
    let (mut device, mut count, mut value, mut context) = (0_i32, 0_i32, 0_i32, 0_usize);
    // More than cudaDeviceProp takes.
    let mut properties = [0_u64; 256];
    call!(gpu.driver, cuInit(0))?;
    call!(gpu.driver, cuDeviceGet(address(&mut device), 0))?;
    for attribute in [75, 76, 16] {
        call!(gpu.driver, cuDeviceGetAttribute(address(&mut value), attribute, 0))?;
    }
    call!(gpu.driver, cuDevicePrimaryCtxRetain(address(&mut context), 0))?;
    call!(gpu.runtime, cudaGetDeviceCount(address(&mut count)))?;
    call!(gpu.runtime, cudaSetDevice(0))?;
    call!(gpu.runtime, cudaGetDeviceProperties(address(&mut properties), 0))?;
    call!(gpu.runtime, cudaDeviceGetAttribute(address(&mut value), 16, 0))?;
    call!(gpu.driver, cuCtxGetCurrent(address(&mut context)))
}
