//! `ebpf-cuda-tracer`: the sidecar.

use std::process::ExitCode;

use settings::LogFormat;
use sidecar::{
    capabilities,
    commands::{check_s3, fetch, status},
    config::{Command, Config},
    daemon, escape,
};
use tokio::runtime::Runtime;
use tracing::{Level, error};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

fn main() -> ExitCode {
    let config = match Config::parse_from(std::env::args_os()) {
        Ok(config) => config,
        Err(error) => {
            // Printing to a closed stream is nobody's concern here.
            let _: std::io::Result<()> = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    start_logging(config.settings.log_format, &config.local.rust_log);
    let result = start_runtime(&config).and_then(|runtime| {
        let result = runtime.block_on(async {
            match config.command.clone() {
                None => daemon::run(config).await,
                Some(Command::Fetch { out, selection }) => {
                    fetch::run(&config, &out, &selection).await
                }
                Some(Command::Status { json }) => status::run(&config, json).await,
                Some(Command::CheckS3) => check_s3::run(&config).await,
            }
        });
        // A thread that is given up on must not hold up the end.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Its threads serve HTTP and upload. The daemon itself runs on the main thread, which traces.
fn start_runtime(config: &Config) -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    if config.command.is_none() {
        capabilities::seal_process()?;
        let trace_dir = config.settings.trace_dir.clone();
        builder.on_thread_start(move || capabilities::keep_files_only(&trace_dir));
    }
    Ok(builder.build()?)
}

fn start_logging(format: LogFormat, filter: &str) {
    let filter = EnvFilter::new(with_store(filter));
    let is_coloured =
        format == LogFormat::Human && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(escape::Log { is_coloured });
    // Whatever RUST_LOG says: the AWS SDK tells there which command gives credentials, with its arguments.
    let discreet =
        filter_fn(|event| *event.level() != Level::TRACE || !event.target().starts_with("aws_"));
    match format {
        LogFormat::Human => {
            log.with_target(false).with_ansi(is_coloured).finish().with(discreet).init();
        }
        LogFormat::Json => log.json().finish().with(discreet).init(),
    }
}

/// The crate `store` is a part of the sidecar: a level for the one holds for the other.
fn with_store(filter: &str) -> String {
    let of_store = |directive: &str| {
        let (module, level) = directive.split_once('=')?;
        (module.trim() == "sidecar").then(|| format!("store={level},"))
    };
    // What is said of the store itself comes later, and holds.
    let more: String = filter.split(',').filter_map(of_store).collect();
    format!("{more}{filter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_for_the_sidecar_is_one_for_the_store() {
        for (written, read) in [
            ("info,aws_config=error", "info,aws_config=error"),
            ("warn,sidecar=debug", "store=debug,warn,sidecar=debug"),
            ("sidecar=info,store=off", "store=info,sidecar=info,store=off"),
        ] {
            assert_eq!(with_store(written), read);
        }
    }
}
