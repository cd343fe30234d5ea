//! Amounts: bytes, cores, shares, ports.

use std::fmt;

/// An amount of bytes as Kubernetes writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory(String);

impl Memory {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn bytes(&self) -> u64 {
        parse_bytes(&self.0).expect("checked when it was made")
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

pub(in crate::deployment) fn memory(value: &str) -> Result<Memory, String> {
    if value.ends_with('m') {
        return Err(format!(
            "m is a thousandth of a byte; accepted: bytes with Ki, Mi, Gi or Ti, such as {}Mi",
            value.trim_end_matches('m')
        ));
    }
    match parse_bytes(value) {
        Some(1..) => Ok(Memory(value.to_owned())),
        _ => Err("accepted: bytes with Ki, Mi, Gi or Ti, such as 512Mi or 12Gi".to_owned()),
    }
}

/// In the form that Kubernetes keeps: `500m`, not `0.5`.
pub(in crate::deployment) fn cpu(value: &str) -> Result<String, String> {
    let thousandths = if let Some(number) = value.strip_suffix('m') {
        number.parse::<u32>().ok()
    } else {
        let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
        let number = format!("{whole}{fraction:0<3}");
        let is_number =
            !whole.is_empty() && fraction.len() <= 3 && number.chars().all(|c| c.is_ascii_digit());
        is_number.then(|| number.parse().ok()).flatten()
    };
    match thousandths {
        Some(thousandths @ 1..) if thousandths % 1000 == 0 => Ok((thousandths / 1000).to_string()),
        Some(thousandths @ 1..) => Ok(format!("{thousandths}m")),
        _ => Err("accepted: cores, such as 4, 0.5 or 500m".to_owned()),
    }
}

pub(in crate::deployment) fn node_port(value: &str) -> Result<i32, String> {
    match value.parse() {
        Ok(port @ 30_000..=32_767) => Ok(port),
        _ => Err("accepted: 30000 to 32767".to_owned()),
    }
}

/// A share of the whole, as typed: it goes into an argument.
pub(in crate::deployment) fn share(value: &str) -> Result<String, String> {
    match value.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(value.to_owned()),
        _ => Err("accepted: above 0, up to 1, such as 0.9".to_owned()),
    }
}

fn parse_bytes(value: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 9] = [
        ("", 1),
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (_, factor) = UNITS.into_iter().find(|(unit, _)| *unit == &value[digits.len()..])?;
    if !digits.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_an_amount_of_bytes() {
        assert_eq!(memory("12Gi").unwrap().bytes(), 12 << 30);
        assert_eq!(memory("2G").unwrap().bytes(), 2_000_000_000);
        assert!(memory("512m").unwrap_err().contains("such as 512Mi"));
        for odd in ["", "0", "0Gi", "Gi", "-1Gi", "1.5Gi", "1GiB", "12 Gi", "99999999999Ti"] {
            assert!(memory(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn cores_take_the_form_that_kubernetes_keeps() {
        for (typed, kept) in
            [("4", "4"), ("0.5", "500m"), ("500m", "500m"), ("1000m", "1"), ("1.25", "1250m")]
        {
            assert_eq!(cpu(typed).as_deref(), Ok(kept));
        }
        for odd in ["", "0", "0.0", "m", "-1", "1.2345", ".5", "4 cores", "1e3"] {
            assert!(cpu(odd).is_err(), "{odd:?}");
        }
    }
}
