//! Charts: the data for `report.js`, and the element that it fills.

use std::{cmp::Reverse, collections::BTreeMap};

use serde_json::{Value as Json, json};

use super::{
    super::{Chart, Series, Table, Unit, Value, legend, units::shown},
    Html,
    escape::escaped,
    graded, sentence,
};
use crate::{context::Context, grade::Grade};

/// Charts of one question over time.
const MAX_SERIES: usize = 12;

/// Points of one chart; the largest of them are all there.
const MAX_POINTS: usize = 3000;
const LARGEST: usize = 500;

/// Colours that are told from each other.
const MAX_GROUPS: usize = 8;

/// Data of all charts of a page, by their numbers.
#[derive(Default)]
pub(super) struct Charts(pub(super) Vec<Json>);

/// Rows of a table as points of one colour.
#[derive(Default)]
struct Points {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Html {
    pub(super) fn charts(&mut self, series: &[Series], tables: &[Table], context: &Context) {
        for one in series.iter().take(MAX_SERIES) {
            self.over_time(one, context);
        }
        if let more @ 1.. = series.len().saturating_sub(MAX_SERIES) {
            self.push(&format!("<p class=\"more\">{more} more over time, see --json</p>\n"));
        }
        for table in tables {
            if let Some(Chart::Points { title, x, y, by }) = table.chart {
                self.points(table, title, [x, y, by]);
            }
        }
    }

    fn over_time(&mut self, series: &Series, context: &Context) {
        let Series { name: _, title, unit, grade, start_ns, has_clock, width_ns, is_level, values } =
            series;
        let largest = values.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?)));
        // Of equal ones the first.
        let Some((peak, most)) = largest.rev().max_by(|(_, one), (_, other)| one.total_cmp(other))
        else {
            return;
        };
        let run_unix_ns = context.time.unix_ns(0).filter(|_| *has_clock);
        let start_s = seconds(start_ns.saturating_sub(run_unix_ns.unwrap_or(0)) as f64);
        let width_s = seconds(*width_ns as f64);
        let width = shown(&Value::Float(*width_ns as f64), Unit::Nanoseconds);
        let data = json!({
            "kind": "series",
            "unit": name_of(*unit),
            "start_s": start_s,
            "width_s": width_s,
            "run_unix_s": run_unix_ns.map(|ns| seconds(ns as f64)),
            "is_level": is_level,
            "peak": peak,
            "values": values,
        });
        let (title, each) = if *is_level {
            (sentence(title), format!("The line is the highest of each {width}."))
        } else {
            (
                format!("{}, by {width}", sentence(title)),
                format!("A bar is how many began in each {width}."),
            )
        };
        let most = shown(&Value::Float(most), *unit);
        let at = shown(&Value::Float((start_s + width_s * peak as f64) * 1e9), Unit::Nanoseconds);
        let summary = format!("at most {most}, {at} after the start of the run");
        // The largest of an interval has the grade of the whole; a bound is one of no single value.
        let grade = match grade {
            Grade::Bounds { .. } => Some("calls may be missing: it may be more".to_owned()),
            grade => legend::in_words(grade, *unit),
        };
        self.plot(&title, &summary, &each, grade.as_deref(), data);
    }

    fn points(&mut self, table: &Table, title: &str, columns: [&str; 3]) {
        let at = |name: &str| table.columns.iter().position(|column| column.name == name);
        let [Some(x), Some(y), Some(by)] = columns.map(at) else { return };
        let unit = table.columns[y].unit;
        let mut points = Vec::new();
        for row in &table.rows {
            let grade = row[y].grade.as_ref().unwrap_or(&table.columns[y].grade);
            let place = match (number(&row[y].value), grade) {
                (_, Grade::Unknown { .. }) => None,
                (Some(value), _) => Some((value, false)),
                (None, Grade::Bounds { high: Some(high), .. }) => Some((*high, true)),
                (None, _) => None,
            };
            if let (Some(x), Some((y, is_bound))) = (number(&row[x].value), place) {
                let name = match &row[by].value {
                    Value::None => "of unknown kind".to_owned(),
                    value => shown(value, Unit::None),
                };
                points.push((seconds(x), y, (name, is_bound)));
            }
        }
        if points.is_empty() {
            return;
        }
        let (all, left_out) = (points.len(), table.rows.len() - points.len());
        let points = thinned(points);
        let mut reading =
            String::from("Each point is a row of the table; a hollow one is an upper bound.");
        if points.len() < all {
            put!(
                reading,
                " {} of {all} are drawn, the {LARGEST} largest among them.",
                points.len()
            );
        }
        if left_out > 0 {
            put!(reading, " Of {left_out} more rows it is not known.");
        }
        let largest = points.iter().max_by(|one, other| one.1.total_cmp(&other.1));
        let Some((at_s, most, _)) = largest else { return };
        let summary = format!(
            "at most {}, {} after the start of the run",
            shown(&Value::Float(*most), unit),
            shown(&Value::Float(at_s * 1e9), Unit::Nanoseconds)
        );
        let title = sentence(title);
        let data = json!({ "kind": "points", "unit": name_of(unit), "groups": groups(points) });
        self.plot(&title, &summary, &reading, None, data);
    }

    /// The element that the script fills, and what is read of it without.
    fn plot(&mut self, title: &str, summary: &str, reading: &str, grade: Option<&str>, data: Json) {
        let (title, summary, grade) = (escaped(title), escaped(summary), graded(grade));
        let size = data.to_string().len();
        if size > self.room {
            self.push("<p class=\"more\">A chart is left out: the page is full.</p>\n");
            return;
        }
        self.room -= size;
        let number = self.charts.0.len();
        self.charts.0.push(data);
        self.push(&format!(
            "<figure class=\"chart\"><figcaption>{title}{grade}<small>{summary}</small></figcaption>\n\
             <div class=\"plot\" data-chart=\"{number}\" role=\"slider\" tabindex=\"0\" \
             aria-label=\"{title}\" aria-valuemin=\"0\" aria-valuenow=\"0\" \
             aria-valuetext=\"{summary}\"></div>\n<p class=\"hint\">{}</p></figure>\n",
            escaped(reading)
        ));
    }
}

