//! The service that enrols: it checks invitations, lets the broker decide who was first, and mints.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::Value;

use super::invitation::offered;
use super::record::{Used, put, read, text};
use super::{Answer, Enrolled, Offer, Request, proof_of};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::identity::{Claims, agent_jwt, read_key};
use crate::jetstream::{Acknowledged, store};
use crate::layout;
use crate::push::patiently;
use crate::wire::Message;

/// No request is longer, in bytes.
const LONGEST: usize = 16 << 10;

/// Requests that wait to be answered. Who is not among them asks again.
const WAITING: usize = 64;

/// What servers' own subjects for answers across accounts begin with; nobody else may name one.
const ACROSS: &str = "_R_.";

/// Where nodes are added: the inventory, signed by the enroller's key. Both may be called twice for the same host.
pub trait Roll: Send + Sync {
    /// Whether the node could be added, and every host would take the inventory then; why not.
    ///
    /// # Errors
    /// It could not: a sentence for whoever enrols.
    fn check(&self, offer: &Offer, wireguard: Option<&str>) -> std::result::Result<(), String>;

    /// Adds the node, signs the inventory and publishes it.
    ///
    /// # Errors
    /// It was not added: a sentence for whoever enrols.
    fn add(&self, offer: &Offer, wireguard: Option<&str>) -> std::result::Result<(), String>;
}

/// An enroller: two keys and an inventory.
pub struct Enroller {
    agents: KeyPair,
    account: String,
    invitations: String,
    roll: Arc<dyn Roll>,
}

impl std::fmt::Debug for Enroller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Enroller({})", self.account)
    }
}

/// Whether who asks has the private key, too.
fn shows(request: &Request) -> Result<()> {
    let key = KeyPair::from_public_key(&request.key).ok();
    let proof = URL_SAFE_NO_PAD.decode(&request.proof).ok();
    let is_shown =
        key.zip(proof).is_some_and(|(key, proof)| key.verify(&proof_of(&request.invitation), &proof).is_ok());
    if is_shown {
        Ok(())
    } else {
        Err(Error::Content("the request is not signed by the key that it names".to_owned()))
    }
}

impl Enroller {
    /// One that signs by `agents.nk` of an account's directory, and knows the account by its `account.jwt`.
    ///
    /// # Errors
    /// A file cannot be read, or the account knows another key.
    pub fn open(directory: &Path, roll: Arc<dyn Roll>) -> Result<Self> {
        let agents = read_key(&directory.join("agents.nk"))?;
        let path = directory.join("account.jwt");
        let jwt = std::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
        let claims = Claims::read(&jwt)?;
        let keys =
            claims.nats.get("signing_keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let of = |role: &str| keys.iter().find(|key| key["role"] == role).and_then(|key| key["key"].as_str());
        let (Some(of_agents), Some(invitations)) = (of("agent"), of("invitation")) else {
            return Err(Error::Settings(format!("{}: this is no fleet's account", path.display())));
        };
        if of_agents != agents.public_key() {
            return Err(Error::Settings(format!(
                "{}: the account has another agents.nk",
                directory.display()
            )));
        }
        Ok(Self { agents, account: claims.sub.clone(), invitations: invitations.to_owned(), roll })
    }

    /// Enrols whoever asks, one after the other, for as long as the client lives. `told` hears of each.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn run(
        &self,
        client: &Client,
        mut told: impl FnMut(&std::result::Result<Enrolled, String>),
    ) -> Result<()> {
        let mut requests = client.subscribe(layout::INVITED, WAITING).await?;
        while let Some(message) = requests.recv().await {
            // Requests come from another account, so the server has put a subject of its own in place of the one that
            // the host waits at. An answer to anything else would be published by the enroller's rights.
            let Some(reply) = message.reply.clone().filter(|reply| reply.starts_with(ACROSS)) else {
                told(&Err("a request is not answered where it asks for it".to_owned()));
                continue;
            };
            let (answer, result) = match self.answer(client, &message).await {
                Ok((jwt, enrolled)) => (Answer { jwt: Some(jwt), error: None }, Ok(enrolled)),
                Err(error) => (Answer { jwt: None, error: Some(error.to_string()) }, Err(error.to_string())),
            };
            told(&result);
            // Who does not get the answer asks again.
            if let Err(error) = client.publish(&reply, &text(&answer)?).await {
                tracing::warn!("an answer is lost: {error}");
            }
        }
        Ok(())
    }

