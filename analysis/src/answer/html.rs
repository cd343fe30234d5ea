//! An answer as a part of a HTML page: sentences, figures, charts and tables.

/// Writes to a text, which cannot fail.
macro_rules! put {
    ($to:expr, $($what:tt)*) => {{
        let _: std::fmt::Result = std::fmt::Write::write_fmt(&mut $to, format_args!($($what)*));
    }};
}

mod chart;
mod escape;
mod page;
mod table;

use super::{Answer, Figure, legend};
use crate::{context::Context, gap::Gap};
use chart::Charts;
use escape::escaped;
pub use page::page;

/// Bytes for rows and points of a whole page: a browser still opens it at once.
const ROOM: usize = 12 << 20;

/// Gaps that are told one by one.
const SHOWN_GAPS: usize = 12;

/// Letters of a headline that are still set in large type.
const LONG: usize = 24;

/// A page while it grows. Whatever comes from a trace goes through [`escaped`].
pub struct Html {
    text: String,
    charts: Charts,
    /// What is left for rows and points.
    room: usize,
}

/// A question as the report announces it.
pub struct Asked<'a> {
    pub answer: &'a Answer,
    /// What the question is about, as the help of the program says it.
    pub about: &'a str,
}

impl Default for Html {
    fn default() -> Self {
        Self { text: String::new(), charts: Charts::default(), room: ROOM }
    }
}

impl Html {
    /// One run: what is to be known first, what matters most, then question by question.
    pub fn run(
        &mut self,
        number: usize,
        asked: &[Asked<'_>],
        left_out: &[String],
        context: &Context,
    ) {
        let run = escaped(&context.run);
        self.push(&format!(
            "<section class=\"run\" aria-labelledby=\"r{number}\">\n<h2 id=\"r{number}\">Run \
             {run}</h2>\n"
        ));
        self.gaps(&context.gaps);
        self.glance(number, asked);
        self.push("<nav aria-label=\"Questions\"><ul>");
        for Asked { answer, .. } in asked {
            let question = answer.question;
            self.push(&format!("<li><a href=\"#r{number}-{question}\">{question}</a></li>"));
        }
        self.push("</ul></nav>\n");
        self.list("more", left_out.iter().map(|what| format!("Not asked: {what}")));
        for one in asked {
            self.answer(number, one, context);
        }
        self.push("</section>\n");
    }

    fn push(&mut self, html: &str) {
        self.text.push_str(html);
    }

    fn list(&mut self, class: &str, lines: impl Iterator<Item = String>) {
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            return;
        }
        put!(self.text, "<ul class=\"{class}\">");
        for line in lines {
            put!(self.text, "<li>{}</li>", escaped(&line));
        }
        self.push("</ul>\n");
    }

    fn gaps(&mut self, gaps: &[Gap]) {
        if gaps.is_empty() {
            return;
        }
        self.push("<aside class=\"gaps\"><h3>What this trace lacks</h3>\n");
        let more = gaps.len().saturating_sub(SHOWN_GAPS);
        let more = (more > 0).then(|| format!("{more} more, see --json"));
        self.list("", gaps.iter().take(SHOWN_GAPS).map(Gap::to_string).chain(more));
        self.push("<p>Figures that this touches say so.</p></aside>\n");
    }

    /// The headlines of all questions, or else their first sentences.
    fn glance(&mut self, number: usize, asked: &[Asked<'_>]) {
        self.push(&format!(
            "<h3 id=\"r{number}-glance\">At a glance</h3>\n<ul class=\"glance\">\n"
        ));
        for Asked { answer, .. } in asked {
            let link = format!("href=\"#r{number}-{}\"", answer.question);
            for headline in &answer.headlines {
                let value = legend::Legend::default().graded(
                    &headline.value,
                    headline.unit,
                    &headline.grade,
                );
                let grade = graded(legend::in_words(&headline.grade, headline.unit).as_deref());
                let class = if value.len() > LONG { " class=\"long\"" } else { "" };
                self.push(&format!(
                    "<li><a {link}>{}</a><strong{class}>{}</strong>{grade}<p>{}</p></li>\n",
                    escaped(&sentence(headline.title)),
                    escaped(&value),
                    escaped(&sentence(&headline.detail))
                ));
            }
            if answer.headlines.is_empty()
                && let Some(first) = answer.sentences.first()
            {
                self.push(&format!(
                    "<li><a {link}>{}</a><p>{}</p></li>\n",
                    escaped(&sentence(answer.question)),
                    escaped(&sentence(first))
                ));
            }
        }
        self.push(
            "</ul>\n<p class=\"signs\">Before a figure: <b>~</b> an estimate; <b>&gt;=</b>, \
             <b>&lt;=</b>, <b>..</b> bounds; <b>?</b> not known; no sign: exact. <a \
             href=\"#grades\">More of it</a>.</p>\n",
        );
    }

    fn answer(&mut self, number: usize, asked: &Asked<'_>, context: &Context) {
        let Asked { answer, about } = *asked;
        let Answer {
            question,
            sentences,
            headlines: _,
            figures,
            tables,
            series,
            notes,
            failure: _,
        } = answer;
        let id = format!("r{number}-{question}");
        self.push(&format!(
            "<section class=\"question\" aria-labelledby=\"{id}\">\n<h3 id=\"{id}\">{}</h3>\n<p \
             class=\"about\">{}</p>\n",
            sentence(question),
            escaped(about)
        ));
        self.list("sentences", sentences.iter().map(|it| sentence(it)));
        if !notes.is_empty() {
            self.push("<aside class=\"reading\"><h4>How to read this</h4>\n");
            self.list("", notes.iter().map(|note| sentence(note)));
            self.push("</aside>\n");
        }
        self.charts(series, tables, context);
        self.figures(figures);
        for table in tables {
            self.table(table, &id);
        }
        self.push("</section>\n");
    }

    fn figures(&mut self, figures: &[Figure]) {
        if figures.is_empty() {
            return;
        }
        self.push("<dl class=\"figures\">\n");
        for Figure { name: _, title, value, unit, grade } in figures {
            let shown = legend::Legend::default().graded(value, *unit, grade);
            let grade = graded(legend::in_words(grade, *unit).as_deref());
            self.push(&format!(
                "<div><dt>{}</dt><dd>{}{grade}</dd></div>\n",
                escaped(title),
                escaped(&shown)
            ));
        }
        self.push("</dl>\n");
    }
}

/// Beside a figure; nothing for an exact one.
fn graded(words: Option<&str>) -> String {
    words.map_or_else(String::new, |words| {
        format!(" <small class=\"grade\">{}</small>", escaped(words))
    })
}

/// With a capital letter, unless it begins with a name.
fn sentence(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default().trim_end_matches([',', ':']);
    if !first.chars().all(|letter| letter.is_ascii_lowercase()) {
        return text.to_owned();
    }
    let mut characters = text.chars();
    let first = characters.next();
    first.into_iter().flat_map(char::to_uppercase).chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn names_keep_their_letters() {
        for (text, expected) in [
            ("took: from", "Took: from"),
            ("vllm::act ran", "vllm::act ran"),
            ("cublasLt ran", "cublasLt ran"),
            ("", ""),
        ] {
            assert_eq!(sentence(text), expected);
        }
    }
}