/// The largest, and of the others as many as there is room for, evenly.
fn thinned<T>(mut points: Vec<(f64, f64, T)>) -> Vec<(f64, f64, T)> {
    if points.len() > MAX_POINTS {
        points.sort_by(|one, other| other.1.total_cmp(&one.1));
        let mut others = points.split_off(LARGEST);
        others.sort_by(|one, other| one.0.total_cmp(&other.0));
        let step = others.len().div_ceil(MAX_POINTS - LARGEST);
        points.extend(others.into_iter().step_by(step));
    }
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

/// By colour, the most frequent first; what is left over shares the last one.
fn groups(points: Vec<(f64, f64, (String, bool))>) -> Vec<Json> {
    let mut counts: BTreeMap<(String, bool), usize> = BTreeMap::new();
    for (.., group) in &points {
        *counts.entry(group.clone()).or_default() += 1;
    }
    let mut names: Vec<_> = counts.into_iter().collect();
    names.sort_by_key(|(_, count)| Reverse(*count));
    let mut groups: Vec<((String, bool), Points)> = names
        .into_iter()
        .take(MAX_GROUPS - 1)
        .map(|(group, _)| (group, Points::default()))
        .collect();
    let mut others = Points::default();
    for (x, y, group) in points {
        let of = groups.iter_mut().find(|(other, _)| *other == group);
        let of = of.map_or(&mut others, |(_, of)| of);
        of.x.push(x);
        of.y.push(y);
    }
    if !others.x.is_empty() {
        groups.push((("other".to_owned(), false), others));
    }
    // What is bounded has the colour of what is known.
    let mut colors: Vec<String> = Vec::new();
    let to_json = |((name, is_bound), Points { x, y }): ((String, bool), Points)| {
        let color = colors.iter().position(|other| *other == name).unwrap_or_else(|| {
            colors.push(name.clone());
            colors.len() - 1
        });
        let name = if is_bound { format!("{name}, at most") } else { name };
        json!({ "name": name, "color": color, "is_bound": is_bound, "x": x, "y": y })
    };
    groups.into_iter().map(to_json).collect()
}

pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number).filter(|number| number.is_finite()),
        _ => None,
    }
}

/// A microsecond is less than a pixel.
fn seconds(ns: f64) -> f64 {
    (ns / 1e3).round() / 1e6
}

fn name_of(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "ns",
        Unit::Bytes => "bytes",
        Unit::Ratio => "ratio",
        Unit::PerSecond => "per_second",
        Unit::None | Unit::Count | Unit::UnixNanoseconds => "count",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_largest_and_the_order() {
        let point = |at: u32| (f64::from(at), f64::from(at * 7919 % 100_003), ());
        let points = thinned((0..50_000).map(point).collect());
        assert!(points.len() <= MAX_POINTS && points.len() > MAX_POINTS / 2, "{}", points.len());
        assert!(points.is_sorted_by(|one, other| one.0 <= other.0));
        let mut all: Vec<f64> = (0..50_000).map(|at| point(at).1).collect();
        all.sort_by(f64::total_cmp);
        for value in &all[all.len() - LARGEST..] {
            assert!(points.iter().any(|point| point.1.total_cmp(value).is_eq()));
        }
        assert_eq!(thinned(vec![(2.0, 1.0, ()), (1.0, 1.0, ())]).len(), 2);
    }

    #[test]
    fn the_rarest_groups_share_a_colour() {
        let point = |at: u32| (f64::from(at), 1.0, (format!("kind {}", at.isqrt()), false));
        let groups = groups((0..400).map(point).collect());
        assert_eq!(groups.len(), MAX_GROUPS);
        assert_eq!(groups[0]["name"], "kind 19");
        assert_eq!(groups[MAX_GROUPS - 1]["name"], "other");
        let count = |group: &Json| group["x"].as_array().unwrap().len();
        assert_eq!(groups.iter().map(count).sum::<usize>(), 400);
    }
}
