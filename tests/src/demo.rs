//! The demo: a channel, customers, a good change and a bad one, on real parts.
//!
//! Takes nothing but this machine; shows what happens while it happens and checks it at the end.
//! Never says that something was so without having looked.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kanarie_crds::channel::WhatsAppChannel;
use kanarie_fakes::agent::{Behaviour, FakeAgent};
use kanarie_fakes::customer::customer;
use kube::api::Api;
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::demo::screen::Screen;
use crate::demo::traffic::Traffic;
use crate::manifest::{ChannelManifest, http_agent, steps};
use crate::roles::Places;
use crate::world::{World, condition};

pub mod screen;
pub mod traffic;

/// What customers ask, and what a good agent answers.
const CONVERSATION: [(&str, &str, &str); 5] = [
    ("Hallo", "Hallo", "Hallo! Waarmee kan ik u helpen?"),
    (
        "Ik zoek een Volkswagen Golf",
        "Volkswagen Golf",
        "Er staan er drie, vanaf € 14.950. Wilt u foto's zien?",
    ),
    ("Ik wil graag een afspraak maken", "afspraak", "Graag! Past het u morgen om 10.00 uur?"),
    (
        "Wat kost een Golf 8 van 2020?",
        "Golf 8",
        "Een Golf 8 van 2020 kost € 18.500, met een jaar garantie.",
    ),
    (
        "Goedemiddag! 😊 Onze oude stationwagen is na 14 trouwe jaren op 😢, en met drie kinderen 👧👦👶, \
         een hond 🐕 en een caravan 🏕️ zoeken we iets ruims, zuinigs en liefst geels 💛. Mag het \
         inruilen bij u, en kunnen we zaterdag een proefrit maken? 🚗💨 Alvast bedankt! 🙏",
        "inruilen",
        "Inruilen kan zeker 👍 en zaterdag om 11.00 uur staat er een gele voor u klaar 💛🚗",
    ),
];

/// Tells the story. With `keep`, everything goes on running until Ctrl-C.
pub async fn run(keep: bool) -> ExitCode {
    let screen = Screen::new();
    match tell(&screen, keep).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen.problem(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn tell(screen: &Screen, keep: bool) -> Result<bool> {
    screen.title("Kanarie: WhatsApp channels for Kubernetes, rolled out by canary");
    let world = set_up(screen).await?;
    let mut manifest = channel(&world);
    apply_the_channel(screen, &world, &manifest).await?;
    let talked = talk(screen, &world).await?;
    let traffic = Traffic::start(&world);
    let promoted = good_change(screen, &world, &mut manifest).await?;
    let taken_back = bad_change(screen, &world, &mut manifest).await?;
    let accepted = traffic.stop().await;
    let settled = settle(screen, &world, accepted + CONVERSATION.len()).await;
    screen.title("What was true");
    let mut all = true;
    for (what, held) in [talked, promoted, taken_back, settled].concat() {
        screen.check(&what, held);
        all &= held;
    }
    let verdict = if all { "All of it was true" } else { "Not all of it was true" };
    screen.step(&format!("{verdict}, after {} s.", screen.seconds()));
    if keep {
        keep_running(screen, &world).await?;
    }
    Ok(all)
}

/// Whether something held, in words.
type Checks = Vec<(String, bool)>;

async fn set_up(screen: &Screen) -> Result<World> {
    screen.title("1. A Kubernetes API server, the operator and the gateway");
    screen.step("starting etcd and kube-apiserver");
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await?));
    let version = plane.client().apiserver_version().await?.git_version;
    screen.done(&format!("Kubernetes {version}, with RBAC"));
    let places = Places::standard(plane).await?;
    screen.step("starting kanarie-operator and kanarie-gateway under their service accounts");
    let world = World::start_in(plane, places, None, 1).await?;
    screen.done("operator and gateway are ready, with the roles of the chart");
    world.old.behave(good_agent("versie 1"));
    world.new.behave(good_agent("versie 2"));
    screen.done("a stand-in for Twilio and three agents");
    Ok(world)
}

