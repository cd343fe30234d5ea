//! The answers of one side: from a trace, or from a file with what `--json` has printed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value as Json;

use crate::{
    answer::json,
    input::{self, Choice},
    pass::{self, Window},
    questions::{Name, Settings},
};

/// What is asked of a trace.
const QUESTIONS: [Name; 4] = [Name::Summary, Name::Steps, Name::Launches, Name::Memory];

/// A saved answer is one line; that of a long trace has some megabytes.
const MAX_LINE: u64 = 256 << 20;

/// Answers by their questions.
pub struct Source {
    /// The name of the run.
    pub run: String,
    pub answers: BTreeMap<String, Json>,
}

/// Of several runs the latest.
pub fn read(path: &Path) -> Result<Source> {
    match saved(path)? {
        Some(source) => Ok(source),
        None => asked(path),
    }
}

fn asked(path: &Path) -> Result<Source> {
    let choice = Choice { is_last: true, ..Choice::default() };
    let runs = input::find_chosen(&[PathBuf::from(path)], &choice)?.runs;
    let Some(run) = runs.last() else { bail!("{} has no trace", path.display()) };
    let settings = Settings::default();
    let questions = QUESTIONS.into_iter().map(|name| name.question(&settings));
    let mut questions = questions.collect::<Result<Vec<_>>>()?;
    let context = pass::read(run, &Window::default(), &mut questions);
    ensure!(context.calls > 0, "no call was found in {}", path.display());
    let answers = questions.into_iter().map(|question| {
        let answer = question.finish(&context);
        (answer.question.to_owned(), json::to_json(&answer, &context))
    });
    Ok(Source { run: run.name.clone(), answers: answers.collect() })
}

/// `None` if the file holds something else.
fn saved(path: &Path) -> Result<Option<Source>> {
    if !path.is_file() {
        return Ok(None);
    }
    let cannot_read = || format!("cannot read {}", path.display());
    let mut file = BufReader::new(File::open(path).with_context(cannot_read)?);
    let mut source = Source { run: String::new(), answers: BTreeMap::new() };
    loop {
        let mut line = Vec::new();
        let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.with_context(cannot_read)? == 0 {
            break;
        }
        let is_first = source.answers.is_empty();
        // A trace, compressed or not, begins with something else.
        if is_first && !line.starts_with(b"{") {
            return Ok(None);
        }
        let answer: Json = match serde_json::from_slice(&line) {
            Ok(answer) => answer,
            Err(_) if is_first => return Ok(None),
            Err(error) => bail!("{}: an answer is cut: {error}", path.display()),
        };
        let (Some(question), Some(version)) =
            (answer["question"].as_str(), answer["schema_version"].as_u64())
        else {
            if is_first {
                return Ok(None);
            }
            bail!("{}: a line is no answer", path.display());
        };
        ensure!(
            version == u64::from(json::SCHEMA_VERSION),
            "{}: answers of schema version {version}, and this program knows {}",
            path.display(),
            json::SCHEMA_VERSION
        );
        let run = answer["run"]["name"].as_str().unwrap_or_default();
        if source.run != run {
            source.answers.clear();
            run.clone_into(&mut source.run);
        }
        source.answers.insert(question.to_owned(), answer);
    }
    Ok((!source.answers.is_empty()).then_some(source))
}
