//! Postures: assertions about a device's attributes.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::selector::Malformed;

/// Attributes of a device, by name: strings, numbers, true or false.
pub type Attributes = Map<String, Value>;

/// One assertion about one attribute, such as `node:osVersion >= '13.4'`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// The attribute's name, with its namespace.
    pub attribute: String,
    /// What must hold of it.
    pub condition: Condition,
}

/// What must hold of an attribute. If it is not set, or of another type than what it is
/// compared with, nothing holds but [`Condition::NotSet`].
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// `IS SET`
    Set,
    /// `NOT SET`
    NotSet,
    /// `== V`; no operator at all means `== true`.
    Is(Value),
    /// `!= V`
    IsNot(Value),
    /// `IN [V, …]`
    In(Vec<Value>),
    /// `NOT IN [V, …]`
    NotIn(Vec<Value>),
    /// `< V`, `<= V`, `> V`, `>= V`: which outcomes of comparing with V hold.
    Ordered(&'static [Ordering], Value),
}

impl Assertion {
    /// Whether it holds of a device with these attributes.
    #[must_use]
    pub fn holds(&self, attributes: &Attributes) -> bool {
        let Some(value) = attributes.get(&self.attribute) else {
            return self.condition == Condition::NotSet;
        };
        match &self.condition {
            Condition::Set => true,
            Condition::NotSet => false,
            Condition::Is(wanted) => same(value, wanted) == Some(true),
            Condition::IsNot(other) => same(value, other) == Some(false),
            Condition::In(list) => list.iter().any(|wanted| same(value, wanted) == Some(true)),
            Condition::NotIn(list) => list.iter().all(|other| same(value, other) == Some(false)),
            Condition::Ordered(outcomes, bound) => {
                compare(value, bound).is_some_and(|found| outcomes.contains(&found))
            }
        }
    }

    /// Reads `ATTRIBUTE`, `ATTRIBUTE OPERATOR VALUE` or `ATTRIBUTE IS SET`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let wrong = |why: &str| {
            Malformed::new(format!("\"{text}\" is no posture assertion: {why}"))
                .help("write, for instance, node:os == 'linux', node:osVersion >= '13.4', node:os IN ['macos', 'linux'] or custom:managed IS SET")
        };
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| c.is_whitespace() || "=!<>".contains(c)).unwrap_or(trimmed.len());
        let (attribute, rest) = (&trimmed[..end], trimmed[end..].trim());
        if !attribute.split_once(':').is_some_and(|(space, name)| !space.is_empty() && !name.is_empty()) {
            return Err(wrong("an attribute is NAMESPACE:NAME, such as node:os"));
        }
        let condition = condition(rest).map_err(|why| wrong(&why))?;
        Ok(Self { attribute: attribute.into(), condition })
    }
}

/// Whether two values are equal; `None` if they are of different types.
fn same(a: &Value, b: &Value) -> Option<bool> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a == b),
        (Value::Bool(a), Value::Bool(b)) => Some(a == b),
        (Value::Number(a), Value::Number(b)) => Some(a.as_f64() == b.as_f64()),
        _ => None,
    }
}

/// Numbers by size, strings as versions; nothing else has an order.
fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => {
            let (mut a, mut b) = (version(a)?, version(b)?);
            let length = a.len().max(b.len());
            a.resize(length, 0);
            b.resize(length, 0);
            Some(a.cmp(&b))
        }
        _ => None,
    }
}

/// The numbers of a version, up to its first suffix: 1.40.2-dev → 1, 40, 2.
fn version(text: &str) -> Option<Vec<u64>> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text[..end].trim_end_matches('.').split('.').map(|part| part.parse().ok()).collect()
}

fn condition(text: &str) -> Result<Condition, String> {
    const SYMBOLS: [(&str, &[Ordering]); 4] = [
        (">=", &[Ordering::Greater, Ordering::Equal]),
        ("<=", &[Ordering::Less, Ordering::Equal]),
        (">", &[Ordering::Greater]),
        ("<", &[Ordering::Less]),
    ];
    if text.is_empty() {
        return Ok(Condition::Is(true.into()));
    }
    if let Some(rest) = text.strip_prefix("==") {
        return Ok(Condition::Is(value(rest)?));
    }
    if let Some(rest) = text.strip_prefix("!=") {
        return Ok(Condition::IsNot(value(rest)?));
    }
    for (symbol, outcomes) in SYMBOLS {
        if let Some(rest) = text.strip_prefix(symbol) {
            let bound = value(rest)?;
            if compare(&bound, &bound).is_none() {
                return Err(format!("{symbol} is for numbers and versions"));
            }
            return Ok(Condition::Ordered(outcomes, bound));
        }
    }
    let (word, rest) = word(text);
    match (word.as_str(), rest) {
        ("IS", rest) if rest.eq_ignore_ascii_case("SET") => Ok(Condition::Set),
        ("NOT", rest) if rest.eq_ignore_ascii_case("SET") => Ok(Condition::NotSet),
        ("IN", rest) => Ok(Condition::In(list(rest)?)),
        ("NOT", rest) => match self::word(rest) {
            (word, rest) if word == "IN" => Ok(Condition::NotIn(list(rest)?)),
            _ => Err("after NOT comes SET or IN".into()),
        },
        _ => Err("the operators are ==, !=, <, <=, >, >=, IN, NOT IN, IS SET and NOT SET".into()),
    }
}

