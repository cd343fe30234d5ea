//! Files that are given out as segments of a run, one behind the other with a zero byte between: all questions at
//! once.

#![no_main]

use std::sync::LazyLock;

use analysis::{
    answer::{json::to_json, text},
    input,
    pass::{self, Window},
    questions::{Name, Settings},
};
use fuzz::Scratch;
use libfuzzer_sys::fuzz_target;

static SEGMENTS: LazyLock<[Scratch; 3]> = LazyLock::new(|| {
    [1, 2, 3].map(|sequence| {
        Scratch::new(&format!("trace_host_20261124T032105.123Z_{sequence:06}.jsonl"))
    })
});

/// What is answered to so few lines, at most.
const MAX_ANSWER_BYTES: usize = 16 << 20;

fuzz_target!(|files: &[u8]| {
    let mut contents = files.splitn(SEGMENTS.len(), |&byte| byte == 0);
    let paths: Vec<_> = SEGMENTS
        .iter()
        .map(|segment| segment.with(contents.next().unwrap_or_default()).to_owned())
        .collect();
    let found = input::find(&paths).expect("files that are there");
    for run in &found.runs {
        let settings = Settings::default();
        // All but the one that needs a load test.
        let names = Name::by_importance();
        let mut questions: Vec<_> =
            names.iter().filter_map(|(name, _)| name.question(&settings).ok()).collect();
        assert_eq!(questions.len(), names.len() - 1);
        let context = pass::read(run, &Window::default(), &mut questions);
        for question in questions {
            let answer = question.finish(&context);
            let length =
                to_json(&answer, &context).to_string().len() + text::to_text(&answer).len();
            assert!(length < MAX_ANSWER_BYTES, "{length} bytes of answer");
        }
    }
});
