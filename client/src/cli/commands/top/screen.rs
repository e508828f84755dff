//! The terminal: taken at the start, and given back however the command ends.

use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::draw::{Theme, draw};
use super::page::{Key, Page};
use super::picture::Picture;
use crate::cli::error::CliError;

/// How often the thread that waits for keys looks whether anybody still waits for them.
const LOOK_UP: Duration = Duration::from_millis(250);

/// The terminal. Given back when this is dropped; if the program panics, before the panic is told.
pub struct Screen {
    terminal: DefaultTerminal,
    theme: Theme,
    keys: mpsc::Receiver<Key>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// It can't be had.
    pub fn open() -> Result<Self, CliError> {
        let colored = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        let terminal = ratatui::try_init().map_err(|e| {
            // Half of it may have been taken.
            ratatui::restore();
            CliError::Output(e)
        })?;
        let (press, keys) = mpsc::channel(16);
        std::thread::spawn(move || wait_for_keys(&press));
        Ok(Self { terminal, theme: Theme { colored }, keys })
    }

    /// Draws a picture.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, picture: &Picture, page: &mut Page) -> Result<(), CliError> {
        let theme = self.theme;
        self.terminal.draw(|frame| draw(frame, picture, page, theme)).map_err(CliError::Output)?;
        Ok(())
    }

    /// The next key; `None` if there can't be any more.
    pub async fn key(&mut self) -> Option<Key> {
        self.keys.recv().await
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn wait_for_keys(press: &mpsc::Sender<Key>) {
    while !press.is_closed() {
        let key = match event::poll(LOOK_UP) {
            Ok(false) => continue,
            Ok(true) => event::read().map(|event| meaning(&event)),
            Err(_) => return,
        };
        match key {
            Ok(Some(key)) if press.blocking_send(key).is_ok() => {}
            Ok(None) => {}
            _ => return,
        }
    }
}

fn meaning(event: &Event) -> Option<Key> {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else {
        return matches!(event, Event::Resize(..)).then_some(Key::Other);
    };
    let key = match code {
        _ if *kind == KeyEventKind::Release => return None,
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::Tab => Key::Next,
        KeyCode::BackTab => Key::Previous,
        KeyCode::Enter => Key::Open,
        KeyCode::Esc | KeyCode::Backspace => Key::Back,
        KeyCode::Char('?' | 'h') => Key::Help,
        _ => return None,
    };
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        let key = |code, modifiers| meaning(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Some(Key::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(key(KeyCode::Tab, KeyModifiers::NONE), Some(Key::Next));
        assert_eq!(key(KeyCode::Enter, KeyModifiers::NONE), Some(Key::Open));
        assert_eq!(meaning(&Event::Resize(80, 24)), Some(Key::Other));
    }
}
