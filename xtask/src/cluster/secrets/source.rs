//! Where secret values come from: a file, the environment, a prompt without echo.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::Path,
    process,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::single_line;
use tasks::advice::explained;

use crate::cluster::aws_profile;
use settings::names::AWS_SECRET_KEYS;

pub(super) fn token(file: Option<&Path>) -> Result<String> {
    let what = "the Hugging Face token";
    if let Some(file) = file {
        return single_line(&read(file)?, &format!("{what} in {}", file.display()));
    }
    for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(token) = env::var(variable).ok().filter(|token| !token.trim().is_empty()) {
            return single_line(&token, variable);
        }
    }
    if !io::stdin().is_terminal() {
        return Err(explained(
            "there is no Hugging Face token",
            "HF_TOKEN is not set, and nobody can be asked: stdin is no terminal",
            "set HF_TOKEN, name a file with --hf-token-file, or leave it alone with --no-hf-token",
        ));
    }
    single_line(&ask("Hugging Face token (not shown): ")?, what)
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().read_to_string(&mut text).context("cannot read the token from stdin")?;
        return Ok(text);
    }
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Keys by the names of their variables.
pub(super) fn aws_keys(file: Option<&Path>, profile: &str) -> Result<BTreeMap<String, String>> {
    let is_set = |name: &str| env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let keys: BTreeMap<String, String> = if file.is_none() && is_set(AWS_SECRET_KEYS[0]) {
        AWS_SECRET_KEYS
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), env::var(name).ok()?)))
            .filter(|(_, value)| !value.trim().is_empty())
            .collect()
    } else {
        aws_profile::keys(file, profile)?
    };
    for name in &AWS_SECRET_KEYS[..2] {
        ensure!(keys.contains_key(*name), "{name} is missing beside the other key");
    }
    keys.into_iter().map(|(name, value)| Ok((name.clone(), single_line(&value, &name)?))).collect()
}

/// A line from the terminal, which does not repeat it.
#[expect(clippy::exit, reason = "Ctrl-C ends the task, wherever it is")]
fn ask(question: &str) -> Result<String> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin).context("cannot read the settings of the terminal")?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    // Ctrl-C must not leave a terminal behind that shows nothing any more.
    let before = shown.clone();
    ctrlc::set_handler(move || {
        // There is no way to tell of a failure that would help.
        let _: Result<(), _> = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
        eprintln!();
        process::exit(130);
    })
    .context("cannot watch for Ctrl-C")?;
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).context("cannot hide what is typed")?;
    eprint!("{question}");
    let flushed = io::stderr().flush();
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &shown).context("cannot restore the terminal")?;
    eprintln!();
    flushed.and(read.map(drop)).context("cannot read from the terminal")?;
    if line.trim().is_empty() {
        bail!("nothing was typed");
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "  hf_abc\n\n").unwrap();
        assert_eq!(token(Some(&file)).unwrap(), "hf_abc");
        fs::write(&file, "hf_abc def\n").unwrap();
        let error = token(Some(&file)).unwrap_err().to_string();
        assert!(error.contains("white space inside") && !error.contains("hf_abc"), "{error}");
        fs::write(&file, "\n").unwrap();
        assert!(token(Some(&file)).unwrap_err().to_string().ends_with("is empty"));
    }
}
