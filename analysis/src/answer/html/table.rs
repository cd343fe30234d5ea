//! Tables, sortable where scripts run, with bars in their cells.

use super::{
    super::{Cell, Chart, Column, Table, Value, legend, units::counted},
    Html,
    chart::number,
    escape::escaped,
    sentence,
};
use crate::grade::Grade;

/// Rows and cells of one table in the page.
const MAX_ROWS: usize = 500;
const MAX_CELLS: usize = 6000;

/// Rows that are seen at first.
const MAX_SHOWN: usize = 25;

impl Html {
    pub(super) fn table(&mut self, table: &Table, question: &str) {
        let Table { name, title, columns, rows, shown, chart, reading } = table;
        if rows.is_empty() {
            return;
        }
        let columns: Vec<Shown<'_>> = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.is_shown)
            .map(|(at, column)| Shown::new(at, column, table))
            .collect();
        let stack = Stack::new(table);
        let title = sentence(title);
        let id = format!("{question}-{name}");
        // What text shows none of is a list to look things up in.
        let is_folded = *shown == 0;
        if is_folded {
            self.push(&format!(
                "<details><summary>{}: {}</summary>\n",
                escaped(&title),
                counted(rows.len() as u64, "row", "rows")
            ));
        }
        if let Some(Stack { parts, .. }) = &stack {
            self.push("<p class=\"key\" aria-hidden=\"true\">");
            for (at, (_, title)) in parts.iter().enumerate() {
                self.push(&format!("<span class=\"c{at}\">{}</span> ", escaped(title)));
            }
            self.push("</p>\n");
        }
        let (shown, caption) =
            (if is_folded { MAX_SHOWN } else { (*shown).min(MAX_SHOWN) }, escaped(&title));
        self.push(&format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\">\n\
             <table id=\"{id}\" data-shown=\"{shown}\"><caption>{caption}"
        ));
        if !reading.is_empty() {
            self.push(&format!("<small>{}</small>", escaped(reading)));
        }
        self.push("</caption>\n<thead><tr>");
        for Shown { column, is_text, .. } in &columns {
            let class = if *is_text { "" } else { " class=\"n\"" };
            let about = legend::in_words(&column.grade, column.unit)
                .map_or_else(String::new, |words| format!(" title=\"{}\"", escaped(&words)));
            self.push(&format!("<th scope=\"col\"{class}{about}>{}</th>", escaped(column.title)));
        }
        if stack.is_some() {
            self.push("<td>split</td>");
        }
        self.push("</tr></thead>\n<tbody>\n");
        let mut legend = legend::Legend::default();
        let most = MAX_ROWS.min(MAX_CELLS / columns.len().max(1));
        let mut here = 0;
        for row in rows.iter().take(most) {
            let html =
                row_html(row, &columns, stack.as_ref(), here >= shown, chart.as_ref(), &mut legend);
            if html.len() > self.room {
                break;
            }
            self.room -= html.len();
            self.push(&html);
            here += 1;
        }
        self.push("</tbody></table></div>\n");
        if here < rows.len() {
            self.push(&format!(
                "<p class=\"more\">{here} of {} rows are in this page; all are in --json</p>\n",
                rows.len()
            ));
        }
        self.list("legend", legend.lines().into_iter());
        if is_folded {
            self.push("</details>\n");
        }
    }
}

/// A column that people see.
struct Shown<'a> {
    at: usize,
    column: &'a Column,
    is_text: bool,
    /// Of its values, for bars.
    largest: f64,
}

impl<'a> Shown<'a> {
    fn new(at: usize, column: &'a Column, table: &Table) -> Self {
        let values = table.rows.iter().map(|row| &row[at].value);
        Self {
            at,
            column,
            is_text: values.clone().any(|value| matches!(value, Value::Text(_))),
            largest: values.filter_map(number).fold(0.0, f64::max),
        }
    }
}

/// Columns that add up to the length of a bar.
struct Stack {
    parts: Vec<(usize, &'static str)>,
    largest: f64,
}

impl Stack {
    fn new(table: &Table) -> Option<Self> {
        let Some(Chart::Stack(names)) = table.chart else { return None };
        let column = |name: &&str| {
            let at = table.columns.iter().position(|column| column.name == *name)?;
            Some((at, table.columns[at].title))
        };
        let parts: Vec<_> = names.iter().filter_map(column).collect();
        let sum = |row: &Vec<Cell>| parts.iter().map(|&(at, _)| length(&row[at])).sum();
        let largest = table.rows.iter().map(sum).fold(0.0, f64::max);
        Some(Self { parts, largest })
    }

    fn bar(&self, row: &[Cell]) -> String {
        let mut bar = String::from(
            "<td class=\"stack\"><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" \
             aria-hidden=\"true\">",
        );
        let mut from = 0.0;
        for (color, &(at, _)) in self.parts.iter().enumerate() {
            let width = length(&row[at]) / self.largest.max(f64::MIN_POSITIVE) * 100.0;
            put!(
                bar,
                "<rect class=\"c{color}\" x=\"{from:.2}\" width=\"{width:.2}\" height=\"10\"/>"
            );
            from += width;
        }
        bar + "</svg></td>"
    }
}

fn length(cell: &Cell) -> f64 {
    number(&cell.value).unwrap_or(0.0).max(0.0)
}

fn row_html(
    row: &[Cell],
    columns: &[Shown<'_>],
    stack: Option<&Stack>,
    is_more: bool,
    chart: Option<&Chart>,
    legend: &mut legend::Legend,
) -> String {
    let mut html = String::from(if is_more { "<tr class=\"more\">" } else { "<tr>" });
    for (place, Shown { at, column, is_text, largest }) in columns.iter().enumerate() {
        let Cell { value, grade } = &row[*at];
        let own = grade.as_ref().filter(|&grade| *grade != column.grade);
        let grade = grade.as_ref().unwrap_or(&column.grade);
        let text = escaped(&legend.graded(value, column.unit, grade));
        let tag = if place == 0 { "th scope=\"row\"" } else { "td" };
        html.push('<');
        html.push_str(tag);
        if !is_text {
            html.push_str(" class=\"n\"");
            if let Some(number) = sort_key(value, grade) {
                put!(html, " data-v=\"{number}\"");
            }
        }
        if let Some(words) = own.and_then(|grade| legend::in_words(grade, column.unit)) {
            put!(html, " title=\"{}\"", escaped(&words));
        }
        html.push('>');
        html.push_str(&text);
        if let Some(Chart::Bars(names)) = chart
            && names.contains(&column.name)
            && let Some(value) = number(value)
        {
            let width = value / largest.max(f64::MIN_POSITIVE) * 100.0;
            put!(
                html,
                "<svg class=\"bar\" viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" \
                 aria-hidden=\"true\"><rect width=\"{width:.1}\" height=\"1\"/></svg>"
            );
        }
        html.push_str(if place == 0 { "</th>" } else { "</td>" });
    }
    if let Some(stack) = stack {
        html.push_str(&stack.bar(row));
    }
    html + "</tr>\n"
}

/// Where only bounds are known, they are what can be sorted.
fn sort_key(value: &Value, grade: &Grade) -> Option<f64> {
    number(value).or(match grade {
        Grade::Bounds { low, high } => high.or(*low),
        _ => None,
    })
}
