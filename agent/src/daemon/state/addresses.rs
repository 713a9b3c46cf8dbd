//! The addresses that underlay interfaces have now, as the kernel says. Whoever compiles takes them from here.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bulkhead_dataplane::{Dataplane, DeviceTable};

use crate::config::{Config, Role};
use crate::daemon::state::held;

/// One list, shared by all clones.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<Mutex<BTreeSet<IpAddr>>>);

impl Addresses {
    /// These.
    #[must_use]
    pub fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self(Arc::new(Mutex::new(addresses.into_iter().collect())))
    }

    /// What was seen last.
    #[must_use]
    pub fn now(&self) -> BTreeSet<IpAddr> {
        held(&self.0).clone()
    }

    /// Asks the kernel for them; nothing where there is no underlay interface.
    ///
    /// # Errors
    /// If the kernel refuses; what was seen last stays.
    pub fn look(&self, plane: &impl Dataplane, config: &Config) -> io::Result<()> {
        if config.has_underlay() {
            self.look_by(&plane.devices()?, config)?;
        }
        Ok(())
    }

    /// The same by a way to ask that is open.
    ///
    /// # Errors
    /// If the kernel refuses; what was seen last stays.
    pub fn look_by(&self, devices: &impl DeviceTable, config: &Config) -> io::Result<()> {
        let found = by_interface(devices, config)?;
        *held(&self.0) = found.into_iter().flat_map(|(_, addresses)| addresses).collect();
        Ok(())
    }
}

/// Underlay interfaces, each with its addresses; none if it is not there.
///
/// # Errors
/// If the kernel refuses.
pub fn by_interface(
    devices: &impl DeviceTable,
    config: &Config,
) -> io::Result<Vec<(String, BTreeSet<IpAddr>)>> {
    let underlay = config.interfaces.iter().filter(|managed| managed.role == Role::Underlay);
    underlay
        .map(|managed| {
            let device = devices.by_name(&managed.name)?;
            let addresses = device.map(|device| devices.addresses(device.index)).transpose()?;
            Ok((managed.name.clone(), addresses.unwrap_or_default()))
        })
        .collect()
}
