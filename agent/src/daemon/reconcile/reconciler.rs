//! What looks at the kernel remember.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use bulkhead_dataplane::{Dataplane, Device, DeviceTable as _, Kernel, Pins};

use crate::daemon::reconcile::contest::Contests;
use crate::daemon::reconcile::gaps::Gaps;
use crate::daemon::reconcile::looks::Looks;
use crate::daemon::reconcile::pin_news::PinNews;

/// Between two whole looks, which ask for the devices and for the pins, unless there is news. The others ask
/// what is on the hooks and whether nftables has changed.
const WHOLE: Duration = Duration::from_millis(250);

/// After a failure, before the same is tried again.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// One look at a time at what the kernel says.
pub struct Reconciler<D: Dataplane = Kernel> {
    pub(super) devices: D::Devices,
    /// None if pins cannot be watched: every look asks for them then.
    pub(super) pins: Option<PinNews>,
    pub(super) gaps: Gaps,
    pub(super) whole: Option<Instant>,
    pub(super) failed: BTreeMap<String, (Instant, String)>,
    pub(super) contests: Contests,
    pub(super) looks: Looks,
    /// When addresses asked for a generation last.
    pub(super) readdressed: Option<Instant>,
}

impl<D: Dataplane> Reconciler<D> {
    /// Has seen nothing yet, but what `gaps` has.
    ///
    /// # Errors
    /// If the kernel cannot be asked for interfaces.
    pub fn new(plane: &D, gaps: Gaps, pins: &Pins) -> io::Result<Self> {
        let devices = plane.devices()?;
        let news = PinNews::below(pins.links_directory());
        let news = news.inspect_err(|error| tracing::warn!("pins are asked for at every look: {error}"));
        let (failed, contests, looks) = (BTreeMap::new(), Contests::default(), Looks::default());
        Ok(Self { devices, pins: news.ok(), gaps, whole: None, failed, contests, looks, readdressed: None })
    }

    /// Whether all is to be asked for.
    pub(super) fn is_due(&self) -> bool {
        self.gaps.any()
            || self.whole.is_none_or(|whole| whole.elapsed() >= WHOLE)
            || self.pins.as_ref().is_some_and(|pins| !pins.is_in_place())
    }

    /// Watches the pins of an interface from now on.
    pub(super) fn watch(&mut self, pins: &Pins, interface: &str) {
        let Some(Err(error)) = self.pins.as_ref().map(|news| news.watch(&pins.link_directory(interface)))
        else {
            return;
        };
        // What is not there is restored, which is news.
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(interface, "pins are asked for at every look: {error}");
            self.pins = None;
        }
    }

    /// The device of an interface, for a whole look; `None`: none has its name.
    pub(super) fn device(&self, interface: &str, is_whole: bool) -> io::Result<Option<Option<Device>>> {
        if is_whole { self.devices.by_name(interface).map(Some) } else { Ok(None) }
    }

    /// Whether it was tried just now and failed.
    pub(super) fn is_resting(&self, interface: &str) -> bool {
        self.failed.get(interface).is_some_and(|(since, _)| since.elapsed() < AFTER_FAILURE)
    }

    /// Notes a failure; tells of it unless it was told.
    pub(super) fn fail(&mut self, interface: &str, error: &anyhow::Error) {
        let words = format!("{error:#}");
        let known = self.failed.insert(interface.to_owned(), (Instant::now(), words.clone()));
        if known.is_none_or(|(_, known)| known != words) {
            tracing::error!(interface, "not enforced: {words}; trying again");
        }
    }
}
