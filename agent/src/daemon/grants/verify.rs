//! Whether a note grants something under a policy.

use bulkhead_api::grant::{Entry, Standing};
use bulkhead_grants::{Grant, Note};
use bulkhead_policy::Dialect;
use bulkhead_policy::inventory::Inventory;
use bulkhead_policy::policy::Policy;
use bulkhead_policy::policy::compose::Running;
use bulkhead_policy::resolve::grantable::{Wanted, entries};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// When a grant is judged, in ns since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// As it is handed in.
    New(u64),
    /// While it runs: a clock that was set back ends none.
    Running(u64),
}

/// A grant that is one, and who has approved it.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) grant: Grant,
    pub(super) approvers: Vec<String>,
}

/// Why a note grants nothing.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// The id that it says it has, if it says one.
    pub(super) id: Option<String>,
    pub(super) why: String,
}

/// Seconds since 1970 of ns since the Unix epoch.
pub(super) fn seconds(now: u64) -> i64 {
    (now / 1_000_000_000).cast_signed()
}

/// Verifies a note: its signatures, its time, what it asks for, and whether those who signed may grant that.
///
/// # Errors
/// Why it grants nothing.
pub(super) fn verify(
    note: &Note,
    (policy, inventory, dialect): (&Policy, &Inventory, Dialect),
    moment: Moment,
) -> Result<Verified, Refusal> {
    let grant = Grant::parse(note.text()).map_err(|error| Refusal { id: None, why: error.to_string() })?;
    let refuse = |why: String| Refusal { id: Some(grant.id.clone()), why };
    let of_note = |error: bulkhead_grants::Error| refuse(error.to_string());
    let people = policy.people().map_err(of_note)?;
    // A signature that does not fit says more than anything that the text says.
    people.quorum(note, 0, None, None).map_err(of_note)?;
    let now = match moment {
        Moment::New(now) => seconds(now),
        Moment::Running(now) => seconds(now).max(grant.window.from),
    };
    grant.check_time(now).map_err(of_note)?;
    let wanted = Wanted {
        source: &grant.source,
        destination: &grant.destination,
        protocol: &grant.protocol,
        seconds: grant.seconds(),
        break_glass: grant.break_glass,
    };
    let entries = entries(policy, inventory, dialect, wanted).map_err(|error| refuse(error.to_string()))?;
    let mut why = None;
    for entry in entries {
        let by: Vec<&str> = entry.by.iter().map(|name| &*name.value).collect();
        let by = Some(&by[..]).filter(|by| !by.is_empty());
        match people.quorum(note, entry.approvals as usize, by, Some(&grant.requester)) {
            Ok(approvers) => return Ok(Verified { grant, approvers }),
            Err(error) => _ = why.get_or_insert(error.to_string()),
        }
    }
    Err(refuse(why.unwrap_or_default()))
}

/// Who has approved a note that is handed in at a time, ns since the Unix epoch.
///
/// # Errors
/// Why it grants nothing.
pub fn approvers(
    note: &Note,
    under: (&Policy, &Inventory, Dialect),
    now: u64,
) -> Result<Vec<String>, String> {
    let verified = verify(note, under, Moment::New(now));
    verified.map(|verified| verified.approvers).map_err(|refusal| refusal.why)
}

impl Verified {
    fn until(&self) -> String {
        let time = OffsetDateTime::from_unix_timestamp(self.grant.window.until).ok();
        time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
    }

    /// As its policy has it.
    pub(super) fn running(&self) -> Running {
        let Grant { id, requester, source, destination, protocol, ticket, reason, break_glass, .. } =
            self.grant.clone();
        let (expires, approvers) = (self.until(), self.approvers.clone());
        Running {
            id,
            source,
            destination,
            protocol,
            expires,
            ticket,
            reason,
            requester,
            approvers,
            break_glass,
        }
    }

    /// As it is listed.
    pub(super) fn entry(&self) -> Entry {
        let Running { id, source, destination, protocol, expires, ticket, reason, .. } = self.running();
        Entry {
            id,
            standing: Standing::Running,
            source,
            destination,
            protocol,
            until: expires,
            ticket,
            reason,
            requester: self.grant.requester.clone(),
            approvers: self.approvers.clone(),
            break_glass: self.grant.break_glass,
            why: None,
        }
    }
}