    async fn answer(&self, client: &Client, message: &Message) -> Result<(String, Enrolled)> {
        if message.payload.len() > LONGEST {
            return Err(Error::Content("the request is too long".to_owned()));
        }
        let request: Request = serde_json::from_slice(&message.payload)
            .map_err(|_| Error::Content("the request cannot be read".to_owned()))?;
        let (id, made, offer) = offered(&request.invitation, &self.invitations)?;
        // The broker lets an invitation publish to its own subject alone; whoever else may publish must not use it.
        if message.subject != layout::enrol(&id) {
            return Err(Error::Content("this is another invitation's subject".to_owned()));
        }
        shows(&request)?;
        let node = layout::enrolled(&layout::token(&offer.node));
        let (number, known) = match read::<Enrolled>(client, &node).await? {
            Some((number, known)) => (number, Some(known)),
            None => (0, None),
        };
        let removed = known.as_ref().and_then(|known| known.removed);
        if removed.is_some_and(|removed| made <= removed) {
            return Err(Error::Content(format!(
                "{} was removed after this invitation was made: ask for another",
                offer.node
            )));
        }
        let wireguard = request.wireguard.clone();
        self.on_roll(&offer, move |roll, offer| roll.check(offer, wireguard.as_deref())).await?;
        let jwt = agent_jwt(&self.agents, &self.account, &offer.node, &request.key, None)?;
        let jwt = self.first(client, &id, Used { key: request.key.clone(), jwt }).await?;
        if let Some(known) = known.as_ref().filter(|known| known.is_listed && known.invitation == id) {
            return Ok((jwt, known.clone()));
        }
        let mut earlier = known.map(|known| known.keys()).unwrap_or_default();
        earlier.retain(|key| *key != request.key);
        let mut enrolled = Enrolled {
            node: offer.node.clone(),
            key: request.key,
            earlier,
            invitation: id,
            is_listed: false,
            removed,
        };
        // On record first: `remove` must know each key that anybody was told of.
        let number = put(client, number, &enrolled).await?;
        let wireguard = request.wireguard;
        self.on_roll(&offer, move |roll, offer| roll.add(offer, wireguard.as_deref())).await?;
        enrolled.is_listed = true;
        put(client, number, &enrolled).await?;
        Ok((jwt, enrolled))
    }

    /// Records who uses an invitation; returns what was minted for it.
    async fn first(&self, client: &Client, id: &str, used: Used) -> Result<String> {
        let subject = layout::used(id);
        let record = text(&used)?;
        if let Acknowledged::Stored(_) =
            patiently(|| store(client, &subject, Some(0), record.clone())).await?
        {
            return Ok(used.jwt);
        }
        let before: Option<(u64, Used)> = read(client, &subject).await?;
        match before {
            // The host, whose answer was lost.
            Some((_, before)) if before.key == used.key => Ok(before.jwt),
            _ => Err(Error::Content("this invitation was used: ask for another".to_owned())),
        }
    }

    /// Asks the inventory, off the thread that speaks to the broker.
    async fn on_roll(
        &self,
        offer: &Offer,
        ask: impl FnOnce(&dyn Roll, &Offer) -> std::result::Result<(), String> + Send + 'static,
    ) -> Result<()> {
        let (roll, offer) = (Arc::clone(&self.roll), offer.clone());
        let asked = tokio::task::spawn_blocking(move || ask(&*roll, &offer)).await;
        asked.map_err(|error| Error::Content(error.to_string()))?.map_err(Error::Content)
    }
}
