//! What the server answers.

use serde_json::Value;

use super::{Vllm, usage};
use crate::http;

#[test]
fn whole_answers_carry_their_usage() {
    let vllm = Vllm::ready(&["--served-model-name", "first", "second"]);
    let models = http::get(&vllm.address, "/v1/models").unwrap().json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][1]["id"]),
        (&"first".into(), &"second".into())
    );
    assert_eq!(
        (&models["data"][0]["root"], &models["data"][0]["max_model_len"]),
        (&"org/model".into(), &2048.into())
    );

    let answer = vllm
        .post("/v1/completions", r#"{"model":"second","prompt":"one two three","max_tokens":20}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    assert_eq!(
        (&answer["object"], &answer["model"]),
        (&"text_completion".into(), &"second".into())
    );
    assert_eq!(answer["usage"], usage(3, 20));
    assert_eq!(
        (words(&answer["choices"][0]["text"]), &answer["choices"][0]["finish_reason"]),
        (20, &"length".into())
    );

    let chat = r#"{"model":"first","messages":[{"role":"user","content":"hello you"}],"n":2,"max_completion_tokens":7}"#;
    let answer = vllm.post("/v1/chat/completions", chat).json();
    assert_eq!(answer["usage"], usage(2, 14));
    assert_eq!(answer["choices"][1]["message"]["role"], "assistant");
    assert_eq!(words(&answer["choices"][1]["message"]["content"]), 7);

    assert_eq!(vllm.metric("vllm:generation_tokens_total"), 34);
    assert_eq!(vllm.metric("vllm:time_to_first_token_seconds_count"), 3);
    assert_eq!(vllm.metric("vllm:num_requests_running"), 0);
}

#[test]
fn streams_end_with_usage_and_done() {
    let vllm = Vllm::ready(&[]);
    let body = r#"{"model":"org/model","prompt":["one two","three"],"max_tokens":9,"stream":true,"stream_options":{"include_usage":true}}"#;
    let answer = vllm.post("/v1/completions", body);
    let events = answer.events();
    // Nine tokens for each of two prompts, the usage, the end.
    assert_eq!((events.len(), events.last()), (20, Some(&"[DONE]")), "{answer:?}");
    let events: Vec<Value> =
        events[..19].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert_eq!(
        (&events[18]["usage"], &events[18]["choices"]),
        (&usage(3, 18), &Value::Array(Vec::new()))
    );
    let ends =
        events.iter().filter(|event| event["choices"][0]["finish_reason"] == "length").count();
    assert_eq!(ends, 2);
    assert!(events[..18].iter().all(|event| event.get("usage").is_none()));

    let body = r#"{"model":"org/model","messages":[{"role":"user","content":"hi"}],"max_tokens":4,"stream":true}"#;
    let answer = vllm.post("/v1/chat/completions", body);
    let events = answer.events();
    assert_eq!((events.len(), events[5]), (6, "[DONE]"), "{answer:?}");
    let first: Value = serde_json::from_str(events[0]).unwrap();
    assert_eq!(
        (&first["object"], &first["choices"][0]["delta"]["role"]),
        (&"chat.completion.chunk".into(), &"assistant".into())
    );
    let whole = vllm
        .post("/v1/chat/completions", &body.replace("\"stream\":true", "\"stream\":false"))
        .json();
    let said: String = events[..5]
        .iter()
        .map(|event| {
            serde_json::from_str::<Value>(event).unwrap()["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        whole["choices"][0]["message"]["content"], said,
        "streamed or whole, the words are the same"
    );
}

#[test]
fn errors_are_those_of_openai() {
    let vllm = Vllm::ready(&[]);
    for (body, status, word) in [
        (r#"{"model":"other","prompt":"p"}"#.to_owned(), 404, "`other`"),
        ("{not json".to_owned(), 400, "cannot understand"),
        (
            format!(r#"{{"model":"org/model","prompt":"{}"}}"#, "word ".repeat(3000)),
            400,
            "maximum context length is 2048",
        ),
    ] {
        let answer = vllm.post("/v1/completions", &body);
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (status, &status.into()), "{answer:?}");
        assert!(error["message"].as_str().unwrap().contains(word), "{answer:?}");
    }
    assert_eq!(http::get(&vllm.address, "/none").unwrap().status, 404);
}

fn words(text: &Value) -> usize {
    text.as_str().unwrap().split_whitespace().count()
}
