//! How hosts come in and are put out.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bulkhead_channel::{
    Claims, Client, Credentials, Enroller, Invitation, Offer, Roll, State, enrol, enrolled, invite,
    mark_removed, tell_servers,
};

use crate::fleet::below;
use crate::site::{SOON, Site};

/// A node, its tags, and its WireGuard key.
type Entry = (String, Vec<String>, Option<String>);

/// An inventory that takes whoever is not called `taken`.
#[derive(Default)]
pub struct List(Mutex<Vec<Entry>>);

impl List {
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

impl Roll for List {
    fn check(&self, offer: &Offer, _: Option<&str>) -> Result<(), String> {
        if offer.node == "taken" { Err("the inventory has another node taken".to_owned()) } else { Ok(()) }
    }

    fn add(&self, offer: &Offer, wireguard: Option<&str>) -> Result<(), String> {
        let entry = (offer.node.clone(), offer.tags.clone(), wireguard.map(str::to_owned));
        self.0.lock().unwrap().push(entry);
        Ok(())
    }
}

/// An invitation for a node.
pub fn invitation(site: &Site, node: &str, seconds: u64) -> Invitation {
    let offer = Offer {
        node: node.to_owned(),
        addresses: vec!["100.64.0.9".to_owned()],
        tags: vec!["tag:oms".to_owned(), "tag:production".to_owned()],
    };
    let ca = std::fs::read_to_string(site.cluster.ca().unwrap()).unwrap();
    invite(site.account(), &offer, seconds, &site.cluster.urls(), Some(ca)).unwrap()
}

/// Runs an enroller.
pub async fn enroller(site: &Site) -> (Arc<List>, tokio::task::JoinHandle<()>) {
    let list = Arc::new(List::default());
    let service = Enroller::open(&site.directory.path().join("account"), list.clone()).unwrap();
    let client = site.service("enroller").await;
    let task = tokio::spawn(async move { service.run(&client, |_| ()).await.unwrap() });
    (list, task)
}

/// Enrols, again while the enroller does not listen yet.
pub async fn enrol_patiently(invitation: &Invitation, directory: &std::path::Path) -> Credentials {
    let until = Instant::now() + SOON;
    loop {
        match enrol(invitation, directory, Some("AAAA".to_owned())).await {
            Ok(credentials) => return credentials,
            Err(error) => {
                assert!(Instant::now() < until && error.to_string().contains("no enroller"), "{error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_who_use_one_invitation_one_is_enrolled() {
    let site = Site::closed(3).await;
    let (list, task) = enroller(&site).await;
    // That it is there.
    enrol_patiently(&invitation(&site, "first", 600), &below(site.directory.path(), "first")).await;
    let one = invitation(&site, "oms-9", 600);
    let begun = Instant::now();
    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (one, directory) = (one.clone(), below(site.directory.path(), &format!("host-{number}")));
        attempts.spawn(async move { enrol(&one, &directory, None).await.map(|of| (of, directory)) });
    }
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    while let Some(result) = attempts.join_next().await {
        match result.unwrap() {
            Ok(of) => won.push(of),
            Err(error) => lost.push(error.to_string()),
        }
    }
    println!(
        "20 races for one invitation: {} enrolled, {} refused, {:?}",
        won.len(),
        lost.len(),
        begun.elapsed()
    );
    assert_eq!(won.len(), 1, "{lost:?}");
    assert!(lost.iter().all(|error| error.contains("was used")), "{lost:?}");
    let names: Vec<String> = list.0.lock().unwrap().iter().map(|(node, ..)| node.clone()).collect();
    assert_eq!(names, ["first", "oms-9"], "added once");
    assert_eq!(list.0.lock().unwrap()[1].1, ["tag:oms", "tag:production"], "as the operator said");
    let (credentials, directory) = &won[0];
    assert_eq!(credentials.name(), "oms-9");
    assert!(!directory.join("enrolling.creds").exists() && !directory.join("enrolling.nk").exists());
    task.abort();
}

/// Credentials of an enrolled host, made tomorrow.
fn ahead(site: &Site, directory: &std::path::Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(directory.join("fleet.creds")).unwrap();
    let seed = text.lines().find(|line| line.starts_with("SU")).unwrap();
    let old = Credentials::read(&directory.join("fleet.creds")).unwrap();
    let agents = std::fs::read_to_string(site.directory.path().join("account/agents.nk")).unwrap();
    let agents = nkeys::KeyPair::from_seed(agents.trim()).unwrap();
    let mut claims = Claims::read(old.jwt()).unwrap();
    claims.iat += 24 * 60 * 60;
    let key = nkeys::KeyPair::from_seed(seed).unwrap();
    let file = site.directory.path().join("ahead.creds");
    Credentials::new(claims.sign(&agents).unwrap(), key).unwrap().write(&file).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_is_cut_off_at_once_and_stays_out() {
    let mut site = Site::closed(3).await;
    let (list, task) = enroller(&site).await;
    let (one, directory) = (invitation(&site, "oms-9", 600), below(site.directory.path(), "oms-9"));
    let credentials = enrol_patiently(&one, &directory).await;
    let agent = Client::new(site.settings(Some(directory.join("fleet.creds")), "")).unwrap();
    agent.connected(SOON).await.unwrap();
    let bystander = site.agent("oms-1").await;

    let service = site.service("enroller").await;
    let known = enrolled(&service, "oms-9").await.unwrap().unwrap();
    assert_eq!((&*known.node, &known.key), ("oms-9", &credentials.key()));
    let jwt = site.account().revoke(std::slice::from_ref(&known.key)).unwrap();
    let system = site.service("system").await;
    // One that was minted while a clock was ahead, or that somebody has made so.
    let ahead = ahead(&site, &directory);
    let early = || Client::new(site.settings(Some(ahead.clone()), "")).unwrap();
    early().connected(SOON).await.unwrap();
    let (mut state, begun) = (agent.state(), Instant::now());
    tell_servers(&system, &jwt).await.unwrap();
    assert_eq!(mark_removed(&service, "oms-9").await.unwrap(), [known.key]);
    let is_out = state.wait_for(|state| matches!(state, State::Disconnected(_)));
    tokio::time::timeout(SOON, is_out).await.unwrap().unwrap();
    let cut = begun.elapsed();
    println!("removal to disconnection: {cut:?}");
    assert!(cut < Duration::from_secs(1), "{cut:?}");

    // It does not come back: not by itself, not anew, not by its invitation, and not at servers that start again.
    assert!(
        agent.connected(Duration::from_secs(1)).await.unwrap_err().to_string().contains("does not accept")
    );
    let again = || Client::new(site.settings(Some(directory.join("fleet.creds")), "")).unwrap();
    assert!(again().connected(Duration::from_secs(2)).await.is_err());
    assert!(early().connected(Duration::from_secs(2)).await.is_err());
    let other = enrol(&one, &below(site.directory.path(), "thief"), None).await.unwrap_err();
    assert!(other.to_string().contains("was removed after"), "{other}");
    // With the key that used it neither, which who has broken in has, too.
    let seed = std::fs::read_to_string(directory.join("fleet.creds")).unwrap();
    let seed = seed.lines().find(|line| line.starts_with("SU")).unwrap();
    std::fs::write(directory.join("enrolling.nk"), seed).unwrap();
    let again = enrol(&one, &directory, None).await.unwrap_err();
    assert!(again.to_string().contains("was removed after"), "{again}");
    assert_eq!(list.0.lock().unwrap().len(), 1);
    assert!(matches!(*bystander.state().borrow(), State::Connected(1)), "others stay");
    site.cluster.restart_all().unwrap();
    bystander.connected(SOON).await.unwrap();
    let again = || Client::new(site.settings(Some(directory.join("fleet.creds")), "")).unwrap();
    assert!(again().connected(Duration::from_secs(2)).await.is_err(), "a revocation outlives a restart");
    task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_enrols_as_it_says_and_nobody_else() {
    let site = Site::closed(1).await;
    let (list, task) = enroller(&site).await;
    let directory = below(site.directory.path(), "a");
    // An enrolment whose answer was lost is asked for again, with the same key.
    let one = invitation(&site, "a", 600);
    let first = enrol_patiently(&one, &directory).await;
    let seed = std::fs::read_to_string(directory.join("fleet.creds")).unwrap();
    let seed = seed.lines().find(|line| line.starts_with("SU")).unwrap();
    std::fs::write(directory.join("enrolling.nk"), seed).unwrap();
    let second = enrol(&one, &directory, None).await.unwrap();
    assert_eq!((first.key(), first.jwt()), (second.key(), second.jwt()));
    assert_eq!(list.0.lock().unwrap().len(), 1, "added once");

    // Until it is accepted it may be anybody's, and replaces nothing.
    let there = below(site.directory.path(), "b");
    let kept = [there.join("fleet.ca.pem"), below(&there, "fleet").join("policy.root.json")];
    kept.iter().for_each(|file| std::fs::write(file, "kept").unwrap());
    let taken = Invitation { policy_root: Some("{}".to_owned()), ..invitation(&site, "taken", 600) };
    let taken = enrol(&taken, &there, None).await;
    assert!(taken.unwrap_err().to_string().contains("another node taken"));
    assert!(kept.iter().all(|file| std::fs::read_to_string(file).unwrap() == "kept"));
    // Nobody has another's key enrolled.
    let theft = invitation(&site, "thief", 600);
    let file = site.directory.path().join("thief.creds");
    std::fs::write(&file, &theft.credentials).unwrap();
    let credentials = Credentials::read(&file).unwrap();
    let thief = Client::new(site.settings(Some(file), "")).unwrap();
    thief.connected(SOON).await.unwrap();
    let request = serde_json::json!({ "invitation": credentials.jwt(), "key": first.key(), "proof": "AAAA" })
        .to_string();
    let answer = thief.request(&format!("enrol.{}", credentials.name()), &[], request.into()).await.unwrap();
    assert!(String::from_utf8_lossy(&answer.payload).contains("not signed by the key"));
    // Enrolled anew, all its keys are on record; removed, it comes back by a newer invitation alone.
    let anew = invitation(&site, "a", 600);
    let third = enrol(&anew, &below(site.directory.path(), "a2"), None).await.unwrap();
    let unused = invitation(&site, "a", 600);
    let service = site.service("enroller").await;
    assert_eq!(mark_removed(&service, "a").await.unwrap(), [first.key(), third.key()]);
    let refused = enrol(&unused, &below(site.directory.path(), "a3"), None).await.unwrap_err();
    assert!(refused.to_string().contains("was removed after"), "{refused}");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    enrol(&invitation(&site, "a", 600), &below(site.directory.path(), "a4"), None).await.unwrap();
    // Nobody has heard of this one.
    assert!(mark_removed(&service, "unheard-of").await.unwrap().is_empty());

    let over = invitation(&site, "late", 0);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(enrol(&over, &below(site.directory.path(), "c"), None).await.is_err(), "its time is over");
    // Another fleet's invitation, presented with this one's credentials: the JWT within is not this fleet's.
    let other = bulkhead_channel::Account::create(&site.directory.path().join("other")).unwrap();
    let offer = Offer { node: "x".to_owned(), addresses: vec!["100.64.0.1".to_owned()], tags: Vec::new() };
    let foreign = invite(&other, &offer, 600, &site.cluster.urls(), one.ca.clone()).unwrap();
    assert!(enrol(&foreign, &below(site.directory.path(), "d"), None).await.is_err());
    for wrong in [
        Offer { node: String::new(), ..offer.clone() },
        Offer { addresses: Vec::new(), ..offer.clone() },
        Offer { addresses: vec!["web".to_owned()], ..offer.clone() },
        Offer { tags: vec!["oms".to_owned()], ..offer },
    ] {
        assert!(invite(site.account(), &wrong, 600, &site.cluster.urls(), None).is_err(), "{wrong:?}");
    }
    task.abort();
}
