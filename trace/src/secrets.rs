//! Secrets in texts that are kept or shown: command lines of traced processes, settings, messages.
//!
//! What a secret looks like cannot be known, so this goes by names: of options, of variables, of
//! parameters. A secret that is given under no name, or a harmless one, stays; the documentation
//! says to keep secrets out of command lines.

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Words that make a name one of a secret, wherever they stand in it.
const SECRET_WORDS: [&str; 11] = [
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "pwd",
    "secret",
];

/// The same at its end only: `--max-num-batched-tokens` and `--token-count` are none.
const SECRET_ENDS: [&str; 4] = ["token", "pass", "sig", "signature"];

/// What makes a key a secret one: `--ssl-keyfile` and `--sort-key` are none.
const KEY_OWNERS: [&str; 13] = [
    "access",
    "account",
    "api",
    "auth",
    "client",
    "encryption",
    "license",
    "master",
    "private",
    "secret",
    "service",
    "session",
    "signing",
];

/// Beginnings of tokens that tell by themselves what they are, and the fewest characters behind.
const TOKENS: [(&str, usize); 10] = [
    ("hf_", 12),
    ("AKIA", 12),
    ("ASIA", 12),
    ("sk-", 16),
    ("ghp_", 16),
    ("github_pat_", 16),
    ("glpat-", 16),
    ("nvapi-", 16),
    ("xoxb-", 16),
    ("eyJ", 40),
];

/// Arguments of a process with its secrets masked; one for each.
pub fn mask_arguments<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut expected = Expected::Nothing;
    let mut masked = Vec::new();
    for argument in arguments {
        let is_option = argument.starts_with('-');
        if expected != Expected::Nothing && !is_option && !argument.is_empty() {
            masked.push(mask_value(argument, expected));
            if expected != Expected::Secrets {
                expected = Expected::Nothing;
            }
            continue;
        }
        expected = Expected::Nothing;
        if is_option && !argument.contains(['=', ' ']) {
            expected = expected_after(argument);
        }
        masked.push(mask(argument));
    }
    masked
}

/// A text with its secrets masked: what stands behind their names, in addresses, and tokens.
pub fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut expected = Expected::Nothing;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        let space = &word[bare.len()..];
        if bare.is_empty() {
            masked.push_str(space);
            continue;
        }
        if expected != Expected::Nothing && !bare.starts_with('-') {
            if is_scheme(bare) {
                masked.push_str(bare);
            } else {
                masked.push_str(&mask_value(bare, expected));
                expected = Expected::Nothing;
            }
        } else {
            expected = Expected::Nothing;
            masked.push_str(&mask_word(bare));
            if bare.starts_with('-') && !bare.contains('=') {
                expected = expected_after(bare);
            } else if let Some(name) = bare.strip_suffix([':', '='])
                && is_secret_name(name.trim_matches(['"', '\'', '{', ',']))
            {
                // `Authorization: Bearer ...`, `"token": "..."`
                expected = Expected::Secret;
            } else if is_scheme(bare) && bare != "Digest" {
                expected = Expected::Secret;
            }
        }
        masked.push_str(space);
    }
    masked
}

/// What the next argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Nothing,
    Secret,
    /// Some options take many: vLLM's `--api-key` does.
    Secrets,
    /// `name:password`, as of `curl --user`.
    Login,
}

fn expected_after(option: &str) -> Expected {
    let name = option.trim_start_matches('-').trim_end_matches(':');
    match name {
        "api-key" | "api_key" => Expected::Secrets,
        "u" | "user" | "proxy-user" => Expected::Login,
        _ if option.starts_with("--") && is_secret_name(name) => Expected::Secret,
        _ if name.len() > 1 && is_secret_name(name) => Expected::Secret,
        _ => Expected::Nothing,
    }
}

fn mask_value(value: &str, expected: Expected) -> String {
    match (expected, value.split_once(':')) {
        (Expected::Login, Some((name, _))) => format!("{name}:{MASK}"),
        (Expected::Login, None) => mask(value),
        _ => MASK.to_owned(),
    }
}

fn is_scheme(word: &str) -> bool {
    ["bearer", "basic", "token"]
        .contains(&word.trim_matches(['"', '\'']).to_ascii_lowercase().as_str())
}

/// Of an option, a variable, a parameter, a field.
fn is_secret_name(name: &str) -> bool {
    /// Longer ones are none, and texts of any length come here.
    const MAX_NAME: usize = 128;
    if name.is_empty() || name.len() > MAX_NAME {
        return false;
    }
    let name = with_words_apart(name);
    let words: Vec<&str> =
        name.split(['-', '_', '.', ' ']).filter(|word| !word.is_empty()).collect();
    let Some((last, before)) = words.split_last() else { return false };
    let is_key = |last: &str, before: &[&str]| {
        last == "key" && before.last().is_some_and(|owner| KEY_OWNERS.contains(owner))
    };
    // Where a secret lies is none.
    if ["file", "path", "dir", "name", "url", "type", "mode", "env"].contains(last) {
        return false;
    }
    words.iter().any(|word| SECRET_WORDS.contains(word))
        || SECRET_ENDS.contains(last)
        || is_key(last, before)
        || *last == "id" && before.split_last().is_some_and(|(last, before)| is_key(last, before))
}

/// In lower case: `apiKey` and `AWSAccessKeyId` have words too.
fn with_words_apart(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut apart = String::new();
    for (at, c) in characters.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| characters[before]);
        let after = characters.get(at + 1);
        let begins = c.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_uppercase() && after.is_some_and(char::is_ascii_lowercase)
            });
        if begins {
            apart.push('-');
        }
        apart.push(c.to_ascii_lowercase());
    }
    apart
}

