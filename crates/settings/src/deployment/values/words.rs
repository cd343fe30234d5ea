//! Several words in one value: arguments, and variables.

/// Words of a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

/// Environment variables in the order given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(pub Vec<(String, String)>);

pub(in crate::deployment) fn variables(value: &str) -> Result<Variables, String> {
    const ACCEPTED: &str =
        "accepted: NAME=VALUE, several separated by spaces, quoted as in a shell";
    let words = split(value).ok_or(ACCEPTED)?;
    let mut variables = Vec::new();
    for word in words {
        let (name, value) = word.split_once('=').ok_or(ACCEPTED)?;
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.starts_with(|c: char| !c.is_ascii_digit());
        if !is_name {
            return Err(format!("{name:?} is not the name of a variable; {ACCEPTED}"));
        }
        if variables.iter().any(|(earlier, _)| earlier == name) {
            return Err(format!("{name} is there twice"));
        }
        variables.push((name.to_owned(), value.to_owned()));
    }
    Ok(Variables(variables))
}

/// Long ones that the rest of the deployment decides.
const REFUSED: [&str; 9] = [
    "--api-key",
    "--host",
    "--model",
    "--port",
    "--shutdown-timeout",
    "--ssl-certfile",
    "--ssl-keyfile",
    "--tensor-parallel-size",
    "--uds",
];

/// Refuses what the rest of the deployment has to know.
pub(in crate::deployment) fn vllm_arguments(value: &str) -> Result<Words, String> {
    let words = split(value)
        .ok_or("a quote is open; accepted: arguments separated by spaces, quoted as in a shell")?;
    for word in &words {
        let option = option_of(word);
        let way_out = match &option[..] {
            "--host" => "the probes and the service ask all addresses of the pod",
            "--api-key" => {
                "it would be in every command line, and so in traces; VLLM_ENV may set VLLM_API_KEY"
            }
            "--port" => "the probes and the service ask port 8000; NODE_PORT is the port outside",
            "--uds" => "the probes and the service ask a TCP port",
            "--ssl-keyfile" | "--ssl-certfile" => "the probes ask by plain HTTP",
            "--model" => "MODEL names it",
            "--tensor-parallel-size" | "-tp" => "TENSOR_PARALLEL_SIZE says it, with GPUS",
            "--shutdown-timeout" => "DRAIN_TIMEOUT says it, and the pod's grace period follows",
            _ => continue,
        };
        return Err(format!("{option} cannot go here: {way_out}"));
    }
    Ok(Words(words))
}

/// As vLLM's parser reads it: `_` is `-`, a beginning stands for the only option that begins so, and
/// `-tp2` has its value in it.
fn option_of(word: &str) -> String {
    let name = word.split('=').next().unwrap_or(word);
    if name.starts_with("-tp") {
        return "-tp".to_owned();
    }
    let name = if name.starts_with("--") { name.replace('_', "-") } else { name.to_owned() };
    let is_beginning = |option: &&&str| name.len() > 5 && option.starts_with(&name);
    let refused = REFUSED.iter().find(is_beginning);
    refused.map_or(name.clone(), |option| (*option).to_owned())
}

fn split(value: &str) -> Option<Vec<String>> {
    shlex::split(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_split_as_a_shell_does() {
        let variables = variables("A=1 B='two words' C=").unwrap();
        let expected = [("A", "1"), ("B", "two words"), ("C", "")];
        assert_eq!(variables.0, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for bad in ["A", "1A=2", "A-B=1", "=1", "A='", "A=1 A=2"] {
            assert!(super::variables(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn arguments_that_the_deployment_must_know_are_refused() {
        let Words(words) = vllm_arguments("--seed 1 --chat-template='{% if $(x) %}'").unwrap();
        assert_eq!(words, ["--seed", "1", "--chat-template={% if $(x) %}"]);
        for (bad, way_out) in [
            ("--port 9000", "NODE_PORT"),
            ("--port=9000", "NODE_PORT"),
            ("--seed=1 -tp 2", "TENSOR_PARALLEL_SIZE"),
            ("-tp=2", "TENSOR_PARALLEL_SIZE"),
            ("-tp2", "TENSOR_PARALLEL_SIZE"),
            ("--tensor_parallel_size 2", "TENSOR_PARALLEL_SIZE"),
            ("--tensor-parallel-siz 2", "TENSOR_PARALLEL_SIZE"),
            ("--ssl_keyfile k", "plain HTTP"),
            ("--host 127.0.0.1", "all addresses"),
            ("--api-key k", "VLLM_API_KEY"),
            ("--seed '", "a quote is open"),
        ] {
            assert!(vllm_arguments(bad).unwrap_err().contains(way_out), "{bad}");
        }
    }
}
