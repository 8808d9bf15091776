//! Explores every interleaving of the lease protocol on a small model: two workers, one token, a Lark that takes a refresh
//! token once, a bus, and a limited number of faults. The decisions are the real ones ([`decide`]). The steps of the row
//! are those of the SQL, which the conformance suite of the stores pins down.

use std::collections::{BTreeSet, HashSet};

use larkauth_lark::error::{Cause, ErrorKind, LarkError, Outcome};
use larkauth_models::TokenStatus::{self, Active, OutcomeUnknown, ReauthorizationRequired, Revoked};

use super::decision::{Next, decide};

/// Claims of one exploration. More would repeat what fewer show.
const MAX_CLAIMS: u8 = 4;
const WORKERS: usize = 2;

/// A pair, numbered in the order in which Lark issued it.
type Pair = u8;

/// The row of the token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    pair: Pair,
    generation: u8,
    status: TokenStatus,
    owner: Option<u8>,
    /// The lease counts: its time has not passed, and its end is no further ahead than that of a lease can be.
    is_leased: bool,
    /// No pause after a failure is left.
    is_due: bool,
}

/// What a worker read when it took the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lease {
    owner: u8,
    pair: Pair,
    generation: u8,
    status: TokenStatus,
    was_interrupted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    New(Pair),
    Refused,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    Holding(Lease),
    Waiting(Lease),
    Answered(Lease, Answer),
}

/// Faults that may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Faults {
    kills: u8,
    lost_answers: u8,
    store_refusals: u8,
    repeated_deliveries: u8,
    consents: u8,
    revocations: u8,
    /// Whether a lease may end before its holder is done: by its time, or because the clock was set back.
    slow_holders: bool,
}

/// A rule of the protocol that an exploration leaves out, to see that the check finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Broken {
    Nothing,
    Lease,
    Generation,
    FencedEnd,
    Revival,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    row: Row,
    workers: [Worker; WORKERS],
    /// Requests that Lark has not processed: who waits, and the pair.
    wire: BTreeSet<(u8, Pair)>,
    /// Refresh tokens that Lark would take.
    valid: BTreeSet<Pair>,
    issued: Pair,
    /// Pairs that the store did not take: the generation that they replace, and the pair.
    bus: BTreeSet<(u8, Pair)>,
    claims: u8,
    /// An answer with a pair reached no process that lived.
    is_pair_lost: bool,
    faults: Faults,
}

impl State {
    fn start(faults: Faults) -> Self {
        let row = Row { pair: 0, generation: 1, status: Active, owner: None, is_leased: false, is_due: true };
        Self {
            row,
            workers: [Worker::Idle; WORKERS],
            wire: BTreeSet::new(),
            valid: BTreeSet::from([0]),
            issued: 0,
            bus: BTreeSet::new(),
            claims: 0,
            is_pair_lost: false,
            faults,
        }
    }

    fn is_quiet(&self) -> bool {
        self.wire.is_empty() && self.bus.is_empty() && self.workers.iter().all(|w| *w == Worker::Idle)
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next
    }

    fn issue(&mut self) -> Pair {
        self.issued += 1;
        self.valid.insert(self.issued);
        self.issued
    }

    /// `claim_refresh`.
    fn claim(&mut self, worker: usize) {
        let owner = self.claims;
        self.claims += 1;
        let Row { pair, generation, status, .. } = self.row;
        let was_interrupted = self.row.owner.is_some();
        self.workers[worker] = Worker::Holding(Lease { owner, pair, generation, status, was_interrupted });
        (self.row.owner, self.row.is_leased) = (Some(owner), true);
    }

    /// `complete_refresh`.
    fn complete(&mut self, generation: u8, pair: Pair, broken: Broken) {
        let fits = self.row.generation == generation || broken == Broken::Generation;
        let revives = self.row.status != ReauthorizationRequired || broken != Broken::Revival;
        if fits && revives && self.row.status != Revoked {
            self.row = Row {
                pair,
                generation: generation + 1,
                status: Active,
                owner: None,
                is_leased: false,
                is_due: true,
            };
        }
    }

    /// `end_refresh`.
    fn end(&mut self, lease: Lease, error: &LarkError, broken: Broken) {
        let decision = decide(lease.status, 0, lease.was_interrupted, error);
        if self.row.owner == Some(lease.owner) || broken == Broken::FencedEnd {
            self.row.status = decision.status;
            self.row.is_due = false;
            (self.row.owner, self.row.is_leased) = (None, false);
            assert_eq!(decision.next == Next::Never, decision.status == ReauthorizationRequired);
        }
    }

