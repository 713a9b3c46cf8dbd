//! Two workloads of one host of which each would be some cgroup: then nobody can say whose it is.
//!
//! Where a unit lies is known when it runs. What can overlap by the names alone is an error in the file; the rest the
//! agent tells of when it sees it, and lets neither of them send.

use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::json::Reader;
use crate::frontend::source::Span;

/// One entry of a workload's `match`.
pub(super) struct Match {
    /// What it says.
    pub(super) form: Form,
    /// Where it is written.
    pub(super) span: Span,
}

/// What an entry of a `match` names.
pub(super) enum Form {
    /// A systemd unit.
    Unit(String),
    /// A pattern of whole paths.
    Cgroup(String),
}

impl Form {
    /// The unit's name.
    pub(super) fn unit(&self) -> Option<&str> {
        match self {
            Self::Unit(name) => Some(name),
            Self::Cgroup(_) => None,
        }
    }

    /// The pattern.
    pub(super) fn cgroup(&self) -> Option<&str> {
        match self {
            Self::Unit(_) => None,
            Self::Cgroup(pattern) => Some(pattern),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Unit(text) | Self::Cgroup(text) => text,
        }
    }

    /// Whether a cgroup may be both, or one of them may hold the other, as far as the names tell.
    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unit(one), Self::Unit(other)) => one == other || holds(one, other) || holds(other, one),
            (Self::Unit(unit), Self::Cgroup(pattern)) | (Self::Cgroup(pattern), Self::Unit(unit)) => {
                // A unit lies below nothing but slices. A star alone stands for directories of any kind: whether a unit
                // is one of them is known when it runs.
                for part in pattern.split('/').skip(1) {
                    if part != "*" && meet(part.as_bytes(), unit.as_bytes()) {
                        return true;
                    }
                    if !meet(part.as_bytes(), b"*.slice") {
                        return false;
                    }
                }
                false
            }
            (Self::Cgroup(one), Self::Cgroup(other)) => one
                .split('/')
                .zip(other.split('/'))
                .all(|(one, other)| meet(one.as_bytes(), other.as_bytes())),
        }
    }
}

/// Whether a slice holds another one by its name, as `a.slice` holds `a-b.slice`.
fn holds(slice: &str, other: &str) -> bool {
    let (Some(slice), Some(other)) = (slice.strip_suffix(".slice"), other.strip_suffix(".slice")) else {
        return false;
    };
    other.strip_prefix(slice).is_some_and(|rest| rest.starts_with('-')) || slice == "-"
}

/// Whether some name matches both patterns, in which `*` stands for any characters.
fn meet(one: &[u8], other: &[u8]) -> bool {
    // reach[j]: the part of `one` that was read, and the first j of `other`, have a name in common.
    let mut reach = vec![false; other.len() + 1];
    for read in 0..=one.len() {
        let before = reach.clone();
        for to in 0..=other.len() {
            let (last, other_last) =
                (read.checked_sub(1).map(|at| one[at]), to.checked_sub(1).map(|at| other[at]));
            reach[to] = match (last, other_last) {
                (None, None) => true,
                (Some(b'*'), _) => before[to] || to > 0 && reach[to - 1],
                (_, Some(b'*')) => reach[to - 1] || last.is_some() && before[to],
                (Some(last), Some(other_last)) => last == other_last && before[to - 1],
                _ => false,
            };
        }
    }
    reach[other.len()]
}

/// Tells where the `match` of a workload overlaps those of earlier ones.
pub(super) fn check(
    reader: &mut Reader<'_>,
    earlier: &[(String, Vec<Match>)],
    name: &str,
    matches: &[Match],
) {
    for (other, theirs) in earlier {
        let pairs = matches.iter().flat_map(|own| theirs.iter().map(move |their| (own, their)));
        for (own, their) in pairs.filter(|(own, their)| own.form.overlaps(&their.form)) {
            let message = format!(
                "{name} and {other} would both be cgroups that {} and {} match",
                own.form.text(),
                their.form.text()
            );
            let error = Diagnostic::error(reader.source, own.span, message)
                .related(reader.source, their.span, format!("{other} matches here"))
                .help("a cgroup, with all below it, is one workload: make them distinct, or one workload of them");
            reader.findings.push(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, meet};

    #[test]
    fn patterns_meet_where_some_name_matches_both() {
        for (one, other, is) in [
            ("a", "a", true),
            ("a", "b", false),
            ("", "", true),
            ("*", "", true),
            ("a*", "*b", true),
            ("a*c", "ab*", true),
            ("a*", "b*", false),
            ("job-*.scope", "job-1.scope", true),
            ("job-*.scope", "job-*.service", false),
            ("*a*", "*b*", true),
            ("aa*", "a", false),
            ("*", "*", true),
            ("a*b*c", "a*d", false),
        ] {
            assert_eq!(meet(one.as_bytes(), other.as_bytes()), is, "{one} {other}");
            assert_eq!(meet(other.as_bytes(), one.as_bytes()), is, "{other} {one}");
        }
    }

    #[test]
    fn what_holds_another_overlaps_it() {
        let form = |text: &str| match text.starts_with('/') {
            true => Form::Cgroup(text.into()),
            false => Form::Unit(text.into()),
        };
        for (one, other, is) in [
            ("a.service", "a.service", true),
            ("a.service", "b.service", false),
            ("a.slice", "a-b.slice", true),
            ("a.slice", "ab.slice", false),
            ("a.slice", "a-b.service", false),
            ("a.service", "/x.slice/a.service/y", true),
            ("a.service", "/x.slice/a*", true),
            ("a.service", "/*/a*", true),
            ("a.service", "/x*/a.service", true),
            ("a.service", "/x/a.service/y", false),
            ("a.service", "/x.slice/y.service/a*", false),
            ("a.service", "/x/*", false),
            ("a.service", "/x/b*", false),
            ("/x", "/x/y", true),
            ("/x/*", "/*/y", true),
            ("/x/a", "/y/a", false),
            ("/ci.slice/job-*.scope", "/ci.slice/job-1.scope/inner", true),
        ] {
            assert_eq!(form(one).overlaps(&form(other)), is, "{one} {other}");
            assert_eq!(form(other).overlaps(&form(one)), is, "{other} {one}");
        }
    }
}
