//! Turning parity on and off while the file is in use: a few groups with each generation.

use super::{Parity, ParityMode, ParityState};
use crate::error::PageError;
use crate::file::PageFile;

impl PageFile {
    /// Whether parity is kept: what was asked for last, also while it is not done for all pages yet.
    #[must_use]
    pub fn parity(&self) -> Parity {
        match self.root().header().parity.mode {
            ParityMode::Xor => Parity::Xor,
            ParityMode::Off | ParityMode::Leaving => Parity::Off,
        }
    }

    /// Turns parity on or off, in as many commits of their own as it takes; the meta stays. Each counts some pages, or
    /// gives them up, and takes what the commits before it did for granted, so a crash loses nothing. If this is given up
    /// with an error, what is left is done by the commits to come.
    ///
    /// # Errors
    /// [`PageError::WriterBusy`] when another generation is being built: try again. Otherwise as a commit.
    pub fn set_parity(&self, parity: Parity) -> Result<(), PageError> {
        while !self.parity_step(parity)? {}
        Ok(())
    }

    /// One commit on the way; true when there is nothing left to do.
    fn parity_step(&self, parity: Parity) -> Result<bool, PageError> {
        let mut writer = self.begin()?;
        let meta = self.root().meta().to_vec();
        let draft = writer.draft()?;
        let state = draft.parity_state;
        draft.parity_state = match (parity, state.mode) {
            (Parity::Off, ParityMode::Off) => return Ok(true),
            (Parity::Xor, ParityMode::Xor) if draft.is_switched() => return Ok(true),
            (Parity::Off, ParityMode::Xor) => ParityState { mode: ParityMode::Leaving, cursor: 0 },
            (Parity::Xor, ParityMode::Off) => ParityState { mode: ParityMode::Xor, cursor: 0 },
            // What is being taken away is taken away first.
            (_, ParityMode::Leaving) | (Parity::Xor, ParityMode::Xor) => state,
        };
        writer.commit(&meta)?;
        Ok(false)
    }
}