    /// Lark processes a request. The answer reaches the worker that waits for it, if it lives.
    fn process(&mut self, request: (u8, Pair)) -> (Answer, Option<usize>) {
        self.wire.remove(&request);
        let answer = if self.valid.remove(&request.1) { Answer::New(self.issue()) } else { Answer::Refused };
        let waiting = self.workers.iter().position(
            |worker| matches!(worker, Worker::Waiting(lease) if (lease.owner, lease.pair) == request),
        );
        (answer, waiting)
    }

    /// Returns every state that is one step away.
    fn next(&self, broken: Broken) -> Vec<Self> {
        let mut next = Vec::new();
        for worker in 0..WORKERS {
            self.steps_of(worker, broken, &mut next);
        }
        for &request in &self.wire {
            next.push(self.with(|s| match s.process(request) {
                (answer, Some(worker)) => {
                    let Worker::Waiting(lease) = s.workers[worker] else { unreachable!() };
                    s.workers[worker] = Worker::Answered(lease, answer);
                }
                (answer, None) => s.is_pair_lost |= answer != Answer::Refused,
            }));
        }
        for &(generation, pair) in &self.bus {
            next.push(self.with(|s| {
                s.bus.remove(&(generation, pair));
                s.complete(generation, pair, broken);
            }));
            if self.faults.repeated_deliveries > 0 {
                next.push(self.with(|s| {
                    s.faults.repeated_deliveries -= 1;
                    s.complete(generation, pair, broken);
                }));
            }
        }
        let holder_works = self.workers.iter().any(|worker| match worker {
            Worker::Idle => false,
            Worker::Holding(lease) | Worker::Waiting(lease) | Worker::Answered(lease, _) => {
                self.row.owner == Some(lease.owner)
            }
        });
        if self.row.is_leased && (self.faults.slow_holders || !holder_works) {
            next.push(self.with(|s| s.row.is_leased = false));
        }
        if !self.row.is_due {
            next.push(self.with(|s| s.row.is_due = true));
        }
        if self.faults.consents > 0 {
            next.push(self.with(|s| {
                s.faults.consents -= 1;
                let (pair, generation) = (s.issue(), s.row.generation + 1);
                s.is_pair_lost = false;
                s.row = Row { pair, generation, status: Active, owner: None, is_leased: false, is_due: true };
            }));
        }
        if self.faults.revocations > 0 {
            next.push(self.with(|s| {
                s.faults.revocations -= 1;
                s.row.status = Revoked;
                (s.row.owner, s.row.is_leased) = (None, false);
            }));
        }
        next
    }

    fn steps_of(&self, worker: usize, broken: Broken, next: &mut Vec<Self>) {
        let is_free = !self.row.is_leased || broken == Broken::Lease;
        match self.workers[worker] {
            Worker::Idle => {
                let is_refreshable = matches!(self.row.status, Active | OutcomeUnknown) && self.row.is_due;
                if is_refreshable && is_free && self.claims < MAX_CLAIMS {
                    next.push(self.with(|s| s.claim(worker)));
                }
                return;
            }
            Worker::Holding(lease) => next.push(self.with(|s| {
                s.wire.insert((lease.owner, lease.pair));
                s.workers[worker] = Worker::Waiting(lease);
            })),
            Worker::Waiting(lease) if self.faults.lost_answers > 0 => {
                let request = (lease.owner, lease.pair);
                // Lost before Lark, lost after Lark, and given up while it is on its way.
                for (is_processed, is_on_its_way) in [(false, false), (true, false), (false, true)] {
                    next.push(self.with(|s| {
                        s.faults.lost_answers -= 1;
                        if is_processed {
                            let (answer, _) = s.process(request);
                            s.is_pair_lost |= answer != Answer::Refused;
                        } else if !is_on_its_way {
                            s.wire.remove(&request);
                        }
                        s.workers[worker] = Worker::Answered(lease, Answer::Lost);
                    }));
                }
            }
            Worker::Waiting(_) => {}
            Worker::Answered(lease, Answer::New(pair)) => {
                next.push(self.with(|s| {
                    s.complete(lease.generation, pair, broken);
                    s.workers[worker] = Worker::Idle;
                }));
                if self.faults.store_refusals > 0 {
                    next.push(self.with(|s| {
                        s.faults.store_refusals -= 1;
                        s.bus.insert((lease.generation, pair));
                        s.workers[worker] = Worker::Idle;
                    }));
                }
            }
            Worker::Answered(lease, answer) => next.push(self.with(|s| {
                s.end(lease, &error(answer), broken);
                s.workers[worker] = Worker::Idle;
            })),
        }
        if self.faults.kills > 0 {
            next.push(self.with(|s| {
                s.faults.kills -= 1;
                s.is_pair_lost |= matches!(s.workers[worker], Worker::Answered(_, Answer::New(_)));
                s.workers[worker] = Worker::Idle;
            }));
        }
    }

