//! An answer as text: most important first, columns aligned.

use std::fmt::Write as _;

use super::{
    Answer, Column, Figure, Series, Table, Unit, Value,
    legend::Legend,
    units::{counted, printable, shown},
};
use crate::{context::Context, gap::Gap};

/// Gaps that are told one by one.
const SHOWN_GAPS: usize = 12;

/// A name may be longer than a terminal is wide.
const WIDEST: usize = 72;

/// Columns of a chart.
const CHART: usize = 60;

/// What is to be known before any answer about the run.
pub fn heading(context: &Context) -> String {
    let mut text = format!("run {}\n", printable(&context.run));
    let gaps = &context.gaps;
    if gaps.is_empty() {
        return text;
    }
    let mut tell = |gap: &Gap| {
        let _: std::fmt::Result = writeln!(text, "  ! {}", printable(&gap.to_string()));
    };
    gaps.iter().take(SHOWN_GAPS).for_each(&mut tell);
    if let more @ 1.. = gaps.len().saturating_sub(SHOWN_GAPS) {
        let _: std::fmt::Result = writeln!(text, "  ! {more} more, see --json");
    }
    text
}

pub fn to_text(answer: &Answer) -> String {
    let Answer { question, sentences, headlines: _, figures, tables, series, notes, failure: _ } =
        answer;
    let mut parts = vec![question.to_uppercase()];
    let mut legend = Legend::default();
    if !sentences.is_empty() {
        parts.push(lines(sentences.iter().map(|sentence| printable(sentence))));
    }
    if !figures.is_empty() {
        parts.push(figures_text(figures, &mut legend));
    }
    parts.extend(series.iter().map(chart));
    // A list to look things up in has no rows here: no head of a table either.
    let (listed, told): (Vec<&Table>, Vec<&Table>) =
        tables.iter().filter(|it| !it.rows.is_empty()).partition(|it| it.shown > 0);
    parts.extend(listed.into_iter().map(|it| table(it, &mut legend)));
    let told = told.into_iter().map(|Table { title, rows, .. }| {
        format!("{}: {}, see --json", printable(title), counted(rows.len() as u64, "row", "rows"))
    });
    parts.extend(told);
    if !notes.is_empty() {
        parts.push(lines(notes.iter().map(|note| printable(note))));
    }
    let legend = lines(legend.lines().into_iter());
    parts.extend((!legend.is_empty()).then_some(legend));
    parts.join("\n\n") + "\n"
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

fn figures_text(figures: &[Figure], legend: &mut Legend) -> String {
    let width = figures.iter().map(|figure| figure.title.chars().count()).max().unwrap_or(0);
    lines(figures.iter().map(|Figure { title, value, unit, grade, .. }| {
        format!("{title:width$}  {}", legend.graded(value, *unit, grade))
    }))
}

fn table(table: &Table, legend: &mut Legend) -> String {
    let Table { name: _, title, columns, rows, shown: most, chart: _, reading: _ } = table;
    let shown_columns: Vec<(usize, &Column)> =
        columns.iter().enumerate().filter(|(_, column)| column.is_shown).collect();
    let mut cells: Vec<Vec<String>> =
        vec![shown_columns.iter().map(|(_, column)| column.title.to_owned()).collect()];
    for row in rows.iter().take(*most) {
        let cell = |&(at, column): &(usize, &Column)| {
            let cell = &row[at];
            let grade = cell.grade.as_ref().unwrap_or(&column.grade);
            cut(&legend.graded(&cell.value, column.unit, grade))
        };
        cells.push(shown_columns.iter().map(cell).collect());
    }
    let widths: Vec<usize> = (0..shown_columns.len())
        .map(|at| cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    let is_text = |at: usize| {
        let (column, _) = shown_columns[at];
        rows.iter().any(|row| matches!(row[column].value, Value::Text(_)))
    };
    let mut text = printable(title);
    for row in &cells {
        let mut line = String::from(" ");
        for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _: std::fmt::Result = if is_text(at) {
                write!(line, " {cell:<width$} ")
            } else {
                write!(line, " {cell:>width$} ")
            };
        }
        text.push('\n');
        text.push_str(line.trim_end());
    }
    if let more @ 1.. = rows.len().saturating_sub(*most) {
        let _: std::fmt::Result = write!(text, "\n  {more} more, see --json");
    }
    text
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDEST {
        return text.to_owned();
    }
    text.chars().take(WIDEST - 3).chain("...".chars()).collect()
}

fn chart(series: &Series) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let Series { title, unit, width_ns, values, .. } = series;
    let each = values.len().div_ceil(CHART).max(1);
    let largest = |part: &[Option<f64>]| part.iter().flatten().copied().fold(f64::NAN, f64::max);
    let most = largest(values);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
    let bar = |part: &[Option<f64>]| match largest(part) {
        value if value.is_nan() => ' ',
        value if most > 0.0 => BARS[((value / most * 7.0).round().max(0.0) as usize).min(7)],
        _ => BARS[0],
    };
    let bars: String = values.chunks(each).map(bar).collect();
    let length = shown(&Value::Float(*width_ns as f64 * values.len() as f64), Unit::Nanoseconds);
    let most = shown(&Value::Float(most), *unit);
    format!("{}: at most {most}, over {length}\n  {bars}", printable(title))
}
