//! The thread that follows: looks, verifies, enforces what is new, and has the host's own check say whether it stays.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_api::event::{Action, Actor, Outcome};
use bulkhead_fleet::{Cause, Checked, Client, Error, Origin, Repository, digest, slot};
use tokio::sync::{Notify, watch};

use super::enforce::{self, Came, Offer, enforce};
use super::health::Problem;
use super::notes::{self, Lifted};
use super::record::{Record, Refused};
use super::telling::Teller;
use super::{Bundle, Bundles, health, held, local, origin, texts};
use crate::config;
use crate::daemon::clock::{boot_time, wall_time};
use crate::daemon::enforcement::confirm;
use crate::daemon::enforcement::rollback::give_up;
use crate::daemon::events::control::generation;
use crate::daemon::state::Enforcer;
use crate::daemon::trust::Signed;
use crate::version;

/// What is refused is looked at again so soon before it is told: a publisher may just be writing.
const AGAIN: Duration = Duration::from_secs(2);

/// How much longer what is enforced waits for its confirmation than the host's own check takes, seconds.
const GRACE: u64 = 3;

/// What it means that nobody knows what was lifted.
const FORGOTTEN: &str = "which quarantines of the fleet were lifted cannot be read, so one of them may come back until it \
                         is lifted anew";

/// No more files are read at a time: one on a file system that hangs keeps a thread.
const READERS: usize = 4;

/// Follows the fleet on a thread of its own.
///
/// # Errors
/// If the system has no more threads.
pub fn start(enforcer: &Arc<Enforcer>) -> anyhow::Result<()> {
    if let Some(alarms) = &enforcer.shared.alarms {
        alarms.end_of_fleet();
    }
    let (lifted, lost) = match Lifted::load(&enforcer.store) {
        Ok(lifted) => (lifted, None),
        Err(error) => (Lifted::default(), Some(format!("{FORGOTTEN}: {error:#}"))),
    };
    lost.iter().for_each(|why| tracing::error!("{why}"));
    *held(&enforcer.setup.fleet.lifted) = lifted;
    let Some(settings) = enforcer.setup.config.fleet.clone() else { return Ok(()) };
    let (mut record, damage) = recall(enforcer);
    record.under(digest(format!("{} {:?}", version::LONG, enforcer.setup.config).as_bytes()));
    held(&enforcer.setup.fleet.known).record = record;
    let news = Arc::new(Notify::new());
    let _ = enforcer.setup.fleet.news.set(news.clone());
    let enforcer = enforcer.clone();
    let run = move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(READERS).build();
        match runtime {
            Ok(runtime) => {
                let mut notes = notes::Follower::new(&enforcer, settings.every);
                let mut follower = Follower::new(&enforcer, settings);
                for (what, why) in [("record", damage), ("lifted", lost)] {
                    if let Some(why) = why {
                        follower.teller.raise(what, &why);
                    }
                }
                let (opened, noted) = (follower.origin.subscribe(), follower.noted.clone());
                let relay = relay(opened.clone(), [&news, &noted]);
                runtime.block_on(async {
                    tokio::select! {
                        () = follower.follow(&news) => {}
                        () = notes.follow(opened, &noted) => {}
                        () = relay => {}
                    }
                });
            }
            Err(error) => tracing::error!("the fleet is not followed: {error}"),
        }
    };
    let what = "starting the thread that follows the fleet";
    std::thread::Builder::new().name("fleet".to_owned()).spawn(run).map(drop).context(what)
}