fn good_agent(version: &str) -> Behaviour {
    let pairs = CONVERSATION.iter().rev();
    let sign = |reply: &str| format!("{reply} ({version})");
    Behaviour::Script(
        pairs.map(|(_, word, reply)| ((*word).to_owned(), sign(reply))).collect(),
        format!("({version}) Genoteerd: "),
    )
}

fn channel(world: &World) -> ChannelManifest {
    let mut manifest = world.manifest();
    manifest.limits = json!({});
    manifest.rollout = json!({
        "steps": steps(&[(10, 8), (50, 8), (100, 8)]),
        // A step that passes excludes 10 %: 32 messages without a failure, instead of 73.
        "analysis": {"minMessages": 20, "certifyBasisPoints": 1000, "intervalSeconds": 1},
    });
    manifest
}

async fn apply_the_channel(
    screen: &Screen,
    world: &World,
    manifest: &ChannelManifest,
) -> Result<()> {
    screen.title("2. kubectl apply: a WhatsApp channel");
    world.serve(manifest).await?;
    screen.done("the channel is Ready: the first revision serves at once");
    screen.quote(&kubectl_get(world).await?);
    Ok(())
}

async fn talk(screen: &Screen, world: &World) -> Result<Checks> {
    screen.title("3. Customers write, signed by Twilio");
    for (number, (text, _, _)) in CONVERSATION.iter().enumerate() {
        let answer = world.say(0, &customer(1), text).await?;
        screen.customer(text);
        anyhow::ensure!(answer.status == 200, "the gateway answered {}", answer.status);
        let sent = world.twilio.wait_for_sent(number + 1, Duration::from_secs(10)).await;
        anyhow::ensure!(sent > number, "no reply within ten seconds");
        screen.reply(&world.twilio.sent()[number].body);
    }
    let expected = CONVERSATION.map(|(_, _, reply)| format!("{reply} (versie 1)"));
    let sent: Vec<String> = world.twilio.sent().into_iter().map(|sent| sent.body).collect();
    Ok(vec![("five questions got their answers, in order".to_owned(), sent == expected)])
}

async fn good_change(
    screen: &Screen,
    world: &World,
    manifest: &mut ChannelManifest,
) -> Result<Checks> {
    screen.title("4. kubectl apply: a better agent, to 10, 50 and 100 percent of the customers");
    let before = world.channel().await?;
    manifest.agent = http_agent(&world.new.url());
    world.apply(manifest).await?;
    let is_promoted = |channel: &Value| {
        condition(channel, "RolledOut") == Some("True") && revision(channel) != revision(&before)
    };
    let seen = follow(screen, world, &before, is_promoted).await?;
    screen.done("promoted: every customer is served by versie 2");
    let carried = [10, 50, 100].iter().all(|weight| seen.contains(weight));
    Ok(vec![("the better agent went 10, 50, 100 and was promoted".to_owned(), carried)])
}

async fn bad_change(
    screen: &Screen,
    world: &World,
    manifest: &mut ChannelManifest,
) -> Result<Checks> {
    screen.title("5. kubectl apply: an agent that answers every question with 500");
    let before = world.channel().await?;
    let bad = FakeAgent::start(Behaviour::Fail(500)).await?;
    manifest.agent = http_agent(&bad.url());
    world.apply(manifest).await?;
    let is_rejected = |channel: &Value| {
        channel["status"]["rejected"].as_array().is_some_and(|rejected| !rejected.is_empty())
    };
    let seen = follow(screen, world, &before, is_rejected).await?;
    let channel = world.channel().await?;
    let failed: BTreeSet<String> = bad.asked().into_iter().map(|asked| asked.sid).collect();
    screen.done(&format!("{} messages failed on it; stable answered them instead", failed.len()));
    screen.quote(&kubectl_get(world).await?);
    Ok(vec![
        (
            "the bad agent was taken back by itself".to_owned(),
            revision(&channel) == revision(&before),
        ),
        ("it never got past 10 percent".to_owned(), !seen.contains(&50) && !failed.is_empty()),
    ])
}

