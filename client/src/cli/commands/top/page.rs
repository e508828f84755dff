//! What of a picture is on the screen, and what keys change of it. Pure.

use super::picture::{Picture, SagaPicture};

/// How far one press of a key moves a text, in lines.
const STEP: u16 = 1;

/// What a key means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// The saga, or the line, above.
    Up,
    /// The one below.
    Down,
    /// The next saga; the first after the last.
    Next,
    /// The one before; the last before the first.
    Previous,
    /// The chosen saga's timeline.
    Open,
    /// Back to all sagas.
    Back,
    /// What the keys do.
    Help,
    /// The end.
    Quit,
    /// Nothing; the screen may have changed its size.
    Other,
}

/// Which part of the picture is on the screen.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Part {
    /// Services and sagas.
    #[default]
    Sagas,
    /// The chosen saga's timeline.
    Timeline,
    /// What the keys do.
    Help,
}

/// What is on the screen.
#[derive(Default, Debug)]
pub struct Page {
    /// Which part of the picture.
    pub part: Part,
    /// How many lines of a text are above the screen.
    pub scrolled: u16,
    /// The chosen saga: by its id, so that it stays chosen wherever it moves.
    chosen: Option<String>,
}

impl Page {
    /// A key was pressed. Says whether it ends the program.
    pub fn press(&mut self, key: Key, picture: &Picture) -> bool {
        match (key, self.part) {
            (Key::Quit, _) => return true,
            (Key::Other, _) => {}
            (Key::Help, _) => self.turn_to(Part::Help),
            (Key::Open, Part::Sagas) if self.chosen(picture).is_some() => {
                // From here on it is this one, even if others come before it.
                self.choose(picture, |at, _| at);
                self.turn_to(Part::Timeline);
            }
            (Key::Open, Part::Sagas) => {}
            (Key::Open | Key::Back, _) => self.turn_to(Part::Sagas),
            (Key::Up, Part::Sagas) => self.choose(picture, |at, _| at.saturating_sub(1)),
            (Key::Down, Part::Sagas) => self.choose(picture, |at, many| (at + 1).min(many - 1)),
            (Key::Next, Part::Sagas) => self.choose(picture, |at, many| (at + 1) % many),
            (Key::Previous, Part::Sagas) => self.choose(picture, |at, many| (at + many - 1) % many),
            (Key::Up | Key::Previous, _) => self.scrolled = self.scrolled.saturating_sub(STEP),
            (Key::Down | Key::Next, _) => self.scrolled = self.scrolled.saturating_add(STEP),
        }
        false
    }

    fn turn_to(&mut self, part: Part) {
        (self.part, self.scrolled) = (part, 0);
    }

    /// Where the chosen saga stands among all that are shown: the first if none was chosen, or if it is shown no longer.
    pub fn chosen_at(&self, picture: &Picture) -> Option<usize> {
        let is_chosen = |saga: &SagaPicture| self.chosen.as_ref() == Some(&saga.summary.saga_id);
        picture.sagas().position(is_chosen).or_else(|| picture.sagas().next().map(|_| 0))
    }

    /// The chosen saga. On its timeline it is the one that was opened, or nothing if that is shown no longer.
    pub fn chosen<'a>(&self, picture: &'a Picture) -> Option<&'a SagaPicture> {
        let saga = picture.sagas().nth(self.chosen_at(picture)?)?;
        (self.part != Part::Timeline || self.chosen.as_ref() == Some(&saga.summary.saga_id)).then_some(saga)
    }

    /// The id of the saga that was chosen, if one ever was.
    pub fn chosen_id(&self) -> Option<&str> {
        self.chosen.as_deref()
    }

    /// `to` is given where the chosen saga stands and how many there are, which is not 0.
    fn choose(&mut self, picture: &Picture, to: impl Fn(usize, usize) -> usize) {
        let Some(at) = self.chosen_at(picture) else { return };
        let at = to(at, picture.sagas().count());
        self.chosen = picture.sagas().nth(at).map(|saga| saga.summary.saga_id.clone());
    }
}
