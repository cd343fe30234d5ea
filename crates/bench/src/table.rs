//! Tables in Markdown: read in a terminal, and pasted into the documentation as they are.

/// The first columns are text and stand to the left, numbers to the right.
pub(super) fn markdown(texts: usize, heads: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < texts { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().enumerate().map(|(column, &width)| {
        if column < texts { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) }
    });
    let rule = format!("| {} |\n", rule.collect::<Vec<_>>().join(" | "));
    let mut text = line(&mut heads.iter().copied()) + &rule;
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A number without decimals and with its thousands apart.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = [("r550", 26_596.0), ("r580", 6.0)]
            .map(|(driver, number)| vec![driver.to_owned(), grouped(number)]);
        insta::assert_snapshot!(markdown(1, &["driver", "ns"], &rows), @"
        | driver |     ns |
        | ------ | -----: |
        | r550   | 26 596 |
        | r580   |      6 |
        ");
    }

    #[test]
    fn thousands_are_apart() {
        let texts = [0.0, 999.6, 1000.0, 1_234_567.0].map(grouped);
        assert_eq!(texts, ["0", "1 000", "1 000", "1 234 567"]);
    }
}
