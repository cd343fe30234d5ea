//! Reads a table of functions.
//!
//! A row is `NAME[/TWIN], .. ([out|in] TYPE NAME, ..) FIELD = EXPRESSION; ..`, with `void` or
//! `void **` in front where a function returns no code.

use super::{Access, FIELDS, Function, Parameter, Returns};

/// The functions of a table, in its order.
pub(crate) fn parse(table: &str) -> Vec<Function> {
    let rows = table.lines().map(str::trim).filter(|row| !row.is_empty() && !row.starts_with('#'));
    rows.flat_map(|row| parse_row(row).unwrap_or_else(|| panic!("not a row: {row}"))).collect()
}

fn parse_row(row: &str) -> Option<Vec<Function>> {
    let (names, rest) = row.strip_suffix(';')?.split_once('(')?;
    let (parameters, expressions) = rest.split_once(')')?;
    let (names, returns) = match names.strip_prefix("void ") {
        Some(names) => match names.strip_prefix("**") {
            Some(names) => (names, Returns::Pointer),
            None => (names, Returns::Nothing),
        },
        None => (names, Returns::Code),
    };
    let parameters: Vec<Parameter> = match parameters {
        "void" => Vec::new(),
        _ => parameters.split(',').map(parse_parameter).collect::<Option<_>>()?,
    };
    let named = parameters.iter().filter(|parameter| is_field(&parameter.name));
    let mut fields: Vec<_> =
        named.map(|parameter| (parameter.name.clone(), parameter.value())).collect();
    for expression in expressions.split(';').filter(|expression| !expression.trim().is_empty()) {
        let (field, expression) = expression.split_once('=')?;
        is_field(field.trim()).then_some(())?;
        fields.push((field.trim().to_owned(), expression.trim().to_owned()));
    }
    let names = names.split(',').flat_map(|name| match name.trim().split_once('/') {
        Some((name, twin)) => vec![name.to_owned(), format!("{name}_{twin}")],
        None => vec![name.trim().to_owned()],
    });
    Some(
        names
            .map(|name| Function {
                name,
                returns,
                parameters: parameters.clone(),
                fields: fields.clone(),
            })
            .collect(),
    )
}

fn parse_parameter(text: &str) -> Option<Parameter> {
    let text = text.trim();
    let (access, text) = match text.split_once(' ')? {
        ("in", text) => (Access::In, text),
        ("out", text) => (Access::Out, text),
        _ => (Access::Value, text),
    };
    let start = text.rfind([' ', '*'])? + 1;
    let (c_type, name) = text.split_at(start);
    Some(Parameter { access, c_type: c_type.trim().to_owned(), name: name.to_owned() })
}

fn is_field(name: &str) -> bool {
    FIELDS.iter().any(|(key, _)| *key == name)
}
