//! The section on arguments says what the code decodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cuda::function::arguments::{Argument, Field, Form, arguments};
use cuda::function::{Selection, canonical, is_per_thread};

use super::{DOCUMENT, rows_of};

const SECTION: &str = "## Arguments by function";
const BEGIN: &str = "<!-- arguments by function: begin -->\n";
const END: &str = "<!-- arguments by function: end -->\n";

/// Set to write the table into the document instead of comparing the two.
const WRITE: &str = "WRITE_DOCUMENTATION";

#[test]
fn the_table_of_functions_is_what_the_code_decodes() {
    let (before, rest) = DOCUMENT.split_once(BEGIN).expect("the table has a beginning");
    let (documented, after) = rest.split_once(END).expect("the table has an end");
    let table = table();
    if std::env::var_os(WRITE).is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/trace-format.md");
        fs::write(&path, [before, BEGIN, &table, END, after].concat()).unwrap();
    } else {
        assert_eq!(
            documented, table,
            "the table is not what the code decodes: run this test with {WRITE}=1 to write it anew"
        );
    }
}

#[test]
fn the_table_of_fields_has_every_field_with_its_type() {
    let (_, section) = DOCUMENT.split_once(SECTION).expect("there is a section on arguments");
    let documented: Vec<(&str, &str)> = rows_of(section)
        .filter(|cells| cells.len() == 4)
        .filter_map(|cells| Some((cells[0].strip_prefix('`')?.strip_suffix('`')?, cells[1])))
        .collect();
    let expected = Field::ALL.map(|field| {
        let json_type = match field.form() {
            Form::Number => "number",
            Form::Hexadecimal => "hexadecimal text",
            Form::Text => "text",
            Form::Triple => "[x, y, z]",
        };
        (field.key(), json_type)
    });
    assert_eq!(documented, expected);
}

/// The fields of a function, each with whether it is a result.
type Fields = Vec<(Field, bool)>;

/// One row for all functions of the default set with the same fields.
fn table() -> String {
    let mut names_by_fields: BTreeMap<Fields, BTreeSet<&str>> = BTreeMap::new();
    for (name, fields) in functions() {
        names_by_fields.entry(fields).or_default().insert(name);
    }
    // Functions with nothing to decode come last.
    let nothing = names_by_fields.remove(&Vec::new());
    let mut table = "| functions | fields |\n|---|---|\n".to_owned();
    for (fields, names) in names_by_fields.into_iter().chain(nothing.map(|names| (vec![], names))) {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        let fields: Vec<_> = fields
            .iter()
            .map(|(field, is_result)| {
                let key = field.key();
                if *is_result { format!("*`{key}`*") } else { format!("`{key}`") }
            })
            .collect();
        let fields = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
        table.push_str(&["| ", &names.join(", "), " | ", &fields, " |\n"].concat());
    }
    table
}

/// The functions of the default set by the name that stands for them in the table, with their
/// fields.
fn functions() -> BTreeMap<&'static str, Fields> {
    let default = Selection::default();
    let mut versions: BTreeMap<&str, BTreeMap<&str, Fields>> = BTreeMap::new();
    for name in default.known().filter(|name| !is_per_thread(name)) {
        versions.entry(canonical(name)).or_default().insert(name, fields(arguments(name)));
    }
    versions
        .into_iter()
        .flat_map(|(canonical, versions)| {
            let alike = versions.values().collect::<BTreeSet<_>>().len() == 1;
            if alike {
                versions.into_values().take(1).map(|fields| (canonical, fields)).collect::<Vec<_>>()
            } else {
                versions.into_iter().collect()
            }
        })
        .collect()
}

fn fields(arguments: &[Argument]) -> Fields {
    arguments.iter().map(|argument| (argument.field, argument.is_result)).collect()
}
