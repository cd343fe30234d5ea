//! Names of secrets: of an option, a variable, a parameter, a field, a header.

/// Words that make a name one of a secret, wherever they stand in it.
const SECRET_WORDS: [&str; 14] = [
    "auth",
    "authorization",
    "bearer",
    "creds",
    "masterauth",
    "passin",
    "passout",
    "privatekey",
    "pswd",
    "pwd",
    "sastoken",
    "secret",
    "secretkey",
    "secrets",
];

/// The same as a part of a word: `PGPASSWORD` and `htpasswd` are no two words.
const SECRET_PARTS: [&str; 6] =
    ["apikey", "credential", "passcode", "passphrase", "passwd", "password"];

/// The same at the name's end only: `--max-num-batched-tokens`, `--token-count`, `--cookie-jar`
/// and `--jwt-audience` are none.
const SECRET_ENDS: [&str; 26] = [
    "accesskey",
    "accesstoken",
    "authtoken",
    "bindpw",
    "cookie",
    "cookies",
    "csrftoken",
    "jsessionid",
    "jwt",
    "keypass",
    "mnemonic",
    "oauth",
    "otp",
    "pass",
    "pat",
    "phpsessid",
    "pw",
    "requirepass",
    "sessionid",
    "sid",
    "sig",
    "signature",
    "sshpass",
    "storepass",
    "token",
    "totp",
];

/// What makes a key, and many tokens, secret ones: `--ssl-keyfile`, `--sort-key` and
/// `--max-tokens` are none.
const OWNERS: [&str; 25] = [
    "access",
    "account",
    "admin",
    "anthropic",
    "api",
    "app",
    "application",
    "auth",
    "client",
    "consumer",
    "deploy",
    "encryption",
    "hf",
    "hmac",
    "license",
    "master",
    "openai",
    "private",
    "refresh",
    "secret",
    "service",
    "session",
    "shared",
    "signing",
    "subscription",
];

/// What ends a name that only says where a secret lies, or of what kind it is.
const ABOUT: [&str; 8] = ["file", "path", "dir", "name", "url", "type", "mode", "env"];

/// Longer ones are none, and texts of any length come here.
pub(super) const MAX_NAME: usize = 128;

/// Dashes in front do not count. Of `-Dpassword=` and `-ePASSWORD=` the letter does not either.
pub(super) fn is_secret(name: &str) -> bool {
    let bare = name.trim_start_matches('-');
    let letter =
        name.len() == bare.len() + 1 && bare.starts_with(|c: char| c.is_ascii_alphabetic());
    has_secret_words(bare) || letter && has_secret_words(&bare[1..])
}

fn has_secret_words(name: &str) -> bool {
    if name.is_empty() || name.len() > MAX_NAME {
        return false;
    }
    let name = with_words_apart(name);
    let words: Vec<&str> =
        name.split(['-', '_', '.', ' ']).filter(|word| !word.is_empty()).collect();
    let Some((last, before)) = words.split_last() else { return false };
    if ABOUT.contains(last) {
        return false;
    }
    let is_key = |last: &str, before: &[&str]| {
        ["key", "keys", "tokens"].contains(&last)
            && before.last().is_some_and(|owner| OWNERS.contains(owner))
    };
    words.iter().any(|word| {
        SECRET_WORDS.contains(word) || SECRET_PARTS.iter().any(|part| word.contains(part))
    }) || SECRET_ENDS.contains(last)
        || is_key(last, before)
        || *last == "id"
            && before
                .split_last()
                .is_some_and(|(last, before)| *last == "session" || is_key(last, before))
        // Of a cookie; other sessions have names.
        || words == ["session"]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "--api-key",
            "apiKey",
            "x-api-key",
            "api_keys",
            "AWSAccessKeyId",
            "AWS_SECRET_ACCESS_KEY",
            "--hf-token",
            "HF_TOKEN",
            "hf.tokens",
            "access_tokens",
            "refresh-token",
            "csrftoken",
            "--jwt",
            "--pat",
            "GITHUB_PAT",
            "--passcode",
            "--otp",
            "totp",
            "Cookie",
            "Set-Cookie",
            "cookies",
            "session",
            "session_id",
            "PHPSESSID",
            "connect.sid",
            "PGPASSWORD",
            "SSHPASS",
            "MYSQL_PWD",
            "REDISCLI_AUTH",
            "-storepass",
            "-keypass",
            "-passin",
            "requirepass",
            "masterauth",
            "keyStorePassword",
            "-Dpassword",
            "-ePASSWORD",
            "htpasswd",
            "Proxy-Authorization",
            "AccountKey",
            "SharedAccessSignature",
            "sig",
            "private_key",
            "privateKey",
            "db_pass",
            "bindpw",
            "openai_key",
            "app-key",
            "credentials",
            "creds",
            "client_secret",
            "passphrase",
        ] {
            assert!(is_secret(name), "{name}");
        }
    }

    #[test]
    fn other_names_are_none() {
        for name in [
            "--path",
            "--pattern",
            "--max-tokens",
            "--tokenizer",
            "--served-model-name",
            "--dispatch",
            "patience",
            "--patience",
            "compat",
            "--passes",
            "bypass",
            "compass",
            "--tokens",
            "--seed",
            "--cookie-jar",
            "--jwt-audience",
            "--token-count",
            "--max-num-batched-tokens",
            "--ssl-keyfile",
            "--sort-key",
            "key",
            "author",
            "--authors",
            "spatial",
            "adopt",
            "option",
            "--session-name",
            "--password-file",
            "--auth-type",
            "sidecar",
            "resid",
            "format",
            "opt",
            "-p",
            "-u",
            "--",
            "",
            "monkeys",
            "public-key",
            "--spw",
            "tmux-session",
        ] {
            assert!(!is_secret(name), "{name}");
        }
        assert!(!is_secret(&"password-".repeat(20)));
    }
}
