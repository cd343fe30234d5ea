//! A checked command line: everything a run needs, nothing left to refuse.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::{
    cli::{Batch, Command, Common},
    client::Options,
    prompts,
    protocol::Api,
    target::Target,
};

#[derive(Debug)]
pub struct Plan {
    pub test: Test,
    pub target: Target,
    pub options: Options,
    pub model: Option<String>,
    pub prompts: Vec<String>,
    pub count: u32,
    pub workers: u32,
    pub out: PathBuf,
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    Single,
    Batch,
}

impl Plan {
    /// An error here is wrong usage.
    pub fn new(command: Command) -> Result<Self> {
        match command {
            Command::Single(common) => {
                let prompts =
                    vec![common.prompt.clone().unwrap_or_else(|| prompts::SINGLE.to_owned())];
                Self::of(Test::Single, common, prompts, 1, 1)
            }
            Command::Batch(Batch { common, count, parallel, workers, prompts }) => {
                let prompts = match (&common.prompt, prompts) {
                    (Some(prompt), _) => vec![prompt.clone()],
                    (None, Some(path)) => prompts::from_file(&path)?,
                    (None, None) => prompts::BUILT_IN.map(str::to_owned).to_vec(),
                };
                Self::of(Test::Batch, common, prompts, count, if parallel { workers } else { 1 })
            }
        }
    }

    fn of(
        test: Test,
        common: Common,
        prompts: Vec<String>,
        count: u32,
        workers: u32,
    ) -> Result<Self> {
        let Common {
            host,
            port,
            model,
            prompt: _,
            max_tokens,
            ignore_eos,
            chat,
            no_stream,
            timeout,
            api_key,
            out,
            json,
        } = common;
        let target = Target::new(&host, port).map_err(anyhow::Error::msg)?;
        let api_key = api_key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        // The key itself stays out of the message.
        let printable = api_key.iter().all(|key| key.bytes().all(|byte| byte.is_ascii_graphic()));
        ensure!(printable, "the API key holds a character that no HTTP header can carry");
        let api = if chat { Api::Chat } else { Api::Completions };
        let options = Options { api, stream: !no_stream, max_tokens, ignore_eos, timeout, api_key };
        Ok(Self { test, target, options, model, prompts, count, workers, out, json })
    }
}

impl Test {
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batch => "batch",
        }
    }

    /// The result file is named `PREFIX_TIME.json`.
    pub fn file_prefix(self) -> &'static str {
        match self {
            Self::Single => "single_prompt_result",
            Self::Batch => "batch_prompts_result",
        }
    }
}