/// The first word in capitals, and what follows it.
fn word(text: &str) -> (String, &str) {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..end].to_ascii_uppercase(), text[end..].trim())
}

/// One value and nothing after it.
fn value(text: &str) -> Result<Value, String> {
    match literal(text.trim())? {
        (value, "") => Ok(value),
        (_, rest) => Err(format!("\"{rest}\" is too much")),
    }
}

/// A value at the start of a text, and what follows it.
fn literal(text: &str) -> Result<(Value, &str), String> {
    if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) {
        let (inside, rest) = text[1..].split_once(quote).ok_or("a quote is not closed")?;
        return Ok((inside.into(), rest.trim_start()));
    }
    let end = text.find(|c: char| c.is_whitespace() || ",]".contains(c)).unwrap_or(text.len());
    let value = match serde_json::from_str(&text[..end]) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        _ => return Err("a value is a number, true, false, or text in single quotes".into()),
    };
    Ok((value, text[end..].trim_start()))
}

fn list(text: &str) -> Result<Vec<Value>, String> {
    let mut rest = text.strip_prefix('[').ok_or("a list stands in [ ]")?.trim_start();
    let mut values = Vec::new();
    loop {
        let (value, after) = literal(rest)?;
        values.push(value);
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after == "]" => return Ok(values),
            None => return Err("a list ends with ]".into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(assertion: &str, attributes: &Value) -> bool {
        let Value::Object(attributes) = attributes else { panic!() };
        Assertion::parse(assertion).unwrap().holds(attributes)
    }

    #[test]
    fn every_operator() {
        let device = serde_json::json!({
            "node:os": "macos", "node:osVersion": "13.4.1", "custom:score": 70, "custom:managed": true, "custom:lost": false,
        });
        for yes in [
            "node:os == 'macos'",
            "node:os=='macos'",
            "node:os != \"linux\"",
            "node:os IN ['linux', 'macos']",
            "node:os NOT IN ['linux']",
            "node:os in ['macos']",
            "node:osVersion >= '13.4'",
            "node:osVersion > '13.4'",
            "node:osVersion < '13.10'",
            "node:osVersion <= '13.4.1'",
            "custom:score >= 70",
            "custom:score < 70.5",
            "custom:score IN [1, 70]",
            "custom:managed",
            "custom:managed == true",
            "custom:lost != true",
            "node:os IS SET",
            "custom:other NOT SET",
        ] {
            assert!(holds(yes, &device), "{yes}");
        }
        for no in [
            "node:os == 'linux'",
            "node:os != 'macos'",
            "node:osVersion > '13.4.1'",
            "node:osVersion >= '13.10'",
            "custom:lost",
            "node:os NOT SET",
            "custom:other IS SET",
            "node:os IN ['linux']",
            "node:os NOT IN ['macos']",
        ] {
            assert!(!holds(no, &device), "{no}");
        }
    }

    #[test]
    fn what_is_not_set_or_of_another_type_satisfies_nothing() {
        let device = serde_json::json!({"custom:a": "1", "custom:name": "beta"});
        for no in [
            "custom:b != 'x'",
            "custom:b NOT IN ['x']",
            "custom:a == 1",
            "custom:a != 1",
            "custom:a NOT IN [1]",
            "custom:a NOT IN ['2', 1]",
            "custom:a < 2",
            "custom:a",
            "custom:name < '2'",
        ] {
            assert!(!holds(no, &device), "{no}");
        }
    }

    #[test]
    fn what_is_no_assertion_is_refused() {
        for bad in [
            "",
            "os == 'linux'",
            ":a",
            "node: == 1",
            "node:os = 'linux'",
            "node:os == linux",
            "node:os == 'linux",
            "node:os ==",
            "node:os == 'a' 'b'",
            "node:os IS",
            "node:os IS NULL",
            "node:os IN 'a'",
            "node:os IN []",
            "node:os IN ['a'",
            "node:os IN ['a' 'b']",
            "node:os LIKE 'a'",
            "node:os NOT",
            "node:os >= true",
            "node:osVersion > 'abc'",
            "node:os == null",
        ] {
            assert!(Assertion::parse(bad).is_err(), "{bad}");
        }
    }
}
