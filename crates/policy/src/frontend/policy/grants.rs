//! Access that ends: `approvers`, `grantable`, and `granted`, which the agent writes.

use bulkhead_grants::{LONGEST, People, Person, PublicKey, check_name, is_id};

use super::definitions::look_alike;
use super::fields::{complain, required};
use super::ports;
use super::record::Record;
use super::rules::{acl_destination, expires, list, proto, selectors};
use super::selector::Malformed;
use super::venues::MOST;
use super::{Action, Approver, Destination, Grant, Grantable, Quarantining, Rates, Rule, Section, Selector};
use crate::Dialect;
use crate::frontend::json::{Kind, Object, Reader, Value};
use crate::frontend::source::{Span, Spanned};

/// The longest time of a break-glass entry, in seconds.
const BREAK_GLASS: u64 = 3600;

/// How many people an entry asks for, if it does not say.
const APPROVALS: u32 = 2;

/// No entry asks for more.
const MOST_APPROVALS: u32 = 16;

fn problem(message: impl Into<String>) -> Malformed {
    Malformed::new(message.into())
}

/// `approvers`: people by name, each with a key or more.
pub(super) fn approvers(reader: &mut Reader<'_>, value: &Value<'_>) -> Vec<Approver> {
    let Some(object) = reader.object(value, "approvers") else { return Vec::new() };
    let mut all: Vec<Approver> = Vec::new();
    if object.members.len() > MOST {
        reader.error(object.span, format!("more than {MOST} approvers"));
        return all;
    }
    for (name, member) in reader.entries(object) {
        if let Err(error) = check_name(name) {
            complain(reader, member.span, problem(error.to_string()));
            continue;
        }
        let Some(words) = reader.strings(&member.value, &format!("\"{name}\"")) else { continue };
        let mut keys: Vec<Spanned<PublicKey>> = Vec::new();
        for word in &words {
            match PublicKey::parse(&word.value) {
                Ok(key) => keys.push(Spanned::new(key, word.span)),
                Err(error) => complain(reader, word.span, problem(error.to_string())),
            }
        }
        if words.is_empty() {
            let problem = problem(format!("{name} has no key")).help("write the line of a .pub file");
            complain(reader, member.span, problem);
        }
        for key in &keys {
            if let Some(other) = all
                .iter()
                .find(|other| other.keys.iter().any(|known| known.value.is_of_same_pair(&key.value)))
            {
                let problem = problem(format!("{name} and {} have the same key", other.name.value))
                    .help("a key is one person's: else one could sign for two");
                complain(reader, key.span, problem);
            }
        }
        all.push(Approver { name: Spanned::new(name.to_owned(), member.span), keys });
    }
    all
}

/// `grantable`: what may be granted, for how long, and by whom.
pub(super) fn grantable(reader: &mut Reader<'_>, value: &Value<'_>, dialect: Dialect) -> Vec<Grantable> {
    let all =
        list(reader, value, "grantable", |reader, object| entry(reader, object, dialect)).unwrap_or_default();
    if all.len() > MOST {
        reader.error(value.span, format!("more than {MOST} entries of grantable"));
        return Vec::new();
    }
    all
}

