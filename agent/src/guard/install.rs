//! Putting the guard in place, and comparing the kernel with what was put there.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_host::spare;

use super::netlink::Netfilter;
use super::news::News;
use super::nft::nft;
use super::rules::{self, Way};
use super::spec::{Guard, table_name};
use super::state::{self, Outline, State};

/// How often a guard is put in place anew because others changed nftables at the same time.
const TRIES: usize = 5;

/// How long a guard of which there are no news is taken to be as it was. The kernel tells of every transaction, or of
/// having had no room to; this is for what it might not.
const SILENCE: Duration = Duration::from_millis(250);

/// What was put in place, to compare the kernel with.
#[derive(Debug)]
pub struct Installed {
    pub(super) instance: String,
    pub(super) shape: [u8; 32],
    pub(super) contents: state::Contents,
    /// The generation of the ruleset that was last found to hold it.
    pub(super) generation: u32,
    /// When the kernel was asked for that.
    asked: Instant,
    /// Open for as long, so that a look needs no descriptor.
    pub(super) netfilter: Netfilter,
    /// What became of the table since.
    pub(super) news: News,
}

impl Guard {
    /// Puts the guard in place, or replaces the one that is, in one transaction: at no moment is there
    /// less than before. What it has counted goes on.
    ///
    /// # Errors
    /// If nftables refuses; then the guard is as it was.
    pub fn install(&self, instance: &str) -> anyhow::Result<Installed> {
        self.put(instance, || ()).context("installing the nftables guard")
    }

    /// What is done `between` writing and reading is what others may do there.
    pub(super) fn put(&self, instance: &str, mut between: impl FnMut()) -> anyhow::Result<Installed> {
        if let Some(name) = self.managed.iter().find(|name| name.contains(['"', '\n', '*', '\\'])) {
            anyhow::bail!("interface {name}: nftables cannot write that name; rename it (`ip link set`)");
        }
        let script = self.script(instance);
        let contents = self.contents();
        let _lent = spare::lend();
        let netfilter = state::open()?;
        let mut news = News::open(&table_name(instance)).context("listening to nftables")?;
        for _ in 0..TRIES {
            news.read().context("listening to nftables")?;
            news.forget();
            let before = state::generation(&netfilter)?;
            let found = state::outline(&netfilter, instance)?;
            // What somebody else has added may be in the way; then the counters go, too.
            nft(&(clear(instance, found.as_ref()) + &script))
                .or_else(|_| nft(&(rules::clear(instance, &Way::Anew) + &script)))?;
            between();
            let Some(outline) = state::outline(&netfilter, instance)? else { continue };
            news.read().context("listening to nftables")?;
            let Outline { shape, generation, .. } = outline;
            // Of all transactions this one alone has touched the table. What it looks like after another is
            // not what was put there, and never compared with. If news were lost, there must have been no other.
            let is_ours = if news.is_lost() {
                generation == before.wrapping_add(1)
            } else {
                news.is_touched_once() && news.is_read_to(generation)
            };
            if is_ours {
                if news.is_touched_once() || state::generation(&netfilter)? == generation {
                    news.forget();
                }
                let instance = instance.to_owned();
                let asked = Instant::now();
                return Ok(Installed { instance, shape, contents, generation, asked, netfilter, news });
            }
        }
        anyhow::bail!("others change the table as soon as it is there; find out who (`nft monitor`)")
    }
}

/// What makes way for the table. A table that somebody has switched off cannot be fixed in place; to remove
/// one that is not there would take as long as to make one.
fn clear(instance: &str, found: Option<&Outline>) -> String {
    match found {
        Some(Outline { is_dormant: false, chains, sets, .. }) => {
            rules::clear(instance, &Way::Over { chains, sets })
        }
        Some(_) => rules::clear(instance, &Way::Anew),
        None => String::new(),
    }
}

impl Installed {
    /// Why the kernel does not have what was put in place; none if it has, exactly. Costs nothing as
    /// long as nobody changes nftables, and little as long as nobody changes the table.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn difference(&mut self) -> anyhow::Result<Option<&'static str>> {
        let compared = self.compare();
        if compared.is_err()
            && let Ok(netfilter) = spare::open(Netfilter::open)
        {
            // What is left of a question is not to be in the way of the next.
            self.netfilter = netfilter;
        }
        compared
    }

    fn compare(&mut self) -> anyhow::Result<Option<&'static str>> {
        if self.asked.elapsed() < SILENCE && !self.news.is_touched() && !self.news.is_there()? {
            return Ok(None);
        }
        let asked = Instant::now();
        if state::generation(&self.netfilter)? == self.generation {
            self.asked = asked;
            return Ok(None);
        }
        self.news.read().context("listening to nftables")?;
        if !self.news.is_touched() {
            // Of a transaction that is just being made the news are not complete.
            self.generation = self.news.generation().unwrap_or(self.generation);
            return Ok(None);
        }
        let Some(State { outline, contents }) = state::read_by(&self.netfilter, &self.instance)? else {
            return Ok(Some("the table is gone"));
        };
        if outline.is_dormant {
            return Ok(Some("the table is switched off"));
        }
        if outline.shape != self.shape {
            return Ok(Some("chains, rules or sets are not those that were put in place"));
        }
        if contents != self.contents {
            return Ok(Some("what is in the sets is not what was put there"));
        }
        self.news.forget();
        // A transaction has its number some moment before it can be seen: its news come after that.
        if self.news.is_read_to(outline.generation) {
            self.generation = outline.generation;
        }
        Ok(None)
    }

    /// Lets only these managed interfaces' packets pass, at once and for all of them. Everything else
    /// stays as it is.
    ///
    /// # Errors
    /// If nftables refuses, as it does when there is no guard; then nothing has changed.
    pub fn set_attached(&mut self, devices: &BTreeSet<(u32, u32)>) -> anyhow::Result<()> {
        set_attached(&self.instance, devices)?;
        self.contents.insert("attached".to_owned(), state::attached_contents(devices));
        self.news.read().context("listening to nftables")?;
        if self.news.is_touched_once() {
            // Nothing but this.
            self.generation = self.news.generation().unwrap_or(self.generation);
            self.news.forget();
        }
        Ok(())
    }
}

/// Lets only these managed interfaces' packets pass, by one transaction that touches nothing else.
/// Whoever has an [`Installed`] asks that instead, so that it knows.
///
/// # Errors
/// If nftables refuses, as it does when there is no guard; then nothing has changed.
pub fn set_attached(instance: &str, devices: &BTreeSet<(u32, u32)>) -> anyhow::Result<()> {
    let script = rules::attached(instance, devices);
    nft(&script).context("telling the nftables guard which interfaces are enforced").map(drop)
}
