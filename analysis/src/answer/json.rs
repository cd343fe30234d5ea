//! An answer as one JSON object on one line. `docs/analysis.md` has the schema.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::{Answer, Cell, Column, Figure, Headline, Series, Table, Unit, Value};
use crate::{context::Context, grade::Grade};

/// Goes up when a field goes or changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// Tables stand beside these, so none may be called so.
const RESERVED: [&str; 11] = [
    "schema_version",
    "program_version",
    "question",
    "run",
    "sentences",
    "headlines",
    "figures",
    "columns",
    "series",
    "notes",
    "gaps",
];

pub fn to_json(answer: &Answer, context: &Context) -> Json {
    let Answer { question, sentences, headlines, figures, tables, series, notes, failure: _ } =
        answer;
    let names: BTreeSet<&str> = tables.iter().map(|table| table.name).collect();
    debug_assert!(names.len() == tables.len() && RESERVED.iter().all(|name| !names.contains(name)));
    let mut object = Map::new();
    let mut set = |name: &str, value: Json| {
        object.insert(name.to_owned(), value);
    };
    set("schema_version", SCHEMA_VERSION.into());
    set("program_version", env!("CARGO_PKG_VERSION").into());
    set("question", (*question).into());
    set("run", run(context));
    set("sentences", json!(sentences));
    set("headlines", headlines.iter().map(headline).collect());
    set("figures", figures.iter().map(|it| (it.name.to_owned(), figure(it))).collect());
    for table in tables {
        set(table.name, rows(table));
    }
    set("columns", tables.iter().map(|it| (it.name.to_owned(), columns(it))).collect());
    set("series", series.iter().map(|it| (it.name.clone(), one_series(it))).collect());
    set("notes", json!(notes));
    let gaps = context.gaps.iter().map(|gap| {
        let mut object = json!(gap);
        object["text"] = gap.to_string().into();
        object
    });
    set("gaps", gaps.collect());
    Json::Object(object)
}

fn run(context: &Context) -> Json {
    let time = &context.time;
    let opening = context.opening.as_ref();
    json!({
        "name": context.run,
        "host": opening.map(|opening| &opening.host),
        "sidecar_version": opening.map(|opening| &opening.sidecar_version),
        "format_version": opening.map(|opening| opening.format_version),
        "start_unix_ns": time.unix_ns(0),
        "first_call_ns": time.first_ns,
        "last_call_ns": time.last_ns,
        "windowed": context.is_windowed,
    })
}

fn figure(Figure { name: _, title, value, unit, grade }: &Figure) -> Json {
    let mut object = graded(grade);
    object.insert("value".to_owned(), to_value(value));
    object.insert("unit".to_owned(), name_of(*unit).into());
    object.insert("title".to_owned(), (*title).into());
    Json::Object(object)
}

fn headline(Headline { title, value, unit, grade, detail }: &Headline) -> Json {
    let mut object = graded(grade);
    object.insert("value".to_owned(), to_value(value));
    object.insert("unit".to_owned(), name_of(*unit).into());
    object.insert("title".to_owned(), (*title).into());
    object.insert("detail".to_owned(), detail.as_str().into());
    Json::Object(object)
}

fn graded(grade: &Grade) -> Map<String, Json> {
    match json!(grade) {
        Json::Object(object) => object,
        other => unreachable!("a tagged grade is an object, not {other}"),
    }
}

/// Cells by the name of their column; grades only where they differ from the column's.
fn rows(table: &Table) -> Json {
    let row = |cells: &Vec<Cell>| {
        let mut object = Map::new();
        let mut grades = Map::new();
        for (column, cell) in table.columns.iter().zip(cells) {
            object.insert(column.name.to_owned(), to_value(&cell.value));
            if let Some(grade) = cell.grade.as_ref().filter(|&grade| *grade != column.grade) {
                grades.insert(column.name.to_owned(), Json::Object(graded(grade)));
            }
        }
        if !grades.is_empty() {
            object.insert("grades".to_owned(), Json::Object(grades));
        }
        Json::Object(object)
    };
    table.rows.iter().map(row).collect()
}

fn columns(table: &Table) -> Json {
    let column = |Column { name, title, unit, grade, is_shown: _ }: &Column| {
        let mut object = graded(grade);
        object.insert("title".to_owned(), (*title).into());
        object.insert("unit".to_owned(), name_of(*unit).into());
        ((*name).to_owned(), Json::Object(object))
    };
    table.columns.iter().map(column).collect()
}

fn one_series(series: &Series) -> Json {
    let Series { name: _, title, unit, grade, start_ns, has_clock, width_ns, is_level: _, values } =
        series;
    let mut object = graded(grade);
    let start = if *has_clock { "start_unix_ns" } else { "start_ns" };
    object.insert("title".to_owned(), title.as_str().into());
    object.insert("unit".to_owned(), name_of(*unit).into());
    object.insert(start.to_owned(), (*start_ns).into());
    object.insert("width_ns".to_owned(), (*width_ns).into());
    object.insert("values".to_owned(), json!(values));
    Json::Object(object)
}

fn to_value(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(number) => match (u64::try_from(*number), i64::try_from(*number)) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => Json::Null,
        },
        Value::Float(number) => json!(number),
        Value::Text(text) => text.as_str().into(),
        Value::List(values) => values.iter().map(to_value).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| ((*name).to_owned(), to_value(value))).collect()
        }
    }
}

fn name_of(unit: Unit) -> &'static str {
    match unit {
        Unit::None => "none",
        Unit::Count => "count",
        Unit::PerSecond => "per_second",
        Unit::Nanoseconds => "ns",
        Unit::UnixNanoseconds => "unix_ns",
        Unit::Bytes => "bytes",
        Unit::Ratio => "ratio",
    }
}
