//! Replies: the other side of a flow that began by a rule, judged anew at every packet.

use bulkhead_abi::{Direction, FLOW_AUDIT, FlowKey};

use crate::flow::{look_up, record_reply, reply_key};
use crate::metadata::{Found, Metadata, Outcome, Sides};
use crate::{Calls, Environment, Judgement, Reason};

/// Passes a packet as the reply side of a flow that today's policy still allows; the rule is
/// the one that allows it. The outcome is left in the metadata.
#[inline(always)]
pub fn reply(env: &impl Calls, meta: &mut Metadata, direction: Direction) {
    let Metadata { headers, found, sides, outcome, .. } = meta;
    *outcome = Outcome::of(Reason::NoFlow);
    let now = env.flow_time();
    found.key.set(reply_key(env, headers, direction));
    look_up(env, now, true, found);
    outcome.reason = found.reason;
    if !found.is_some() {
        return;
    }
    let flags = found.flow.flags;
    let allowed = still_allowed(env, &found.key, direction.opposite(), *sides);
    // What is cut off for now keeps its flow, for when it is released.
    if allowed.is_err() && env.has_exemptions() && sides.quarantined != 0 {
        outcome.reason = Reason::Quarantined;
        return;
    }
    if let Err(reason) = allowed
        && !env.audit()
    {
        remove_revoked(env, found);
        outcome.reason = reason;
        return;
    }
    // In audit mode what is revoked goes on, so that its flow is there when a policy that
    // admits it is enforced again.
    let allowed = allowed.map(|judgement| (judgement.rule, judgement.flags));
    let (rule, cell) = allowed.unwrap_or((found.flow.rule, 0));
    found.flags = cell;
    if record_reply(env, found, headers, rule, now) == Reason::FlowTableFull {
        outcome.reason = Reason::FlowTableFull;
        return;
    }
    match allowed {
        Ok((rule, _)) => *outcome = Outcome { reason: Reason::Reply, rule },
        Err(_) if flags & FLOW_AUDIT != 0 => outcome.reason = Reason::AuditReply,
        Err(reason) => outcome.reason = reason,
    }
}

/// Judges a flow again by the tuple of its first packet; returns the judgement that allows it.
#[inline(always)]
pub(crate) fn still_allowed(
    env: &impl Calls,
    key: &FlowKey,
    started: Direction,
    sides: Sides,
) -> Result<Judgement, Reason> {
    let classes = [sides.local, sides.remote];
    let judgement = env.judge(started, classes, key.protocol, key.responder_port);
    let exempt = !env.has_exemptions() || sides.quarantined == 0 || judgement.exempt();
    if judgement.reason == Reason::Rule && exempt { Ok(judgement) } else { Err(Reason::FlowRevoked) }
}

/// Removes a flow that is no longer allowed. An older program meeting a newer flow judges and
/// does not write.
#[inline(always)]
fn remove_revoked(env: &impl Environment, found: &Found) {
    if found.flow.generation <= env.generation() {
        env.remove_flow(&found.key);
    }
}
