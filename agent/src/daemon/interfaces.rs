//! Interfaces come, go and come back. The guard holds what no program sees meanwhile.

use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context as _;
use bulkhead::kernel::{Attached, Interface, KernelError};
use bulkhead_compiler::inventory::Inventory;
use serde::{Deserialize, Serialize};

use super::enforcer::Enforcer;
use super::guarding;
use super::member::Arrival;
use super::setup::Setup;
use super::{start, takeover};
use crate::exit::Usage;

/// How often an agent without any interface looks whether one has come.
const INTERVAL: Duration = Duration::from_millis(100);

/// What came of `attach`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// What is attached, if the interface is enforced.
    pub attached: Option<Attached>,
    /// The generation that is enforced.
    pub generation: u32,
}

/// Waits until one of the managed interfaces is there. The guard keeps the others' names closed.
///
/// # Errors
/// If an interface that must be there is not, or the guard is refused.
pub fn wait_for_one(setup: &Setup, inventory: &Inventory) -> anyhow::Result<()> {
    let managed = &setup.config.interfaces;
    for must in managed.iter().filter(|managed| !managed.is_optional) {
        Interface::find(&must.name)?;
    }
    let mut is_told = false;
    loop {
        for managed in managed {
            match Interface::find(&managed.name) {
                Ok(_) => return Ok(()),
                Err(KernelError::NoInterface(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !is_told {
            guarding::close(setup, inventory)?;
            let names: Vec<&str> = managed.iter().map(|managed| &*managed.name).collect();
            tracing::warn!("waiting for an interface: {}", names.join(", "));
            is_told = true;
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Managed interfaces that are not there, as `attached` has them.
pub fn absent(setup: &Setup, attached: &[Attached]) -> Vec<Attached> {
    let is_absent = |name: &str| attached.iter().all(|there| there.interface != name);
    let absent = setup.config.interfaces.iter().filter(|managed| is_absent(&managed.name));
    absent.map(|managed| Attached::gone(&managed.name)).collect()
}

impl Enforcer {
    /// Enforces on an interface now, if it is there; upkeep would do so a moment later.
    ///
    /// # Errors
    /// [`Usage`] if it is none that the agent manages; else what the system refused.
    pub fn attach(&self, interface: &str) -> anyhow::Result<Answer> {
        let managed = &self.setup.config.interfaces;
        if managed.iter().all(|managed| managed.name != interface) {
            let names: Vec<&str> = managed.iter().map(|managed| &*managed.name).collect();
            return Err(Usage(format!(
                "interface {interface} is none of the agent's ({}); add it to agent.toml as [[interface]] \
                 and start the agent again",
                names.join(", ")
            ))
            .into());
        }
        anyhow::ensure!(!self.live().detached, "the agent has detached and is ending");
        self.watch_interfaces()?;
        // Until the guard knows the interface it lets nothing pass there.
        self.keep_guard()?;
        let live = self.live();
        let attached = live.attached.iter().find(|there| there.interface == interface && there.index != 0);
        Ok(Answer { attached: attached.cloned(), generation: live.built.number })
    }

    /// Attaches to every managed interface that is not under the index it was attached under.
    ///
    /// # Errors
    /// The last interface that is there and not enforced.
    pub fn watch_interfaces(&self) -> anyhow::Result<()> {
        let _one = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        let attached = self.live().attached.clone();
        let mut failure = None;
        for known in attached {
            let now = match Interface::find(&known.interface) {
                Ok(interface) => interface,
                Err(KernelError::NoInterface(_)) => {
                    if known.index != 0 {
                        tracing::warn!(
                            interface = known.interface,
                            "is gone; what it carried is gone with it"
                        );
                        self.replace(&known, Attached::gone(&known.interface));
                    }
                    continue;
                }
                Err(error) => {
                    failure = Some(error.into());
                    continue;
                }
            };
            if now.index != known.index
                && let Err(error) = self.attach_again(&known, &now)
            {
                failure = Some(error.context(format!("interface {} is there and not enforced", now.name)));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn attach_again(&self, known: &Attached, now: &Interface) -> anyhow::Result<()> {
        let managed = self.setup.config.interfaces.iter().find(|managed| managed.name == now.name);
        let managed = managed.context("agent.toml does not name it")?;
        let (arrival, zones) = {
            let mut live = self.live();
            if live.detached {
                return Ok(());
            }
            let before = live.built.zones();
            let arrival = live.built.attach_again(now, managed, self.pins())?;
            let zones = live.built.zones();
            (arrival, Some(zones).filter(|zones| *zones != before))
        };
        match arrival {
            Arrival::Attached(attached) => {
                tracing::warn!(interface = now.name, index = now.index, "is there, and enforced");
                let mut indices = self.shared.indices.lock().unwrap_or_else(PoisonError::into_inner);
                indices.insert(now.index, now.name.clone());
                drop(indices);
                self.replace(known, attached);
                if let Some(zones) = zones {
                    start::tell(self.store.save(takeover::ZONES, &zones));
                }
            }
            Arrival::NeedsGeneration => {
                let built = self.rebuild().context("building programs for it")?;
                tracing::warn!(
                    interface = now.name,
                    generation = built.generation,
                    "is there, and enforced by a new generation"
                );
            }
        }
        Ok(())
    }

    fn replace(&self, known: &Attached, now: Attached) {
        let mut live = self.live();
        if let Some(place) = live.attached.iter_mut().find(|attached| *attached == known) {
            *place = now;
        }
    }
}