/// Wakes everybody who follows, once an origin has news.
async fn relay(mut origin: watch::Receiver<Option<Arc<dyn Origin>>>, all: [&Notify; 2]) {
    loop {
        let opened = origin.borrow_and_update().clone();
        match opened {
            Some(opened) => loop {
                opened.changed().await;
                all.iter().for_each(|one| one.notify_one());
            },
            None => {
                if origin.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// What an earlier agent has left, and what of it is damaged: a host goes on with what it enforces then, and what was
/// refused may be tried once more.
fn recall(enforcer: &Enforcer) -> (Record, Option<String>) {
    let damage = match Record::load(&enforcer.store) {
        Ok(Some(record)) => return (record, None),
        Ok(None) => None,
        Err(error) => Some(format!(
            "what this host knows of the fleet is damaged; it goes on with what it enforces, and tries again what it had \
             refused: {error:#}"
        )),
    };
    if let Some(why) = &damage {
        tracing::error!("{why}");
    }
    let is_settled = enforcer.live().ledger.pending.is_none();
    let good = enforced(enforcer).filter(|_| is_settled);
    (Record { good, ..Record::default() }, damage)
}

struct Follower<'e> {
    enforcer: &'e Enforcer,
    settings: config::Fleet,
    origin: watch::Sender<Option<Arc<dyn Origin>>>,
    /// Wakes who follows the notes.
    noted: Arc<Notify>,
    clients: [Option<Client>; 2],
    looks: u64,
    teller: Teller<'e>,
}

impl<'e> Follower<'e> {
    fn new(enforcer: &'e Enforcer, settings: config::Fleet) -> Self {
        let teller = Teller::new(enforcer);
        Self {
            enforcer,
            settings,
            origin: watch::Sender::new(None),
            noted: Arc::default(),
            clients: [None, None],
            looks: 0,
            teller,
        }
    }

    async fn follow(&mut self, news: &Notify) {
        self.take_up().await;
        let mut was_well = true;
        while !self.enforcer.live().detached {
            let is_well = self.look(!was_well).await;
            // A refusal is told once it is no accident of the moment.
            let wait = if is_well || !was_well { self.pause() } else { AGAIN };
            was_well = is_well;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = news.notified() => {}
            }
        }
    }

    /// Until the next look: hosts that began together do not ask together.
    fn pause(&mut self) -> Duration {
        self.looks += 1;
        let slot = u32::from(slot(&self.enforcer.setup.options.node, self.looks));
        self.settings.every * (80 + slot * 2 / 5) / 100
    }

    /// Looks at both repositories, and enforces what is new. Whether all was well. What is not is told if `tells`.
    async fn look(&mut self, tells: bool) -> bool {
        let fleet = &self.enforcer.setup.fleet;
        let origin = match self.opened() {
            Ok(origin) => origin,
            Err(why) => {
                self.teller.refused("origin", Cause::Down, &why, tells);
                return false;
            }
        };
        self.teller.well("origin");
        let mut verified = [false; 2];
        for (index, repository) in Repository::ALL.into_iter().enumerate() {
            match self.check(index, repository, &origin).await {
                Ok(checked) => {
                    verified[index] = true;
                    self.teller.well(repository.name());
                    held(&fleet.known).verified.insert(repository.name(), checked);
                }
                Err(error) => {
                    self.teller.refused(repository.name(), error.cause(), &error.to_string(), tells);
                }
            }
        }
        let mut is_well = verified == [true; 2];
        if is_well {
            held(&fleet.known).checked = Some(boot_time());
        }
        let raised = self.teller.begin();
        let mut skipped = Vec::new();
        let enforced = self.enforce_wanted(&origin, verified, &mut skipped).await;
        skipped.iter().for_each(|refused| self.teller.tell_refused(refused));
        self.teller.end_refusals(raised, is_well);
        match enforced {
            Ok(()) => self.teller.well("enforcement"),
            Err(error) => {
                is_well = false;
                let cause = error.downcast_ref::<Error>().map_or(Cause::Down, Error::cause);
                self.teller.refused("enforcement", cause, &format!("{error:#}"), tells);
            }
        }
        self.teller.tell_local();
        is_well
    }

    fn opened(&mut self) -> Result<Arc<dyn Origin>, String> {
        if let Some(origin) = self.origin.borrow().clone() {
            return Ok(origin);
        }
        let origin = origin::open(&self.settings.from, &self.enforcer.setup.paths.state)?;
        self.origin.send_replace(Some(origin.clone()));
        Ok(origin)
    }

    async fn check(
        &mut self,
        index: usize,
        repository: Repository,
        origin: &Arc<dyn Origin>,
    ) -> Result<Checked, Error> {
        if self.clients[index].is_none() {
            let path = match repository {
                Repository::Policy => &self.settings.policy_root,
                Repository::Inventory => &self.settings.inventory_root,
            };
            let first = fs::read(path).map_err(|error| Error::File { path: path.clone(), error })?;
            let state = self.enforcer.setup.paths.state.join(texts::DIRECTORY);
            self.clients[index] = Some(Client::open(repository, &first, &state)?);
        }
        match &mut self.clients[index] {
            Some(client) => client.check(origin).await,
            None => Err(Error::Asked(format!("{repository}: there is no client"))),
        }
    }

    /// Enforces the newest that is verified, may be taken, and was not refused; else as much of it as can be.
    /// What this look has not verified, or has expired, is as if it were not there, whatever was verified before.
    async fn enforce_wanted(
        &mut self,
        origin: &Arc<dyn Origin>,
        verified: [bool; 2],
        skipped: &mut Vec<Refused>,
    ) -> anyhow::Result<()> {
        let (enforcer, fleet) = (self.enforcer, &self.enforcer.setup.fleet);
        let current = enforced(enforcer);
        let (policy, inventory, good) = {
            let known = held(&fleet.known);
            let now = (wall_time() / 1_000_000_000).cast_signed();
            let of = |repository: Repository, is_verified: bool| {
                let checked = known.verified.get(repository.name()).cloned();
                checked.filter(|checked| is_verified && checked.expires > now)
            };
            let [policy, inventory] = verified;
            (of(Repository::Policy, policy), of(Repository::Inventory, inventory), known.record.good.clone())
        };
        // After a start what was good stands for what is not verified anew yet, and for what may not be taken yet.
        let good_policy = good.as_ref().map(|good| good.policy.clone());
        let good_inventory = good.as_ref().map(|good| good.inventory.clone());
        let mut waiting = None;
        let new_policy = policy.as_ref().map(Bundle::of).filter(|new| {
            let is_new = good_policy.as_ref().is_none_or(|good| good.digest != new.digest);
            let admits = policy.as_ref().is_some_and(|checked| checked.admits(&enforcer.setup.options.node));
            if is_new && !admits {
                waiting = Some(format!("policy {} is not for this host yet", new.version));
            }
            !is_new || admits
        });
        held(&fleet.known).waiting = waiting;
        let new_inventory = inventory.as_ref().map(Bundle::of);
        let policies = either(new_policy, good_policy);
        let inventories = either(new_inventory, good_inventory);
        if local::is_aside(enforcer) {
            return Ok(());
        }
        let mut put_off = None;
        for (policy, inventory) in in_order(&policies, &inventories) {
            let wanted = Bundles { policy, inventory };
            if current.as_ref() == Some(&wanted) {
                break;
            }
            let is_enforced = current.as_ref().is_some_and(|now| now.is_same(&wanted));
            if is_enforced && enforcer.live().ledger.pending.is_some() {
                break;
            }
            {
                let known = held(&fleet.known);
                if let Some(refused) = known.record.refusal(&wanted) {
                    skipped.push(refused.clone());
                    continue;
                }
                if let Some((why, false)) = known.later.of(&wanted, boot_time()) {
                    put_off = put_off.or_else(|| Some(why.to_owned()));
                    continue;
                }
            }
            let signers = match &current {
                Some(now) if now.policy == wanted.policy => signers(enforcer),
                _ => self.signers(&wanted),
            };
            let is_known = good.as_ref().is_some_and(|good| good.inventory.digest == wanted.inventory.digest);
            let offer = Offer {
                is_known,
                policy: self.text(origin, Repository::Policy, &wanted.policy).await?,
                inventory: self.text(origin, Repository::Inventory, &wanted.inventory).await?,
                bundles: wanted,
                signers,
            };
            let trial = (!is_enforced).then_some(self.settings.confirm_seconds);
            if self.attempt(origin, &offer, trial).await? {
                break;
            }
            // Nothing else would fare better now.
            if let Some((why, _)) = held(&fleet.known).later.of(&offer.bundles, boot_time()) {
                put_off = Some(why.to_owned());
                break;
            }
        }
        put_off.map_or(Ok(()), |why| Err(anyhow::anyhow!("{why}; it is tried again")))
    }

    fn signers(&self, wanted: &Bundles) -> Vec<String> {
        let known = held(&self.enforcer.setup.fleet.known);
        let checked = known.verified.get(Repository::Policy.name());
        let checked = checked.filter(|checked| checked.digest == wanted.policy.digest);
        checked.map(|checked| checked.signers.clone()).unwrap_or_default()
    }

    /// A bundle's text: as it was kept, or as the origin has it.
    async fn text(
        &self,
        origin: &Arc<dyn Origin>,
        repository: Repository,
        of: &Bundle,
    ) -> anyhow::Result<String> {
        let state = &self.enforcer.setup.paths.state;
        if let Some(text) = texts::get(state, repository, &of.digest) {
            return Ok(text);
        }
        let checked = held(&self.enforcer.setup.fleet.known).verified.get(repository.name()).cloned();
        let checked = checked.filter(|checked| checked.digest == of.digest);
        let checked = checked.with_context(|| format!("{repository} {} is not kept any more", of.version))?;
        let text = checked.bundle(&**origin).await?;
        let good = held(&self.enforcer.setup.fleet.known).record.good.clone();
        let others: Vec<&str> = good.iter().map(|good| &*good.get(repository).digest).collect();
        texts::keep(state, repository, &of.digest, &text, &others)?;
        Ok(text)
    }

    /// Enforces an offer, and has the host's own check say within so many seconds whether it stays. None: its texts are
    /// enforced already, and there is nothing to check. Whether it stays.
    async fn attempt(
        &mut self,
        origin: &Arc<dyn Origin>,
        offer: &Offer,
        trial: Option<u64>,
    ) -> anyhow::Result<bool> {
        let (enforcer, bundles) = (self.enforcer, &offer.bundles);
        let fleet = &enforcer.setup.fleet;
        fleet.record(&enforcer.store, |record| record.trying = Some((bundles.clone(), wall_time())));
        match enforce(enforcer, offer, trial.map(|seconds| seconds + GRACE))? {
            Came::Enforced(number) => {
                // What it allows and whom it knows may be others.
                self.noted.notify_one();
                let Some(seconds) = trial else {
                    self.good(bundles);
                    return Ok(true);
                };
                tracing::info!("enforcing the fleet's {}; it is checked whether it stays", bundles.name());
                let deadline = Instant::now() + Duration::from_secs(seconds);
                Ok(self.settle(origin, (bundles, number), deadline).await)
            }
            Came::Unfit(why) => {
                let before = generation(enforcer);
                tracing::error!(
                    "the fleet's {} does not hold here, and what is enforced stays\n{why}",
                    bundles.name()
                );
                fleet.count(Cause::Malformed);
                let refused = Refused { bundles: bundles.clone(), why: why.clone(), blamed: None };
                let is_good =
                    held(&fleet.known).record.good.as_ref().is_some_and(|good| good.is_same(bundles));
                fleet.record(&enforcer.store, |record| {
                    record.trying = None;
                    if !is_good {
                        record.refuse(refused.clone());
                    }
                });
                if is_good {
                    self.put_off(bundles, &format!("{} does not hold here any more: {why}", bundles.name()));
                } else {
                    self.teller.tell_refused(&refused);
                }
                enforce::tell(enforcer, bundles, (Action::Apply, Outcome::Refused), before, Some(why));
                Ok(false)
            }
        }
    }

    /// What waits for its confirmation has it, or is gone back from. Whether it stays.
    async fn settle(
        &mut self,
        origin: &Arc<dyn Origin>,
        (bundles, number): (&Bundles, u32),
        deadline: Instant,
    ) -> bool {
        let problem = health::check(&self.settings.health, &**origin, deadline).await;
        let (enforcer, before) = (self.enforcer, generation(self.enforcer));
        if local::is_aside(enforcer) {
            // Somebody has put something else in force meanwhile, which says nothing of this.
            enforcer.setup.fleet.record(&enforcer.store, |record| record.trying = None);
            return false;
        }
        match problem {
            None => match confirm(enforcer, Some(number)) {
                Ok(true) => {
                    self.good(bundles);
                    enforce::tell(enforcer, bundles, (Action::Confirm, Outcome::Done), before, None);
                    true
                }
                Ok(false) => {
                    self.over(bundles, &Problem::Host("it was not confirmed in time".to_owned()));
                    false
                }
                Err(error) => {
                    // It goes back by itself.
                    tracing::error!("the fleet's {} is not confirmed: {error:#}", bundles.name());
                    false
                }
            },
            Some(problem) => {
                let is_meant = || enforced(enforcer).as_ref() == Some(bundles);
                let gone = give_up(enforcer, &enforce::asker(bundles), is_meant);
                self.over(bundles, &problem);
                let outcome = match &gone {
                    Ok(_) => Outcome::Done,
                    Err(error) => {
                        tracing::error!(
                            "going back from the fleet's {}: {error:#}; it is tried again",
                            bundles.name()
                        );
                        Outcome::Failed
                    }
                };
                enforce::tell(
                    enforcer,
                    bundles,
                    (Action::Rollback, outcome),
                    before,
                    Some(problem.why().to_owned()),
                );
                false
            }
        }
    }

    fn good(&self, bundles: &Bundles) {
        let (enforcer, name) = (self.enforcer, bundles.name());
        tracing::info!("the fleet's {name} is enforced");
        held(&enforcer.setup.fleet.known).later.forget(bundles);
        enforcer.setup.fleet.record(&enforcer.store, |record| {
            record.good = Some(bundles.clone());
            record.trying = None;
        });
    }

    /// What was tried is not tried again if it is to blame, else later.
    fn over(&mut self, bundles: &Bundles, problem: &Problem) {
        let enforcer = self.enforcer;
        let why = problem.why();
        let mut refused = None;
        enforcer.setup.fleet.record(&enforcer.store, |record| {
            record.trying = None;
            let blamed = record.blame(bundles).filter(|_| matches!(problem, Problem::Host(_)));
            refused = blamed.map(|blamed| {
                let blamed = Some(blamed);
                Refused { bundles: bundles.clone(), why: why.to_owned(), blamed }
            });
            refused.iter().for_each(|refused| record.refuse(refused.clone()));
        });
        match refused {
            Some(refused) => {
                tracing::error!("the fleet's {} is given up, and not tried again: {why}", refused.what());
                self.teller.tell_refused(&refused);
            }
            None => self.put_off(bundles, &format!("{} was gone back from: {why}", bundles.name())),
        }
    }

    /// These are tried again, which is told as what is not well.
    fn put_off(&self, bundles: &Bundles, why: &str) {
        tracing::error!("the fleet's {why}; it is tried again");
        let fleet = &self.enforcer.setup.fleet;
        held(&fleet.known).later.put_off(bundles, why, self.settings.every, boot_time());
    }

    /// What an agent that is gone was trying: it is checked now if it still waits, and is over if nobody confirmed it.
    async fn take_up(&mut self) {
        let enforcer = self.enforcer;
        let trying = held(&enforcer.setup.fleet.known).record.trying.clone();
        let Some((bundles, since)) = trying else { return };
        let pending = enforcer.live().ledger.pending.as_ref().map(|pending| pending.seconds_left());
        let is_enforced = enforced(enforcer).as_ref() == Some(&bundles);
        match (is_enforced, pending) {
            (true, Some(left)) => {
                let Ok(origin) = self.opened() else { return };
                let deadline = Instant::now() + Duration::from_secs(left.saturating_sub(GRACE));
                let number = enforcer.live().ledger.enforced;
                self.settle(&origin, (&bundles, number), deadline).await;
            }
            (true, None) => self.good(&bundles),
            (false, _) => {
                let number = enforcer.live().ledger.enforced;
                let origin = enforcer.store.origin(number);
                let was_undone = origin.is_some_and(|origin| {
                    origin.action == Action::Rollback && origin.by == Actor::Agent && origin.time >= since
                });
                if was_undone {
                    let why = "nobody has confirmed it: the agent or the host had ended";
                    self.over(&bundles, &Problem::Host(why.to_owned()));
                } else {
                    // It never came to be enforced.
                    enforcer.setup.fleet.record(&enforcer.store, |record| record.trying = None);
                }
            }
        }
    }
}

/// What of the fleet is enforced, as its generation says.
fn enforced(enforcer: &Enforcer) -> Option<Bundles> {
    let number = enforcer.live().ledger.enforced;
    enforcer.store.made_of(number)?.signed.fleet
}

fn signers(enforcer: &Enforcer) -> Vec<String> {
    let number = enforcer.live().ledger.enforced;
    enforcer
        .store
        .made_of(number)
        .map(|made| made.signed)
        .map_or_else(Vec::new, |Signed { signers, .. }| signers)
}

/// The new one and the good one, each once.
fn either(new: Option<Bundle>, good: Option<Bundle>) -> Vec<Bundle> {
    let mut both: Vec<Bundle> = new.into_iter().chain(good).collect();
    both.dedup_by(|one, other| one.digest == other.digest);
    both
}

/// What to try: the newest of both, else the newest inventory, which may cut somebody off, else the newest policy.
fn in_order(policies: &[Bundle], inventories: &[Bundle]) -> Vec<(Bundle, Bundle)> {
    let mut pairs: Vec<(usize, usize)> = (0..policies.len())
        .flat_map(|policy| (0..inventories.len()).map(move |inventory| (policy, inventory)))
        .collect();
    pairs.sort_by_key(|(policy, inventory)| (policy + inventory, *inventory));
    pairs
        .into_iter()
        .map(|(policy, inventory)| (policies[policy].clone(), inventories[inventory].clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Bundle, either, in_order};

    fn bundle(version: u64) -> Bundle {
        Bundle { version, digest: version.to_string() }
    }

    #[test]
    fn the_newest_comes_first_and_a_new_inventory_before_a_new_policy() {
        let both = |new, good| either(Some(bundle(new)), Some(bundle(good)));
        assert_eq!(either(Some(bundle(1)), Some(bundle(1))), [bundle(1)]);
        let order: Vec<_> = in_order(&both(2, 1), &both(9, 8))
            .iter()
            .map(|(policy, inventory)| (policy.version, inventory.version))
            .collect();
        assert_eq!(order, [(2, 9), (1, 9), (2, 8), (1, 8)]);
        // Before both were verified once there is nothing to try.
        assert!(in_order(&both(2, 1), &[]).is_empty());
    }
}
