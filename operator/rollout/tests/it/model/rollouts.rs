//! What may happen in the world, in any order: the model that is checked.

use kanarie_rollout::analysis::Finding;
use kanarie_rollout::decide::decide;
use kanarie_rollout::rebuild::{Remains, rebuild};
use kanarie_rollout::state::{Phase, State};
use kanarie_words::timestamp::Timestamp;
use stateright::{Model, Property};

use crate::model::world::{Counted, Reported, Worker, World, forgotten, name};

/// The operators' clock at a rebuild: later than any number of this model.
const REBUILD_AT: Timestamp = Timestamp(1_000_000);

/// How the operator works; all but the first are broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Right,
    WritesUnconditionally,
    StartsClockBeforeAcknowledgement,
    ForgetsRejectionsInRebuild,
    ForgetsThatItSteppedBack,
    CutsAtItsTrigger,
}

/// The operator and how much may happen.
#[derive(Clone, Debug)]
pub(crate) struct Rollouts {
    pub(crate) operator: Operator,
    pub(crate) replicas: usize,
    pub(crate) edits: u8,
    pub(crate) ticks: u64,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) pauses: u8,
    pub(crate) command: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Read(usize),
    Decide(usize),
    Write(usize),
    Crash(usize),
    Report,
    LoseRoute,
    Rebuild,
    Obey(usize),
    Tick,
    Count(Counted),
    Edit(u8),
    Pause,
    Order,
}

impl Model for Rollouts {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let first = forgotten(State::first(name(1), Timestamp(0)));
        vec![World {
            reported: Reported::of(&first),
            acknowledged: vec![first.serving; self.replicas],
            highest: first.serving,
            route: Some(first),
            desired: 2,
            paused: false,
            command: None,
            at: 0,
            evidence: (0, Counted::Nothing),
            operators: Default::default(),
            edits: 0,
            crashes: 0,
            losses: 0,
            pauses: 0,
            in_force_since: Some(0),
            stepped_back: false,
            rejected: Vec::new(),
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        for (index, worker) in world.operators.iter().enumerate() {
            if worker.writes.is_some() {
                actions.push(Action::Write(index));
                if world.crashes < self.crashes {
                    actions.push(Action::Crash(index));
                }
            } else {
                if worker.read.is_some() {
                    actions.push(Action::Decide(index));
                }
                if !worker.is_newest && world.route.is_some() {
                    actions.push(Action::Read(index));
                }
            }
        }
        match &world.route {
            Some(state) => {
                if self.losses > world.losses && world.reported != Reported::of(state) {
                    actions.push(Action::Report);
                }
                if world.losses < self.losses {
                    actions.push(Action::LoseRoute);
                }
                for replica in 0..self.replicas {
                    if world.acknowledged[replica] != state.serving {
                        actions.push(Action::Obey(replica));
                    }
                }
                if state.split().canary.is_some()
                    && world.counted(state.serving) == Counted::Nothing
                {
                    actions.extend([Counted::Good, Counted::Bad].map(Action::Count));
                }
            }
            None => actions.push(Action::Rebuild),
        }
        if world.at < self.ticks {
            actions.push(Action::Tick);
        }
        if world.edits < self.edits {
            actions
                .extend([1, 2, 3].into_iter().filter(|to| *to != world.desired).map(Action::Edit));
        }
        if world.pauses < self.pauses {
            actions.push(Action::Pause);
        }
        if self.command.is_some() && world.command.is_none() {
            actions.push(Action::Order);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Read(index) => next.read(index),
            Action::Decide(index) => self.decide(&mut next, index)?,
            Action::Write(index) => self.write(&mut next, index),
            Action::Crash(index) => {
                next.operators[index] = Worker::default();
                next.crashes += 1;
            }
            Action::Report => next.reported = Reported::of(next.route.as_ref()?),
            Action::LoseRoute => next.lose_route(),
            Action::Rebuild => self.rebuild(&mut next),
            Action::Obey(replica) => {
                let serving = next.route.as_ref()?.serving;
                next.acknowledged[replica] = serving;
                if next.acknowledged.iter().all(|one| *one == serving) {
                    next.in_force_since = Some(next.at);
                }
            }
            Action::Tick => next.at += 1,
            Action::Count(counted) => next.evidence = (next.route.as_ref()?.serving, counted),
            Action::Edit(to) => {
                next.desired = to;
                next.edits += 1;
            }
            Action::Pause => {
                next.paused = !next.paused;
                next.pauses += 1;
            }
            Action::Order => next.command = self.command,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is broken", |_, world: &World| world.broken.is_none()),
            Property::sometimes("a canary is promoted", |_, world: &World| {
                world.is_stable(2) && world.evidence.1 == Counted::Good
            }),
            Property::sometimes("a canary is rolled back", |_, world: &World| {
                world.is_stable(1) && world.rejected.contains(&name(2))
            }),
        ]
    }
}

impl Rollouts {
    fn decide(&self, world: &mut World, index: usize) -> Option<()> {
        let state = world.operators[index].read.clone()?;
        let mut seen = world.observation();
        if self.operator == Operator::StartsClockBeforeAcknowledgement {
            for replica in &mut seen.store.as_mut()?.replicas {
                replica.serving = Some(state.serving);
            }
        }
        let decision = decide(&state, &seen, Timestamp(world.at * 1000));
        let failed = decision.verdict.is_some_and(|verdict| verdict.finding == Finding::Fail);
        let mut next = forgotten(decision.next);
        if failed && next.split().weight >= state.split().weight {
            world.broken = Some("a failed verdict left a weight");
        }
        if let Phase::Rolling(rolling) = &mut next.phase {
            match self.operator {
                Operator::ForgetsThatItSteppedBack => rolling.stepped_back = false,
                Operator::CutsAtItsTrigger if world.counted(state.serving) == Counted::Bad => {
                    let steps = rolling.policy.steps.count();
                    rolling.segments.cut(1, steps);
                }
                _ => {}
            }
        }
        if next == state && world.broken.is_none() {
            return None;
        }
        world.operators[index].writes = Some(next);
        Some(())
    }

    fn write(&self, world: &mut World, index: usize) {
        let worker = std::mem::take(&mut world.operators[index]);
        let (Some(next), Some(state)) = (worker.writes, world.route.clone()) else { return };
        if worker.is_newest || self.operator == Operator::WritesUnconditionally {
            world.take_effect(&state, &next);
            // The operator knows what it has written.
            world.read(index);
        }
    }

    fn rebuild(&self, world: &mut World) {
        let reported = world.reported.clone();
        let forgets = self.operator == Operator::ForgetsRejectionsInRebuild;
        let remains = Remains {
            revisions: Vec::new(),
            stable: Some(reported.stable),
            stable_since: None,
            rejected: if forgets { Vec::new() } else { reported.rejected },
            last_command: reported.last_command,
            standing: world.observation().command,
            transition: reported.transition,
        };
        let state = forgotten(rebuild(remains, REBUILD_AT).unwrap());
        if state.serving <= world.highest || state.transition <= reported.transition {
            world.broken = Some("numbers went back in a rebuild");
        }
        world.put(state);
    }
}
