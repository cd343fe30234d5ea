use super::*;

/// All that differ, not the first only.
fn compare(pairs: impl IntoIterator<Item = (String, String)>) {
    let wrong: Vec<_> = pairs.into_iter().filter(|(masked, expected)| masked != expected).collect();
    assert!(wrong.is_empty(), "masked and expected: {wrong:#?}");
}

fn pair(masked: impl Into<String>, expected: impl Into<String>) -> (String, String) {
    (masked.into(), expected.into())
}

fn line(arguments: &[&str]) -> String {
    mask_arguments(arguments.iter().copied()).join(" ")
}

#[test]
fn a_value_ends_with_its_argument() {
    let mut pairs = Vec::new();
    for (argument, expected) in [
        ("--ssl-keyfile-password=correct PLANTED staple", "--ssl-keyfile-password=***"),
        ("--api-key=x PLANTED", "--api-key=***"),
        ("--otp=X", "--otp=***"),
        ("--password=a,PLANTED --b", "--password=***"),
        ("--password=\"a\" PLANTED", "--password=***"),
        ("--password=(a PLANTED", "--password=***"),
        ("AWS_SECRET_ACCESS_KEY=a PLANTED", "AWS_SECRET_ACCESS_KEY=***"),
        ("model.api_key=a PLANTED", "model.api_key=***"),
        ("+model.api_key=a PLANTED", "+model.api_key=***"),
        ("--set=auth.password=a PLANTED", "--set=auth.password=***"),
        ("-Dpassword=a PLANTED", "-Dpassword=***"),
        ("-ePGPASSWORD=a PLANTED", "-ePGPASSWORD=***"),
        ("--user=me:a PLANTED", "--user=me:***"),
        ("Cookie: session=X; PLANTED", "Cookie: ***"),
        ("session=a PLANTED", "session=***"),
        ("Authorization: Bearer a PLANTED", "Authorization: Bearer ***"),
        ("--header=X-Api-Key: a PLANTED", "--header=X-Api-Key: ***"),
        ("X: Bearer PLANTED", "X: Bearer ***"),
        ("host=h,password=a PLANTED,port=1", "host=h,password=***,port=1"),
        ("Server=h;Password=a PLANTED;Port=1", "Server=h;Password=***;Port=1"),
        ("Server=h;Password=a,PLANTED", "Server=h;Password=***"),
        ("http://h/?a=b&token=a PLANTED&c=d", "http://h/?a=b&token=***&c=d"),
        ("postgres://me:a PLANTED@h/db?x=y", "postgres://***@h/db?x=y"),
        ("postgres://me:a/PLANTED@h/db", "postgres://***@h/db"),
        ("postgres://me:a@PLANTED@h/db", "postgres://***@h/db"),
        ("postgres://me:a#PLANTED@PLANTED@h/db", "postgres://***@h/db"),
    ] {
        pairs.push(pair(line(&["p", argument, "q"]), format!("p {expected} q")));
    }
    compare(pairs);
}