/// Shows the channel and its transitions since `before` until it is as described; gives every weight
/// that was seen.
async fn follow(
    screen: &Screen,
    world: &World,
    before: &Value,
    until: impl Fn(&Value) -> bool,
) -> Result<BTreeSet<u64>> {
    let mut seen = BTreeSet::new();
    let mut told = before["status"]["transition"].as_u64().unwrap_or_default();
    let is_over = |channel: &Value| {
        told = explain(screen, channel, told);
        let rollout = &channel["status"]["rollout"];
        if let Some(weight) = rollout["weight"].as_u64() {
            seen.insert(weight);
            let text = |field: &str| rollout[field].as_str().unwrap_or_default().to_owned();
            let (old, new) = (world.old.count(), world.new.count());
            screen.live(
                &format!("{weight:3} %  step {}", text("step")),
                &format!("asked: versie 1 {old:4}, versie 2 {new:4}  {}", text("waiting")),
            );
        }
        until(channel)
    };
    let outcome = world.wait_for("the rollout ends", Duration::from_secs(90), is_over).await;
    screen.live_end();
    outcome?;
    Ok(seen)
}

/// Shows the transitions after the one that was told last, with the numbers behind them; gives the last.
fn explain(screen: &Screen, channel: &Value, told: u64) -> u64 {
    let history = channel["status"]["history"].as_array().into_iter().flatten().rev();
    let number = |one: &Value| one["transition"].as_u64().unwrap_or_default();
    history.filter(|one| number(one) > told).fold(told, |_, one| {
        let text = |field: &str| one[field].as_str().unwrap_or_default();
        screen.live_end();
        screen.done(&format!("{}: {}", text("reason"), text("message")));
        number(one)
    })
}

async fn settle(screen: &Screen, world: &World, accepted: usize) -> Checks {
    screen.step("waiting for the last replies");
    let answered = world.twilio.wait_for_sent(accepted, Duration::from_secs(30)).await;
    screen.done(&format!("{accepted} messages accepted, {answered} replies sent"));
    vec![
        (format!("each of {accepted} messages was answered"), answered == accepted),
        ("no reply was sent twice".to_owned(), world.twilio.sent_twice().is_empty()),
        ("no reply came out of order".to_owned(), world.twilio.out_of_order().is_empty()),
    ]
}

async fn kubectl_get(world: &World) -> Result<String> {
    let mut command = tokio::task::block_in_place(|| world.plane.kubectl())?;
    command.args(["-n", &world.places.channels, "get", "wach"]);
    let output = tokio::task::block_in_place(|| command.output()).context("run kubectl")?;
    Ok(format!("$ kubectl get wach\n{}", String::from_utf8_lossy(&output.stdout)))
}

async fn keep_running(screen: &Screen, world: &World) -> Result<()> {
    let api: Api<WhatsAppChannel> = Api::namespaced(world.plane.client(), &world.places.channels);
    let name = api.list(&kube::api::ListParams::default()).await?.items.pop();
    let name = name.and_then(|channel| channel.metadata.name).unwrap_or_default();
    screen.title("Everything goes on running until Ctrl-C");
    screen.quote(&format!(
        "export KUBECONFIG={}\nkubectl get wach -w\nkubectl describe wach {name}\n\
         curl {}/metrics\ncurl {}/fake/sent",
        world.plane.kubeconfig().display(),
        world.gateways[0].admin_url(),
        world.twilio.url(),
    ));
    if kanarie_fakes::programs::installed("kubectl").is_none() {
        let kubectl = tokio::task::block_in_place(|| world.plane.kubectl())?;
        let folder = Path::new(kubectl.get_program()).parent().unwrap_or(Path::new("."));
        screen.quote(&format!("export PATH={}:$PATH", folder.display()));
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}

fn revision(channel: &Value) -> Option<String> {
    channel["status"]["stable"]["revision"].as_str().map(str::to_owned)
}
