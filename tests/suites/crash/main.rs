//! The agent killed everywhere: at every boundary of an activation, and at random calls. After each the host must be as a
//! run that nothing disturbed leaves it, and the agent must have said what became of the activation.

mod shop;
mod snapshot;
mod stage;
mod tracer;

use std::time::Instant;

use drover_tests::lab::Lab;
use shop::Release;
use stage::{Kill, Move, Stage};
use tracer::Calls;

const RED: Move = Move::Apply(Release::Red);
const BLUE: Move = Move::Apply(Release::Blue);
const BROKEN: Move = Move::Apply(Release::Broken);

/// From one boundary to the next that a test takes: 2 = two tests take all, 8 = they take a quarter of them.
fn stride() -> u64 {
    setting("DROVER_CRASH_STRIDE", 8)
}

/// Walks over boundaries of several moves, one after another, until each has been seen to its end. Begins at these.
fn walk<const N: usize>(stage: &Stage, moves: [(Move, u64); N]) {
    walk_by(stride(), stage, moves);
}

fn walk_by<const N: usize>(stride: u64, stage: &Stage, moves: [(Move, u64); N]) {
    let (mut next, mut done, mut points) = (moves.map(|(_, from)| from), [false; N], 0);
    let begun = Instant::now();
    while !done.iter().all(|done| *done) {
        for (i, (what, _)) in moves.into_iter().enumerate() {
            let reached = stage.interrupt(what, Kill::Boundary(next[i]));
            done[i] |= !reached;
            next[i] += stride;
            points += u32::from(reached);
        }
    }
    println!("{points} points of {moves:?} up to {next:?} in {:?}", begun.elapsed());
}

/// There and back again, which are the same boundaries: what one leaves out the other takes.
fn upgrades(first: u64) {
    let mut stage = Stage::set();
    stage.rehearse(&[RED, BLUE, RED, BLUE]);
    walk(&stage, [(RED, first), (BLUE, first + stride() / 2)]);
}

#[test]
fn upgrades_killed_at_odd_boundaries() {
    upgrades(1);
}

#[test]
fn upgrades_killed_at_even_boundaries() {
    upgrades(2);
}

/// A service that is replaced by another instance beside it, likewise.
#[test]
fn handovers_killed_at_boundaries() {
    const NORTH: Move = Move::Apply(Release::North);
    const SOUTH: Move = Move::Apply(Release::South);
    let mut stage = Stage::set();
    stage.rehearse(&[NORTH, SOUTH, NORTH, SOUTH]);
    walk(&stage, [(NORTH, 1), (SOUTH, 1 + stride() / 2)]);
}

/// And a container.
#[test]
fn handovers_of_containers_killed_at_boundaries() {
    const EAST: Move = Move::Apply(Release::East);
    const WEST: Move = Move::Apply(Release::West);
    let mut stage = Stage::set_on(Lab::docker_host);
    stage.rehearse(&[EAST, WEST, EAST, WEST]);
    // Each point costs twice as much as one of a unit.
    let stride = setting("DROVER_CRASH_STRIDE", 16);
    walk_by(stride, &stage, [(EAST, 1), (WEST, 1 + stride / 2)]);
}

/// From where it begins to differ from an upgrade; another host for each half.
fn failing(first: u64) {
    let mut stage = Stage::set();
    stage.rehearse(&[RED, BLUE, BROKEN, BROKEN]);
    let there = stage.count(BROKEN, Calls::Boundaries) / 3;
    walk(&stage, [(BROKEN, there + first)]);
}

#[test]
fn a_failing_release_killed_at_odd_boundaries_of_its_way_back() {
    failing(0);
}

#[test]
fn a_failing_release_killed_at_even_boundaries_of_its_way_back() {
    failing(1);
}

/// There and away again.
fn coming_and_going(first: u64) {
    let mut stage = Stage::set();
    stage.rehearse(&[RED, Move::Remove, RED, Move::Remove]);
    walk(&stage, [(RED, first), (Move::Remove, first)]);
}

#[test]
fn first_deploys_and_removals_killed_at_odd_boundaries() {
    coming_and_going(1);
}

#[test]
fn first_deploys_and_removals_killed_at_even_boundaries() {
    coming_and_going(2);
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    let Some(text) = std::env::var_os(name) else { return default };
    text.to_string_lossy().parse().unwrap_or_else(|error| panic!("{name}={text:?}: {error}"))
}

/// The next of a row of numbers that looks random (splitmix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `DROVER_CRASH_POINTS` of them, chosen by `DROVER_CRASH_SEED`.
#[test]
fn killed_at_random_calls() {
    const CYCLE: [Move; 5] = [RED, BLUE, BROKEN, RED, Move::Remove];
    let (seed, points) = (setting("DROVER_CRASH_SEED", 20), setting("DROVER_CRASH_POINTS", 60));
    println!("DROVER_CRASH_SEED={seed} DROVER_CRASH_POINTS={points}");
    let mut stage = Stage::set();
    stage.rehearse(&CYCLE);
    stage.rehearse(&CYCLE);
    let calls = CYCLE.map(|what| stage.count(what, Calls::Every));
    let (mut state, mut reached, begun) = (seed, 0, Instant::now());
    for i in 0..usize::try_from(points).expect("a number of points") {
        let at = 1 + random(&mut state) % calls[i % CYCLE.len()];
        reached += u32::from(stage.interrupt(CYCLE[i % CYCLE.len()], Kill::Call(at)));
    }
    println!("{reached} of {points} points reached in {:?}; calls of {CYCLE:?}: {calls:?}", begun.elapsed());
}
