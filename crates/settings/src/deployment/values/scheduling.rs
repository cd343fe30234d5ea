//! Lists by which nodes are chosen, separated by commas.

use super::names::dns_name;

/// Labels that a node must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selectors(pub Vec<(String, String)>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taints(pub Vec<Taint>);

/// A taint that is tolerated: of any value and any effect where none is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    pub key: String,
    pub value: Option<String>,
    pub effect: Option<String>,
}

/// Names of objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectNames(pub Vec<String>);

pub(in crate::deployment) fn selectors(value: &str) -> Result<Selectors, String> {
    const ACCEPTED: &str = "accepted: labels such as pool=gpu,example.com/zone=a";
    let label = |part: &str| {
        let (key, value) = part.split_once('=').ok_or(ACCEPTED)?;
        if !is_key(key) || !is_value(value) {
            return Err(ACCEPTED);
        }
        Ok((key.to_owned(), value.to_owned()))
    };
    let labels: Vec<(String, String)> =
        parts(value).map(label).collect::<Result<_, _>>().map_err(str::to_owned)?;
    let mut keys: Vec<&String> = labels.iter().map(|(key, _)| key).collect();
    keys.sort();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("{} is there twice", pair[0])),
        None => Ok(Selectors(labels)),
    }
}

pub(in crate::deployment) fn taints(value: &str) -> Result<Taints, String> {
    const ACCEPTED: &str =
        "accepted: taints such as dedicated, dedicated=llm or dedicated=llm:NoSchedule";
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let taint = |part: &str| {
        let (rest, effect) = match part.split_once(':') {
            Some((rest, effect)) => (rest, Some(effect)),
            None => (part, None),
        };
        let (key, value) = match rest.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (rest, None),
        };
        if !is_key(key)
            || !value.is_none_or(is_value)
            || !effect.is_none_or(|effect| EFFECTS.contains(&effect))
        {
            return Err(ACCEPTED.to_owned());
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Taint { key: key.to_owned(), value: owned(value), effect: owned(effect) })
    };
    parts(value).map(taint).collect::<Result<_, _>>().map(Taints)
}

pub(in crate::deployment) fn object_names(value: &str) -> Result<ObjectNames, String> {
    parts(value).map(dns_name).collect::<Result<_, _>>().map(ObjectNames)
}

fn parts(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Of a label or a taint: a name, or one below a domain.
fn is_key(key: &str) -> bool {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    domain.is_none_or(|domain| dns_name(domain).is_ok()) && !name.is_empty() && is_value(name)
}

/// May be empty.
fn is_value(value: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_end = |c: char| c.is_ascii_alphanumeric();
    value.is_empty()
        || (value.len() <= 63
            && value.chars().all(is_inner)
            && value.starts_with(is_end)
            && value.ends_with(is_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_choose_nodes() {
        let Selectors(labels) = selectors("pool=gpu, example.com/zone=a,x=").unwrap();
        let expected = [("pool", "gpu"), ("example.com/zone", "a"), ("x", "")];
        assert_eq!(labels, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(selectors(""), Ok(Selectors::default()));
        for bad in ["pool", "=a", "a b=c", "a=b c", "a=b,a=c", "-a=b", "a/b/c=d", "a=b;c"] {
            assert!(selectors(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn taints_are_tolerated_as_exactly_as_they_are_given() {
        let taint = |key: &str, value: Option<&str>, effect: Option<&str>| Taint {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            effect: effect.map(str::to_owned),
        };
        let Taints(found) = taints("dedicated,a.b/c=d:NoExecute,x:NoSchedule").unwrap();
        assert_eq!(
            found,
            [
                taint("dedicated", None, None),
                taint("a.b/c", Some("d"), Some("NoExecute")),
                taint("x", None, Some("NoSchedule")),
            ]
        );
        for bad in ["a:Never", "=x", ":NoSchedule", "a b"] {
            assert!(taints(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_of_secrets_are_names() {
        assert_eq!(object_names("a,b-c").unwrap().0, ["a", "b-c"]);
        assert!(object_names("A").is_err());
    }
}
