//! The session in which somebody asks for a change is not cut by it, unless that is meant.

use std::net::IpAddr;

use bulkhead_abi::Direction;
use bulkhead_api::mode::Mode;
use bulkhead_api::session::Session;
use bulkhead_dataplane::Dataplane;
use bulkhead_engine::Action;
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::reference::Probe;
use bulkhead_policy::service::TCP;

use crate::config::Managed;
use crate::daemon::clock::wall_time;
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::Inputs;
use crate::daemon::state::venues::{Way, way_to};
use crate::guard::Guard;

/// Why files that would be enforced cut a session; none: they do not.
///
/// # Errors
/// If routes cannot be asked for.
pub fn cut<D: Dataplane>(
    enforcer: &Enforcer<D>,
    inputs: &Inputs,
    session: Option<Session>,
) -> anyhow::Result<Option<String>> {
    let Some(Session { client, server }) = session else { return Ok(None) };
    let ends = [client.ip().to_canonical(), server.ip().to_canonical()];
    // Its packets come by the interface that those to its other end leave by.
    let managed = match way_to(ends[0])? {
        Way::Here => return Ok(None),
        Way::By(index) => managed(enforcer, index),
        // By a table that only its own packets are routed by, as of a VRF.
        Way::Unknown => None,
    };
    let problem = match managed {
        Some(managed) if inputs.mode == Mode::Enforce => by_policy(managed, inputs, ends, server.port()),
        Some(_) => None,
        // The guard is there in audit mode, too.
        None if enforcer.setup.config.guard => by_guard(inputs, &enforcer.setup.options.node, ends),
        None => None,
    };
    Ok(problem.map(|problem| {
        format!(
            "this would cut the session that asks for it: {problem}, or repeat the command with --force\n"
        )
    }))
}

/// The interface of an index, if it is managed and enforced.
fn managed<D: Dataplane>(enforcer: &Enforcer<D>, index: u32) -> Option<&Managed> {
    let name = {
        let live = enforcer.live();
        let attached = live.attached.iter().find(|attached| attached.index == index);
        attached?.interface.clone()
    };
    enforcer.setup.config.interfaces.iter().find(|managed| managed.name == name)
}

/// What the policy says to a session by a managed interface.
fn by_policy(
    managed: &Managed,
    inputs: &Inputs,
    [source, destination]: [IpAddr; 2],
    port: u16,
) -> Option<String> {
    let program = inputs.program_of(managed.role);
    let probe = Probe { source, destination, protocol: TCP, port };
    let reason = evaluate(&environment(&program.tables, wall_time()), Direction::Ingress, &probe).reason;
    (reason.action() == Action::Drop).then(|| {
        format!(
            "{} does not admit TCP from {source} to {destination}:{port} ({}); admit it, or exempt it by [[management]] \
             in agent.toml",
            managed.name,
            reason.name()
        )
    })
}

/// What the guard does to a session by any other interface: there it lets no overlay address pass.
fn by_guard(inputs: &Inputs, node: &str, [client, server]: [IpAddr; 2]) -> Option<String> {
    let Guard { own, others, .. } = Guard::of_node(&inputs.inventory.nodes, node);
    let (end, whose) = if own.contains(&server) {
        (server, "this host's own end")
    } else if own.contains(&client) || others.contains(&client) {
        (client, "its other end")
    } else {
        return None;
    };
    let name = inputs.inventory.nodes.iter().find(|node| node.addresses.contains(&end));
    Some(format!(
        "the inventory has {end}, {whose}, as an overlay address of {}, and the guard drops those on interfaces that \
         are not managed, in audit mode, too; take it out of the node's `addresses` (`underlay` is for what is no \
         overlay address)",
        name.map_or("a node", |node| &node.name)
    ))
}