/// A word without white space: may be an option with its value, a variable, an address, JSON.
fn mask_word(word: &str) -> String {
    let word = mask_logins(word);
    let mut masked = String::with_capacity(word.len());
    let mut rest = word.as_str();
    // Names end at `=` or `:`, and so that each character is looked at only once, so do pieces.
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at + 1);
        masked.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let quoted = before[..at].trim_end_matches(['"', '\'', '\\']);
        let name = &quoted[quoted
            .rfind(|c| !is_name(c))
            .map_or(0, |last| last + quoted[last..].chars().next().map_or(1, char::len_utf8))..];
        rest = after;
        if is_secret_name(name.trim_start_matches('-')) && !after.starts_with("//") {
            let value = after.trim_start_matches(['"', '\'', '\\']);
            let quotes = &after[..after.len() - value.len()];
            let ends: &[char] =
                if quotes.is_empty() { &['&', ',', ';', '}'] } else { &['"', '\'', '\\'] };
            let end = value.find(ends).unwrap_or(value.len());
            masked.push_str(quotes);
            if end > 0 {
                masked.push_str(MASK);
            }
            rest = &value[end..];
        }
    }
    masked.push_str(rest);
    mask_tokens(&masked)
}

/// `scheme://name:password@host`, also without a password: some services take a token as a name.
fn mask_logins(word: &str) -> String {
    let mut masked = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find("://") {
        let (scheme, behind) = rest.split_at(at + 3);
        masked.push_str(scheme);
        let end = behind.find(['/', '?', '#', '"', '\'', ',']).unwrap_or(behind.len());
        let (authority, path) = behind.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => masked.extend([MASK, "@", host]),
            None => masked.push_str(authority),
        }
        rest = path;
    }
    masked.push_str(rest);
    masked
}

fn mask_tokens(word: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut masked = String::with_capacity(word.len());
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        let is_token = TOKENS
            .iter()
            .any(|(begin, more)| piece.starts_with(begin) && piece.len() >= begin.len() + more);
        masked.push_str(if is_token { MASK } else { piece });
        let next = behind.find(is_part).unwrap_or(behind.len());
        masked.push_str(&behind[..next]);
        rest = &behind[next..];
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_names_are_masked() {
        for (text, expected) in [
            (
                "vllm serve m --api-key x1 x2 --port 8000",
                "vllm serve m --api-key *** *** --port 8000",
            ),
            ("p --token=x --hf-token x m", "p --token=*** --hf-token *** m"),
            ("p --hf_token x --password x", "p --hf_token *** --password ***"),
            (
                "env AWS_SECRET_ACCESS_KEY=x AWS_ACCESS_KEY_ID=y p",
                "env AWS_SECRET_ACCESS_KEY=*** AWS_ACCESS_KEY_ID=*** p",
            ),
            ("p model.api_key=x password=x", "p model.api_key=*** password=***"),
            (
                "p --config {\"apiKey\":\"x\",\"port\":1}",
                "p --config {\"apiKey\":\"***\",\"port\":1}",
            ),
            (
                "curl -H Authorization: Bearer x http://h/",
                "curl -H Authorization: Bearer *** http://h/",
            ),
            ("curl -u me:x http://h", "curl -u me:*** http://h"),
            ("p http://me:x@h:1/p?a=b s3+https://x@h", "p http://***@h:1/p?a=b s3+https://***@h"),
            ("p https://h/p?X-Amz-Signature=x&a=b", "p https://h/p?X-Amz-Signature=***&a=b"),
            ("p hf_abcdefghijklmnop AKIAIOSFODNN7EXAMPLE", "p *** ***"),
            ("p --endpoint=http://me:x@h", "p --endpoint=http://***@h"),
        ] {
            let arguments = mask_arguments(text.split(' ')).join(" ");
            let header = text.starts_with("curl -H");
            // As arguments the header is one; as a text it is three words.
            assert_eq!(if header { mask(text) } else { arguments }, expected);
            if !text.contains("--api-key") {
                assert_eq!(mask(text), expected);
            }
        }
        let header = ["curl", "-H", "Authorization: Bearer x y", "--password", "two words"];
        let masked = mask_arguments(header);
        assert_eq!(masked, ["curl", "-H", "Authorization: Bearer *** y", "--password", "***"]);
        let shell = ["sh", "-c", "vllm serve m --api-key x"];
        assert_eq!(mask_arguments(shell)[2], "vllm serve m --api-key ***");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "/usr/bin/python3 -m vllm.entrypoints.openai.api_server --model meta-llama/Llama-2-7b-hf",
            "vllm serve m --max-num-batched-tokens 8192 --tokenizer t --max-model-len=2048",
            "vllm serve m --ssl-keyfile /k.pem --tokenizer-mode auto --token-count 3",
            "python3 -c from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)",
            "VLLM::EngineCore_DP0",
            "p --token --verbose --auth-file /x key=value author=me sort-key=a -p 80",
            "p http://host:8000/v1?a=b c:d \u{00e4}\u{00f6}=\u{20ac}: hf_transfer sk-learn",
            "HF_HOME=/root/.cache PYTHONPATH=/a:/b",
        ] {
            assert_eq!(mask(text), text);
            assert_eq!(mask_arguments(text.split(' ')).join(" "), text);
        }
    }

    #[test]
    fn texts_of_any_length_take_time_by_their_length_only() {
        for unit in ["=", ":", "a=", "token=", "://", "@", "\"key\":", "hf_", "-", "\u{20ac}="] {
            let text = unit.repeat(1 << 20 >> 2);
            assert!(mask(&text).len() <= text.len() * 4, "{unit}");
        }
    }
}