#[test]
fn a_quoted_value_ends_with_its_quote() {
    let mut pairs = Vec::new();
    for (argument, expected) in [
        ("export DB_PASSWORD='a PLANTED'; vllm serve", "export DB_PASSWORD='***'; vllm serve"),
        ("export DB_PASSWORD=\"a PLANTED\"; x", "export DB_PASSWORD=\"***\"; x"),
        ("export P_PASSWORD='it'\\''s PLANTED'; x", "export P_PASSWORD=***; x"),
        ("export P_PASSWORD=\"a\\\" PLANTED\" x", "export P_PASSWORD=\"***\" x"),
        ("export P_PASSWORD=a\\ PLANTED x", "export P_PASSWORD=*** x"),
        ("export P_PASSWORD=a\"b PLANTED\"c x", "export P_PASSWORD=*** x"),
        ("export P_PASSWORD=$'a PLANTED' x", "export P_PASSWORD=*** x"),
        ("export P_PASSWORD=${X:-a PLANTED} x", "export P_PASSWORD=*** x"),
        (
            "export P_PASSWORD='a'; export Q_TOKEN=\"b PLANTED\"; x",
            "export P_PASSWORD='***'; export Q_TOKEN=\"***\"; x",
        ),
        ("run --password 'a PLANTED' --port 1", "run --password '***' --port 1"),
        ("run --password \"a PLANTED\" --port 1", "run --password \"***\" --port 1"),
        ("run '--password=a PLANTED' --port 1", "run '--password=***' --port 1"),
        ("curl -H 'Cookie: a=b; PLANTED' h", "curl -H 'Cookie: ***' h"),
        (
            "curl -H \"Authorization: Bearer a PLANTED\" h",
            "curl -H \"Authorization: Bearer ***\" h",
        ),
        ("curl -u 'me:a PLANTED' h", "curl -u 'me:***' h"),
        ("os.environ['DB_PASSWORD'] = 'a PLANTED'; x", "os.environ['DB_PASSWORD'] = '***'; x"),
        ("f(password='a PLANTED')", "f(password='***')"),
        (
            "['p', '--token', 'a PLANTED', '--token=b PLANTED', 'q']",
            "['p', '--token', '***', '--token=***', 'q']",
        ),
        // It is not clear where these end.
        ("export P_PASSWORD='a\\' PLANTED' --token 'PLANTED'", "export P_PASSWORD='***"),
        ("export P_PASSWORD='a PLANTED", "export P_PASSWORD='***"),
        (
            "sh -c \"P_PASSWORD=x\" --token \"a PLANTED\"",
            "sh -c \"P_PASSWORD=***\" --token \"***\"",
        ),
        ("sh -c \"run; P_PASSWORD=x\" --token \"a PLANTED\"", "sh -c \"run; P_PASSWORD=***"),
    ] {
        pairs.push(pair(line(&["p", "-c", argument, "q"]), format!("p -c {expected} q")));
    }
    compare(pairs);
}

#[test]
fn a_string_of_json_ends_with_its_quote() {
    let mut pairs = Vec::new();
    for (argument, expected) in [
        ("{\"hf_token\": \"a PLANTED\"}", "{\"hf_token\": \"***\"}"),
        ("\"redis_password\":\"x a PLANTED\"", "\"redis_password\":\"***\""),
        (
            "{\"password\" : \"a\\\" PLANTED\\\\\", \"port\": 1}",
            "{\"password\" : \"***\", \"port\": 1}",
        ),
        ("{\"password\":\"a, b} PLANTED\",\"port\":1}", "{\"password\":\"***\",\"port\":1}"),
        ("{\"a\":{\"apiKey\":\"x PLANTED\"},\"b\":[1]}", "{\"a\":{\"apiKey\":\"***\"},\"b\":[1]}"),
        ("{\"api key\":\"x PLANTED\"}", "{\"api key\":\"***\"}"),
        ("{\"api_keys\": [\"x]\", \"PLANTED\"], \"b\": 1}", "{\"api_keys\": ***, \"b\": 1}"),
        ("{\"secret\": {\"x\": \"a PLANTED\"}, \"b\": 1}", "{\"secret\": ***, \"b\": 1}"),
        ("{\"otp\": 123456, \"b\": 1}", "{\"otp\": ***, \"b\": 1}"),
        (
            "{\\\"token\\\": \\\"a \\\\\\\" PLANTED\\\", \\\"b\\\": 1}",
            "{\\\"token\\\": \\\"***\\\", \\\"b\\\": 1}",
        ),
        (
            "{\"argv\": [\"--api-key\", \"a PLANTED\", \"m\"]}",
            "{\"argv\": [\"--api-key\", \"***\", \"m\"]}",
        ),
        ("{password: a PLANTED, port: 1}", "{password: ***, port: 1}"),
        ("{\"token\": \"a PLANTED", "{\"token\": \"***"),
    ] {
        pairs.push(pair(
            line(&["p", "--config", argument, "q"]),
            format!("p --config {expected} q"),
        ));
        let joined = format!("--config={argument}");
        pairs.push(pair(line(&["p", &joined, "q"]), format!("p --config={expected} q")));
    }
    compare(pairs);
}

