//! The session in which somebody asks for a change is not cut by it, unless that is meant.

use bulkhead_abi::Direction;
use bulkhead_api::mode::Mode;
use bulkhead_api::session::Session;
use bulkhead_dataplane::Dataplane;
use bulkhead_engine::Action;
use bulkhead_policy::evaluate::{environment, evaluate};
use bulkhead_policy::reference::Probe;
use bulkhead_policy::service::TCP;

use crate::config::Role;
use crate::daemon::clock::wall_time;
use crate::daemon::state::Enforcer;
use crate::daemon::state::inputs::Inputs;
use crate::daemon::state::venues::interface_of;

/// Why files that would be enforced cut a session; none: they do not.
///
/// # Errors
/// If routes cannot be asked for.
pub fn cut<D: Dataplane>(
    enforcer: &Enforcer<D>,
    inputs: &Inputs,
    session: Option<Session>,
) -> anyhow::Result<Option<String>> {
    let Some(Session { client, server }) = session.filter(|_| inputs.mode == Mode::Enforce) else {
        return Ok(None);
    };
    let (source, destination) = (client.ip().to_canonical(), server.ip().to_canonical());
    // Its packets come by the interface that those to its other end leave by.
    let Some(index) = interface_of(source)? else { return Ok(None) };
    let name = {
        let live = enforcer.live();
        let attached = live.attached.iter().find(|attached| attached.index == index);
        attached.map(|attached| attached.interface.clone())
    };
    let managed =
        enforcer.setup.config.interfaces.iter().find(|managed| Some(&managed.name) == name.as_ref());
    let Some(managed) = managed else { return Ok(None) };
    let program = match (managed.role, &inputs.exchange) {
        (Role::Exchange, Some(exchange)) => &exchange.program,
        _ => &inputs.program,
    };
    let probe = Probe { source, destination, protocol: TCP, port: server.port() };
    let reason = evaluate(&environment(&program.tables, wall_time()), Direction::Ingress, &probe).reason;
    Ok((reason.action() == Action::Drop).then(|| {
        format!(
            "this would cut the session that asks for it: {} does not admit TCP from {source} to {destination}:{} ({}); \
             admit it, or exempt it by [[management]] in agent.toml, or repeat the command with --force\n",
            managed.name,
            server.port(),
            reason.name()
        )
    }))
}
