//! A stand-in for vLLM's server; see `testbed::vllm`.

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    testbed::vllm::main()
}