#[test]
fn the_argument_behind_an_option_is_its_value() {
    let mut pairs = Vec::new();
    for (arguments, expected) in [
        (&["--password", "-PLANTED", "m"][..], "--password *** m"),
        (&["--password", "two PLANTED", "m"], "--password *** m"),
        (&["--password", "--port", "1"], "--password --port 1"),
        (&["--password", "--", "PLANTED", "m"], "--password -- *** m"),
        (&["--private-key", "-----BEGIN PRIVATE KEY-----\nPLANTED", "m"], "--private-key *** m"),
        (&["--password", "", "m"], "--password  m"),
        (&["--jwt", "X", "m"], "--jwt *** m"),
        (&["--pat", "X", "m"], "--pat *** m"),
        (&["--passcode", "X", "m"], "--passcode *** m"),
        (&["-storepass", "-X", "m"], "-storepass *** m"),
        (&["--api-key", "-x1", "x2", "-p", "8000"], "--api-key *** *** -p 8000"),
        (&["-u", "me:two PLANTED", "h"], "-u me:*** h"),
        (&["-H", "Cookie: session=X", "h"], "-H Cookie: *** h"),
        (
            &["bash", "-lc", "TOKEN=x vllm serve; P_PASSWORD='a PLANTED' q"],
            "bash -lc TOKEN=*** vllm serve; P_PASSWORD='***' q",
        ),
        (
            &["/bin/sh", "-c", "vllm serve m --api-key x y --port 1 && q"],
            "/bin/sh -c vllm serve m --api-key *** *** --port 1 && q",
        ),
    ] {
        pairs.push(pair(
            mask_arguments(["p"].into_iter().chain(arguments.iter().copied())).join(" "),
            format!("p {expected}"),
        ));
    }
    compare(pairs);
}

#[test]
fn a_value_in_a_title_ends_at_the_next_option() {
    let mut pairs = Vec::new();
    for (title, expected) in [
        ("p --password=correct PLANTED staple --port 1", "p --password=*** --port 1"),
        ("p --password -a PLANTED -b PLANTED", "p --password ***"),
        ("p --password \"a\" PLANTED --port 1", "p --password *** --port 1"),
        ("p --password a; PLANTED} PLANTED, PLANTED --port 1", "p --password *** --port 1"),
        ("p TOKEN=x PLANTED", "p TOKEN=***"),
        ("TOKEN=x PLANTED", "TOKEN=***"),
        ("p -u me:a PLANTED", "p -u me:***"),
        ("p -H Cookie: session=X; PLANTED --port 1", "p -H Cookie: *** --port 1"),
        ("p {\"token\": \"a PLANTED\", \"b\": 1} m", "p {\"token\": \"***\", \"b\": 1} m"),
        ("VLLM::EngineCore_DP0", "VLLM::EngineCore_DP0"),
        ("nginx: worker process (a=b)", "nginx: worker process (a=b)"),
    ] {
        pairs.push(pair(line(&[title]), expected));
        // What the title has not overwritten is behind it.
        pairs.push(pair(line(&[title, "", "x"]), format!("{expected}  x")));
    }
    compare(pairs);
}

#[test]
fn values_of_secret_names_are_masked() {
    let mut pairs = Vec::new();
    for (text, expected) in [
        ("vllm serve m --api-key x1 x2 --port 8000", "vllm serve m --api-key *** *** --port 8000"),
        ("p --token=x --hf-token x m", "p --token=*** --hf-token *** m"),
        ("p --hf_token x --password x", "p --hf_token *** --password ***"),
        (
            "env AWS_SECRET_ACCESS_KEY=x AWS_ACCESS_KEY_ID=y p",
            "env AWS_SECRET_ACCESS_KEY=*** AWS_ACCESS_KEY_ID=*** p",
        ),
        ("p model.api_key=x password=x", "p model.api_key=*** password=***"),
        ("p --config {\"apiKey\":\"x\",\"port\":1}", "p --config {\"apiKey\":\"***\",\"port\":1}"),
        ("curl -u me:x http://h", "curl -u me:*** http://h"),
        ("p http://me:x@h:1/p?a=b s3+https://x@h", "p http://***@h:1/p?a=b s3+https://***@h"),
        ("p https://h/p?X-Amz-Signature=x&a=b", "p https://h/p?X-Amz-Signature=***&a=b"),
        ("p hf_abcdefghijklmnop AKIAIOSFODNN7EXAMPLE", "p *** ***"),
        ("p --endpoint=http://me:x@h", "p --endpoint=http://***@h"),
    ] {
        pairs.push(pair(mask_arguments(text.split(' ')).join(" "), expected));
        pairs.push(pair(mask(text), expected));
    }
    compare(pairs);
    assert_eq!(
        mask("curl -H Authorization: Bearer x http://h/"),
        "curl -H Authorization: Bearer ***"
    );
}