fn entry(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Grantable> {
    const KNOWN: [&str; 8] = ["name", "src", "dst", "proto", "longest", "approvals", "by", "breakGlass"];
    let (mut name, mut sources, mut destinations, mut protocol) = (None, None, None, None);
    let (mut longest, mut approvals, mut by, mut break_glass) = (None, None, None, false);
    let mut approvals_at = object.span;
    for (field, property) in reader.fields(object, "an entry of grantable", &KNOWN) {
        let value = &property.value;
        match field {
            "name" => name = reader.string(value, field),
            "src" => sources = reader.strings(value, field),
            "dst" => destinations = reader.strings(value, field),
            "proto" => protocol = Some(reader.string(value, field)?),
            "longest" => longest = Some(seconds(reader, value)),
            "approvals" => {
                approvals_at = value.span;
                approvals = Some(count(reader, value)?);
            }
            "by" => by = Some(reader.strings(value, field)?),
            _ => break_glass = reader.boolean(value, field)?,
        }
    }
    let what = "the entry";
    if let Some(name) = &name {
        look_alike(reader, &name.value, name.span);
    }
    let sources = required(reader, object, sources, "src", what);
    let destinations = required(reader, object, destinations, "dst", what);
    let longest = required(reader, object, longest, "longest", what)??;
    if break_glass && longest.value > BREAK_GLASS {
        let problem = problem(format!("a breakGlass entry is for {BREAK_GLASS} s at most"))
            .help("write \"longest\": \"1h\" or less: what takes longer has time for another signature");
        complain(reader, longest.span, problem);
    }
    if let (true, Some(_)) = (break_glass, approvals) {
        let problem =
            problem("a breakGlass entry has no approvals").help("one signature suffices: leave it out");
        complain(reader, approvals_at, problem);
    }
    let protocol = match protocol {
        None => ports::protocol("tcp", true).ok(),
        Some(text) => proto(reader, Some(&text), dialect)?,
    };
    let sources = selectors(reader, &sources?, dialect);
    let destinations =
        destinations?.iter().filter_map(|word| acl_destination(reader, word, protocol, dialect)).collect();
    let approvals = if break_glass { 1 } else { approvals.unwrap_or(APPROVALS) };
    let by = by.unwrap_or_default();
    Some(Grantable {
        span: object.span,
        name,
        sources,
        destinations,
        longest,
        approvals,
        approvals_at,
        by,
        break_glass,
    })
}

/// A time such as `90s`, `30m`, `4h` or `2d`, in seconds.
fn seconds(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Spanned<u64>> {
    let text = reader.string(value, "longest")?;
    let seconds = text.value.char_indices().next_back().and_then(|(end, unit)| {
        let number = text.value[..end].parse::<u64>().ok()?;
        let unit = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        number.checked_mul(unit).filter(|seconds| (1..=LONGEST).contains(seconds))
    });
    if seconds.is_none() {
        let problem = problem(format!("\"{}\" is no time that a grant can have", text.value))
            .help("write 30m, 4h or 2d: 30d at most");
        complain(reader, text.span, problem);
    }
    Some(Spanned::new(seconds?, text.span))
}

fn count(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<u32> {
    let number = match &value.kind {
        Kind::Number(digits) => digits.parse().ok().filter(|number| (1..=MOST_APPROVALS).contains(number)),
        _ => None,
    };
    if number.is_none() {
        let message = format!("approvals must be a whole number from 1 to {MOST_APPROVALS}");
        complain(reader, value.span, problem(message));
    }
    number
}

/// What holds where a policy has no `quarantine`: two of the approvers.
pub(super) const fn quarantining() -> Quarantining {
    Quarantining { approvals: APPROVALS, by: Vec::new() }
}

/// `quarantine`: who may have a node cut off on every host of a fleet; and where it says how many.
pub(super) fn quarantine(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<(Quarantining, Span)> {
    let object = reader.object(value, "quarantine")?;
    let (mut found, mut at) = (quarantining(), object.span);
    for (field, property) in reader.fields(object, "quarantine", &["approvals", "by"]) {
        let value = &property.value;
        if field == "approvals" {
            (found.approvals, at) = (count(reader, value)?, value.span);
        } else {
            found.by = reader.strings(value, field)?;
        }
    }
    Some((found, at))
}

/// That whoever is to approve is known, and that there are enough of them. Asked once both sections are read.
pub(super) fn check(reader: &mut Reader<'_>, approvers: &[Approver], grantable: &[Grantable]) {
    for entry in grantable {
        check_people(reader, approvers, (&entry.by, entry.approvals, entry.approvals_at));
    }
}

/// The same of people, how many of them, and where that is written.
pub(super) fn check_people(
    reader: &mut Reader<'_>,
    approvers: &[Approver],
    (by, approvals, at): (&[Spanned<String>], u32, Span),
) {
    for name in by {
        if approvers.iter().all(|approver| approver.name.value != name.value) {
            let names: Vec<&str> = approvers.iter().map(|approver| &*approver.name.value).collect();
            let message = format!("{} is not among the approvers", name.value);
            let problem = problem(message).help(format!("approvers are {}", names.join(", ")));
            complain(reader, name.span, problem);
        }
    }
    let mut people: Vec<&str> = by.iter().map(|name| &*name.value).collect();
    people.sort_unstable();
    people.dedup();
    let people = if by.is_empty() { approvers.len() } else { people.len() };
    if people < approvals as usize {
        let message = format!("{approvals} people are to approve, and {people} may");
        let problem = problem(message).help("name more of them, or ask for fewer");
        complain(reader, at, problem);
    }
}

/// `granted`: grants that run. The agent writes it into what it enforces, and nobody else.
pub(super) fn granted(reader: &mut Reader<'_>, value: &Value<'_>, dialect: Dialect) -> Vec<Rule> {
    list(reader, value, "granted", |reader, object| running(reader, object, dialect)).unwrap_or_default()
}

fn running(reader: &mut Reader<'_>, object: &Object<'_>, dialect: Dialect) -> Option<Rule> {
    const KNOWN: [&str; 10] =
        ["id", "src", "dst", "proto", "expires", "ticket", "reason", "requester", "approvers", "breakGlass"];
    let (mut id, mut sources, mut destinations, mut protocol, mut until) = (None, None, None, None, None);
    let (mut ticket, mut reason, mut requester, mut approvers) = (None, None, None, None);
    let mut break_glass = false;
    for (field, property) in reader.fields(object, "an entry of granted", &KNOWN) {
        let value = &property.value;
        match field {
            "id" => id = reader.string(value, field),
            "src" => sources = reader.strings(value, field),
            "dst" => destinations = reader.strings(value, field),
            "proto" => protocol = reader.string(value, field),
            "expires" => until = expires(reader, value),
            "ticket" => ticket = reader.string(value, field),
            "reason" => reason = reader.string(value, field),
            "requester" => requester = reader.string(value, field),
            "approvers" => approvers = reader.strings(value, field),
            _ => break_glass = reader.boolean(value, field)?,
        }
    }
    let what = "the entry";
    let id = required(reader, object, id, "id", what)?;
    if !is_id(&id.value) {
        reader.error(id.span, "an id is 32 hexadecimal digits");
    }
    let protocol = required(reader, object, protocol, "proto", what)?;
    let protocol = proto(reader, Some(&protocol), dialect)?;
    let sources = required(reader, object, sources, "src", what)?;
    let destinations = required(reader, object, destinations, "dst", what)?;
    let until = required(reader, object, until, "expires", what)?;
    let requester = required(reader, object, requester, "requester", what)?.value;
    let approvers = required(reader, object, approvers, "approvers", what)?;
    let approvers = approvers.into_iter().map(|name| name.value).collect();
    let name = Spanned::new(format!("grant {}", id.value), id.span);
    let text = |text: Option<Spanned<String>>| text.map(|text| text.value);
    Some(Rule {
        span: object.span,
        section: Section::Granted,
        name: Some(name),
        action: Action::Accept,
        on_deny: None,
        sources: selectors(reader, &sources, dialect),
        destinations: destinations
            .iter()
            .filter_map(|word| acl_destination(reader, word, protocol, dialect))
            .collect(),
        posture: Vec::new(),
        via: Vec::new(),
        expires: Some(until),
        rates: Rates::default(),
        tls: None,
        record: Record { ticket: text(ticket), reason: text(reason), ..Record::default() },
        grant: Some(Grant { id: id.value, requester, approvers, break_glass }),
    })
}

impl super::Policy {
    /// The approvers, for counting who has signed.
    ///
    /// # Errors
    /// If a policy with errors was read.
    pub fn people(&self) -> bulkhead_grants::Result<People> {
        let person = |approver: &Approver| Person {
            name: approver.name.value.clone(),
            keys: approver.keys.iter().map(|key| key.value.clone()).collect(),
        };
        People::new(self.approvers.iter().map(person).collect())
    }
}

impl Quarantining {
    /// Who may sign; none: each of the approvers.
    #[must_use]
    pub fn people(&self) -> Option<Vec<&str>> {
        let by: Vec<&str> = self.by.iter().map(|name| &*name.value).collect();
        (!by.is_empty()).then_some(by)
    }
}

impl Grantable {
    /// Its name, or what it is.
    #[must_use]
    pub fn title(&self) -> String {
        self.name
            .as_ref()
            .map_or("an entry of grantable".to_owned(), |name| format!("grantable \"{}\"", name.value))
    }
}

/// A destination with ports that stands by itself, in no file: its place says nothing.
pub(crate) fn destination(word: &str, protocol: u8) -> Result<Destination, String> {
    let parsed = ports::split(word).and_then(|(selector, text)| {
        let set = ports::parse(text, Dialect::Bulkhead)?;
        ports::portless(Some(protocol), &set)?;
        Ok((Selector::parse(selector)?, set))
    });
    let (selector, set) = parsed.map_err(|problem| problem.message)?;
    let selector = Spanned::new(selector, Span::default());
    Ok(Destination { selector, services: vec![(Some(protocol), set)] })
}

/// A protocol by name or number.
pub(crate) fn protocol_of(text: &str) -> Result<u8, String> {
    ports::protocol(text, true).map_err(|problem| problem.message)
}
