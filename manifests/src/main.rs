//! `manifests`: parse, render, print.

#![forbid(unsafe_code)]

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use manifests::{cli::Cli, component, pod, yaml};

fn main() -> ExitCode {
    let cli = match Cli::parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Printing to a closed stream is nobody's concern here.
            let _: io::Result<()> = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    if cli.kubelet {
        cli.config.check()?;
        let duties = serde_json::to_string_pretty(&pod::duties(&cli.config))?;
        return print(&(duties + "\n"));
    }
    let documents = if cli.for_podman {
        pod::render(&cli.config)?
    } else {
        component::render(&cli.config, &cli.asked())?
    };
    if cli.check {
        eprintln!("{} objects are as they should be", documents.len());
        return Ok(());
    }
    print(&yaml::join(&documents))
}

fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("cannot print the objects")
}