#[test]
fn what_is_no_secret_stays() {
    let mut pairs = Vec::new();
    for text in [
        "/usr/bin/python3 -m vllm.entrypoints.openai.api_server --model meta-llama/Llama-2-7b-hf",
        "vllm serve m --max-num-batched-tokens 8192 --tokenizer t --max-model-len=2048",
        "vllm serve m --ssl-keyfile /k.pem --tokenizer-mode auto --token-count 3",
        "vllm serve m --path /p --pattern=*.py --max-tokens 5 --served-model-name n --dispatch d",
        "p patience=3 --patience 3 {\"patience\":3,\"path\":\"/a\"} --cookie-jar f a.path:b",
        "python3 -c from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)",
        "VLLM::EngineCore_DP0",
        "p --token --verbose --auth-file /x key=value author=me sort-key=a -p 80",
        "p http://host:8000/v1?a=b c:d \u{00e4}\u{00f6}=\u{20ac}: hf_transfer sk-learn",
        "p http://[::1]:8000/a@b https://h/npm@1 git@h:a/b",
        "HF_HOME=/root/.cache PYTHONPATH=/a:/b",
        "it's \"a don't",
    ] {
        pairs.push(pair(mask(text), text));
        pairs.push(pair(mask_arguments(text.split(' ')).join(" "), text));
        pairs.push(pair(mask_arguments([text]).join(" "), text));
    }
    compare(pairs);
}

/// Values of all that quotes, separates and opens, from a fixed series of numbers.
fn hostile_values(count: usize) -> impl Iterator<Item = String> {
    const PIECES: [&str; 28] = [
        " ", " ", "'", "\"", "\\", ",", ";", "=", ":", "{", "}", "[", "]", "(", ")", "&", "-",
        "--x", "$", "`", "\n", "\u{e4}", "@", "//", "a=", "token ", "\"b\":", "PLANTED",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    (0..count).map(move |_| {
        let mut value: String = (0..next(8)).map(|_| PIECES[next(PIECES.len())]).collect();
        value.push_str("PLANTED");
        value
    })
}

#[test]
fn no_hostile_value_leaks() {
    let json = |value: &str| serde_json::to_string(value).unwrap();
    let single = |value: &str| format!("'{}'", value.replace('\'', "'\\''"));
    let mut leaks = Vec::new();
    for value in hostile_values(20_000) {
        let mut try_it = |arguments: &[&str]| {
            let masked = line(arguments);
            if masked.contains("PLANTED") {
                leaks.push((arguments.join(" "), masked));
            }
        };
        try_it(&["p", &format!("--password={value}")]);
        try_it(&["p", "-H", &format!("X-Api-Key: {value}")]);
        if !scan::is_long_option(value.as_bytes()) {
            try_it(&["p", "--password", &value]);
        }
        if !value.contains(['"', '\'', '`', '@', '/', '?', '#']) {
            try_it(&["p", &format!("http://me:x{value}@h/")]);
        }
        if !["--x", "--a", "--t", "--P"].iter().any(|option| value.contains(option)) {
            try_it(&[&format!("p --password {value} --port 1")]);
            try_it(&[&format!("p --password={value} --port 1")]);
        }
        let object = format!("{{\"a\":1,\"password\": {},\"b\":2}}", json(&value));
        let masked = "{\"a\":1,\"password\": \"***\",\"b\":2}";
        assert_eq!(mask(&object), masked);
        let nested = format!("{{\"c\":{}}}", json(&object));
        assert_eq!(mask(&nested), format!("{{\"c\":{}}}", json(masked)));
        let twice = format!("{{\"d\":{}}}", json(&nested));
        assert_eq!(mask(&twice), format!("{{\"d\":{}}}", json(&mask(&nested))));
        try_it(&["p", "--config", &object]);
        try_it(&["p", &format!("[\"--password\", {}]", json(&value))]);
        // Of a shell, and of Python, which has other escapes.
        let dollar = value.replace(['$', '`'], "");
        for quoted in [single(&value), json(&dollar).replace("\\n", "\n")] {
            for script in [
                format!("export DB_PASSWORD={quoted}; run --port 1"),
                format!("run --password {quoted} --port 1"),
                format!("run --password={quoted} --port 1"),
                format!("(run; DB_PASSWORD={quoted}) && b"),
            ] {
                try_it(&["sh", "-c", &script]);
                try_it(&["p", "-c", &script]);
                try_it(&["sh", "-c", &format!("sh -c {}", single(&script))]);
                try_it(&["p", &format!("{{\"run\":{}}}", json(&script))]);
            }
        }
    }
    let shortest = leaks.iter().min_by_key(|(_, masked)| masked.len());
    assert!(leaks.is_empty(), "{} leaks, as {shortest:#?}", leaks.len());
}
