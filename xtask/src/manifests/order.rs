//! A task's own flags may stand anywhere among settings: they are moved in front, as clap takes all that
//! follows the first setting for settings.

use std::ffi::OsString;

use clap::Command;

/// The argument of a task that takes settings.
const SETTINGS: &str = "settings";

/// The command line with the own flags of its task in front; unchanged for tasks without settings.
pub(crate) fn own_flags_first(cli: &Command, arguments: Vec<OsString>) -> Vec<OsString> {
    let task = arguments.iter().enumerate().skip(1).find_map(|(at, word)| {
        let task = cli.get_subcommands().find(|task| *word == *task.get_name())?;
        Some((at, task))
    });
    let Some((at, task)) =
        task.filter(|(_, task)| task.get_arguments().any(|argument| argument.get_id() == SETTINGS))
    else {
        return arguments;
    };
    // Whether it is one of them, and a value follows.
    let own = |flag: &str| {
        let mut flags =
            task.get_arguments().chain(cli.get_arguments().filter(|one| one.is_global_set()));
        let found = flags.find(|one| {
            let long = one.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long));
            let short = one.get_short().is_some_and(|short| flag == format!("-{short}"));
            long || short
        });
        found.map(|one| one.get_action().takes_values())
    };
    let mut words = arguments.into_iter();
    let mut ordered: Vec<OsString> = words.by_ref().take(at + 1).collect();
    let mut settings: Vec<OsString> = Vec::new();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        if text == "--" {
            settings.push(word);
            settings.extend(words.by_ref());
            break;
        }
        let (flag, has_value) = match text.split_once('=') {
            Some((flag, _)) => (flag, true),
            None => (&text[..], false),
        };
        let (to, takes_value) = match own(flag) {
            Some(takes_value) => (&mut ordered, takes_value),
            // Every setting has a value, which may look like a flag.
            None => (&mut settings, flag.starts_with("--")),
        };
        to.push(word);
        if takes_value && !has_value {
            to.extend(words.next());
        }
    }
    ordered.append(&mut settings);
    ordered
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn ordered(line: &str) -> String {
        let words = line.split_whitespace().map(OsString::from).collect();
        let ordered = own_flags_first(&crate::Cli::command(), words);
        ordered.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn own_flags_are_moved_in_front_of_settings_with_their_values() {
        for (line, expected) in [
            ("xtask deploy --s3-bucket b --timeout 5", "xtask deploy --timeout 5 --s3-bucket b"),
            ("xtask deploy --s3-bucket=b -n --restart", "xtask deploy -n --restart --s3-bucket=b"),
            (
                "xtask -n all --model m --kubeconfig=k --gpus 2 --no-import",
                "xtask -n all --kubeconfig=k --no-import --model m --gpus 2",
            ),
            // A value that looks like a flag, and what is told to be no flag.
            (
                "xtask deploy --vllm-args --timeout --gpus 2",
                "xtask deploy --vllm-args --timeout --gpus 2",
            ),
            ("xtask deploy --gpus 2 -- --timeout 5", "xtask deploy --gpus 2 -- --timeout 5"),
            // Of which all is for another program.
            ("xtask manifests --gpus 2 --dry-run", "xtask manifests --gpus 2 --dry-run"),
            ("xtask logs vllm -f", "xtask logs vllm -f"),
            ("xtask", "xtask"),
        ] {
            assert_eq!(ordered(line), expected);
        }
    }
}