    /// Returns what is wrong with this state.
    fn violation(&self, before: &Self, planned: Faults) -> Option<&'static str> {
        let is_refused = |worker: &Worker| matches!(worker, Worker::Answered(_, Answer::Refused));
        if self.faults == planned && !planned.slow_holders && self.workers.iter().any(is_refused) {
            return Some("a refresh token was sent twice although no fault happened");
        }
        if self.row.generation < before.row.generation {
            return Some("the generation went back");
        }
        if before.row.status == Revoked && self.row.status != Revoked && before.faults == self.faults {
            return Some("a revoked token came back without a consent");
        }
        if !self.is_quiet() || self.row.status == Revoked {
            return None;
        }
        match (self.valid.contains(&self.row.pair), self.row.status) {
            (true, ReauthorizationRequired) => Some("a login was given up although its refresh token works"),
            (false, _) if !self.is_pair_lost => Some("a pair was lost that had arrived"),
            _ => None,
        }
    }
}

/// Lark's answer as the client reports it.
fn error(answer: Answer) -> LarkError {
    match answer {
        Answer::Refused => LarkError {
            code: Some(20_073),
            ..LarkError::new(
                "refresh",
                ErrorKind::RefreshTokenInvalid,
                Outcome::NotProcessed,
                Cause::Code,
                "used",
            )
        },
        Answer::Lost | Answer::New(_) => {
            LarkError::new("refresh", ErrorKind::Transient, Outcome::MaybeProcessed, Cause::Cut, "cut")
        }
    }
}

/// Visits every state. Returns their number, or the first violation.
fn explore(faults: Faults, broken: Broken) -> Result<usize, String> {
    let start = State::start(faults);
    let (mut seen, mut open) = (HashSet::from([start.clone()]), vec![start]);
    while let Some(state) = open.pop() {
        for next in state.next(broken) {
            if let Some(violation) = next.violation(&state, faults) {
                return Err(format!("{violation}:\n{state:#?}\n→ {next:#?}"));
            }
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

const NONE: Faults = Faults {
    kills: 0,
    lost_answers: 0,
    store_refusals: 0,
    repeated_deliveries: 0,
    consents: 0,
    revocations: 0,
    slow_holders: false,
};

#[test]
fn protocol_keeps_login_in_every_interleaving() {
    let all = [
        Faults { kills: 2, lost_answers: 1, store_refusals: 1, repeated_deliveries: 1, ..NONE },
        Faults { kills: 1, store_refusals: 1, slow_holders: true, ..NONE },
        Faults { lost_answers: 2, store_refusals: 1, slow_holders: true, ..NONE },
        Faults { kills: 1, lost_answers: 1, store_refusals: 1, consents: 1, ..NONE },
        Faults { kills: 1, lost_answers: 1, store_refusals: 1, revocations: 1, slow_holders: true, ..NONE },
    ];
    for faults in all {
        let states =
            explore(faults, Broken::Nothing).unwrap_or_else(|violation| panic!("{faults:?}: {violation}"));
        assert!(states > 1000, "{faults:?} explores {states} states only");
    }
}

#[test]
fn protocol_without_a_rule_is_found_wrong() {
    let slow = Faults { store_refusals: 1, repeated_deliveries: 1, slow_holders: true, ..NONE };
    for (broken, faults) in [
        (Broken::Lease, NONE),
        (Broken::Generation, slow),
        (Broken::FencedEnd, slow),
        (Broken::Revival, Faults { kills: 1, lost_answers: 1, ..slow }),
    ] {
        assert!(explore(faults, Broken::Nothing).is_ok(), "{broken:?}: the whole protocol holds");
        assert!(explore(faults, broken).is_err(), "{broken:?}: the exploration does not notice");
    }
}

#[test]
fn lost_pair_ends_in_reauthorization() {
    // Lark has taken the only refresh token, and no process has the answer.
    let mut state = State::start(NONE);
    state.valid.clear();
    (state.row.owner, state.is_pair_lost) = (Some(9), true);
    for attempts in 1..=2 {
        state.claim(0);
        let Worker::Holding(lease) = state.workers[0] else { unreachable!() };
        state.end(lease, &error(Answer::Refused), Broken::Nothing);
        state.workers[0] = Worker::Idle;
        let expected = if attempts == 1 { OutcomeUnknown } else { ReauthorizationRequired };
        assert_eq!(state.row.status, expected, "attempt {attempts}");
    }
}
