//! What a reader of a run's figures should know: what is missing, and what a figure does not mean.

use crate::{plan::Plan, record::RequestRecord, summary::is_together};

/// Above this share of chunks that came together, gaps between chunks say little of tokens.
const MANY_TOGETHER: f64 = 0.05;

pub(crate) fn notes(records: &[RequestRecord], plan: &Plan) -> Vec<String> {
    let counted = || records.iter().filter(|record| !record.warmup);
    let answers: Vec<&RequestRecord> = counted().filter(|record| record.succeeded()).collect();
    let all = answers.len();
    let mut notes = Vec::new();
    let mut say_of = |wanted: &dyn Fn(&RequestRecord) -> bool, what: &str| {
        let count = answers.iter().filter(|&&record| wanted(record)).count();
        if count > 0 {
            notes.push(format!("{count} of {all} answers {what}"));
        }
    };
    say_of(
        &|record| record.output_tokens.is_none() && record.input_tokens.is_none(),
        "came without `usage`: their token counts are unknown, and so are the totals",
    );
    say_of(
        &|record| record.output_tokens.is_none() && record.input_tokens.is_some(),
        "came with a `usage` that does not count output tokens: TPOT and tokens/s are unknown, and so are the totals",
    );
    say_of(
        &|record| record.output_tokens.is_some() && record.input_tokens.is_none(),
        "came with a `usage` that does not count input tokens: their total is unknown",
    );
    if plan.options.stream {
        say_of(
            &|record| !record.streamed,
            "came in one piece, though a stream was asked for: their TTFT, ITL and TPOT are unknown",
        );
    } else if all > 0 {
        notes.push("not streamed, so TTFT, ITL and TPOT are unknown".to_owned());
    }
    notes.extend(on_counts(&answers));
    notes.extend(on_batches(&answers));
    let several = answers.iter().filter(|record| record.several_choices).count();
    if several > 0 {
        notes.push(format!(
            "{several} of {all} answers have several choices: text and times are those of the first, tokens those of all"
        ));
    }
    let retried = counted().filter(|record| record.retried).count();
    if retried > 0 {
        notes.push(format!(
            "{retried} of {} requests were sent twice: the server had closed the connection that was kept for them",
            counted().count()
        ));
    }
    let failed = records.iter().filter(|record| record.warmup && !record.succeeded()).count();
    if failed > 0 {
        notes.push(format!("{failed} requests of the warm-up failed"));
    }
    let sent = records.len();
    if let Some(distinct) = plan.load.prompts.distinct().filter(|&distinct| sent > distinct) {
        notes.push(format!(
            "{distinct} distinct prompts for {sent} requests: a prefix cache makes repeated prompts start sooner"
        ));
    }
    notes
}

/// The chunks that came against the tokens that the server counts.
fn on_counts(answers: &[&RequestRecord]) -> Vec<String> {
    let of_sort = |wanted: fn(u64, u64) -> bool| {
        let (mut count, mut chunks, mut tokens) = (0, 0, 0);
        for record in answers.iter().filter(|record| !record.several_choices) {
            let came = record.chunk_offsets_ms.len() as u64;
            let Some(counted) =
                record.output_tokens.filter(|&counted| came > 0 && wanted(came, counted))
            else {
                continue;
            };
            (count, chunks, tokens) = (count + 1, chunks + came, tokens + counted);
        }
        (count > 0).then_some((count, chunks, tokens))
    };
    let all = answers.len();
    let several = of_sort(|came, counted| came < counted).map(|(count, chunks, tokens)| {
        format!(
            "{count} of {all} answers have several tokens in a chunk ({tokens} in {chunks}): ITL is the time between \
             chunks, TPOT that between tokens"
        )
    });
    let none = of_sort(|came, counted| came > counted).map(|(count, chunks, tokens)| {
        format!(
            "{count} of {all} answers have more chunks with text than the server counts tokens ({chunks} for {tokens}): \
             TPOT and tokens/s follow the server's count"
        )
    });
    several.into_iter().chain(none).collect()
}

/// Chunks that came in one piece have no time between them.
fn on_batches(answers: &[&RequestRecord]) -> Option<String> {
    let gaps = || answers.iter().flat_map(|record| record.gaps_ms());
    let (all, together) = (gaps().count(), gaps().filter(|&gap| is_together(gap)).count());
    let share = together as f64 / all as f64;
    (share > MANY_TOGETHER).then(|| {
        format!(
            "{:.0} % of the chunks came together with the one before: ITL shows how chunks were bundled on their way, \
             TPOT is what a token took",
            share * 100.0
        )
    })
}
