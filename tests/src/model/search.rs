//! The search: every state that can be reached, breadth first, so that a counterexample is a shortest one; then backwards
//! from the ended states over the ordinary steps, to find states from which no end can be reached.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use super::expand::Next;
use super::intern::Mix;
use super::mutation::Mutation;
use super::property::Property;
use super::state::State;
use super::story;
use super::universe::Model;
use super::world::World;

/// No search goes on with more states than this: one that would is cut off, and says so.
pub const STATES_MAX: usize = 60_000_000;

/// What a search found.
#[derive(Debug)]
pub struct Report {
    /// How many states there are.
    pub states: usize,
    /// How many steps between them that change something.
    pub transitions: u64,
    /// How many steps the farthest state is away from the beginning.
    pub depth: u32,
    /// How many states are ends.
    pub ends: usize,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub verdict: Verdict,
}

/// How a search ended.
#[derive(Debug)]
pub enum Verdict {
    /// Every state was looked at, and no promise is broken.
    Holds,
    /// A promise is broken; a shortest story of how, line by line.
    Broken(Property, Vec<String>),
    /// The bound was reached: nothing is known.
    CutOff,
}

impl Report {
    /// Whether everything was looked at and holds.
    pub fn holds(&self) -> bool {
        matches!(self.verdict, Verdict::Holds)
    }
}

/// Searches a world, with a rule off or none. `progress` is told now and then how many states are known and looked at.
pub fn search(
    world: &'static World,
    mutation: Option<Mutation>,
    progress: impl FnMut(usize, usize),
) -> Report {
    let (mut model, first) = Model::new(world, mutation);
    search_from(&mut model, first, progress)
}

/// Searches everything that can be reached from a state.
pub fn search_from(model: &mut Model, first: State, mut progress: impl FnMut(usize, usize)) -> Report {
    let begun = Instant::now();
    let mut graph = Graph::default();
    graph.reach(first, 0);
    let mut next: Vec<Next> = Vec::new();
    let (mut transitions, mut looked_at) = (0, 0);
    let mut verdict = Verdict::Holds;
    'states: while looked_at < graph.states.len() {
        if graph.states.len() > STATES_MAX {
            verdict = Verdict::CutOff;
            break;
        }
        if looked_at % 100_000 == 0 {
            progress(graph.states.len(), looked_at);
        }
        let at = looked_at as u32;
        let state = graph.states[looked_at];
        looked_at += 1;
        model.expand(&state, &mut next);
        for (step, then) in next.drain(..) {
            transitions += 1;
            let (then, broken) = match then {
                Err(broken) => (None, Some(broken)),
                Ok(then) => {
                    let (to, new) = graph.reach(then, at);
                    if step.is_ordinary() {
                        graph.edges.push((at, to));
                    }
                    (Some(then), if new { model.broken(&then) } else { None })
                }
            };
            if let Some((property, what)) = broken {
                let told = story::told(model, &graph.path(at), Some((step, then)), &what);
                verdict = Verdict::Broken(property, told);
                break 'states;
            }
        }
    }
    let mut ends = 0;
    if matches!(verdict, Verdict::Holds) {
        let stuck;
        (ends, stuck) = graph.stuck(model);
        if let Some(state) = stuck {
            let what = "from here no end can be reached without another fault or an operator";
            let told = story::told(model, &graph.path(state), None, what);
            verdict = Verdict::Broken(Property::AnEndIsReachable, told);
        }
    }
    let depth = graph.depths.last().copied().unwrap_or(0);
    Report { states: graph.states.len(), transitions, depth, ends, took: begun.elapsed(), verdict }
}

/// The states reached so far, in the order in which they were, and the ordinary steps between them.
#[derive(Default)]
struct Graph {
    states: Vec<State>,
    parents: Vec<u32>,
    depths: Vec<u32>,
    edges: Vec<(u32, u32)>,
    /// Places of states by their hash, one more than the place; 0 is free. A power of two, at most half full.
    table: Vec<u32>,
}

impl Graph {
    /// The place of a state, and whether it is new.
    fn reach(&mut self, state: State, parent: u32) -> (u32, bool) {
        if self.table.len() < 2 * (self.states.len() + 1) {
            self.grow();
        }
        let mask = self.table.len() - 1;
        let mut at = hash(&state) as usize & mask;
        loop {
            match self.table[at] {
                0 => break,
                place if self.states[place as usize - 1] == state => return (place - 1, false),
                _ => at = (at + 1) & mask,
            }
        }
        let place = self.states.len() as u32;
        self.table[at] = place + 1;
        let depth = if place == 0 { 0 } else { self.depths[parent as usize] + 1 };
        self.states.push(state);
        self.parents.push(parent);
        self.depths.push(depth);
        (place, true)
    }

    fn grow(&mut self) {
        let size = (self.table.len() * 2).max(1 << 12);
        self.table = vec![0; size];
        for (place, state) in self.states.iter().enumerate() {
            let mut at = hash(state) as usize & (size - 1);
            while self.table[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.table[at] = place as u32 + 1;
        }
    }

    /// The states from the beginning to this one.
    fn path(&self, mut at: u32) -> Vec<State> {
        let mut path = vec![self.states[at as usize]];
        while at != 0 {
            at = self.parents[at as usize];
            path.push(self.states[at as usize]);
        }
        path.reverse();
        path
    }

    /// How many states are ends, and the first state from which none can be reached by ordinary steps.
    fn stuck(&self, model: &Model) -> (usize, Option<u32>) {
        // The steps backwards: all that lead to a state stand together.
        let mut starts = vec![0u32; self.states.len() + 1];
        for (_, to) in &self.edges {
            starts[*to as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut filled = starts.clone();
        let mut from = vec![0u32; self.edges.len()];
        for (before, to) in &self.edges {
            from[filled[*to as usize] as usize] = *before;
            filled[*to as usize] += 1;
        }
        let mut saved: Vec<bool> = self.states.iter().map(|state| model.has_ended(state)).collect();
        let mut open: Vec<u32> = (0..saved.len() as u32).filter(|at| saved[*at as usize]).collect();
        let ends = open.len();
        while let Some(at) = open.pop() {
            let at = at as usize;
            for before in &from[starts[at] as usize..starts[at + 1] as usize] {
                if !saved[*before as usize] {
                    saved[*before as usize] = true;
                    open.push(*before);
                }
            }
        }
        (ends, saved.iter().position(|saved| !saved).map(|at| at as u32))
    }
}

fn hash(state: &State) -> u64 {
    let mut mix = Mix::default();
    state.hash(&mut mix);
    let mixed = mix.finish();
    mixed ^ (mixed >> 32)
}
