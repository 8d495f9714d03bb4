//! Tables for step 5: envelopes read back as JSON, and the archive's rows and schemas.

mod envelope;
mod rows;

use crate::digital::{Envelope, Rows};
use crate::fixture::{Update, apply};
use crate::handler::{DigitalEvents, Entangled, Happened, Lived, Of, Physical, State};
use crate::twin::{Twin, TwinType};

/// Encodes digital events as envelopes and rows.
struct Both {
    envelope: Envelope,
    rows: Rows,
    envelopes: Vec<Vec<u8>>,
}

impl Both {
    fn new(definition: &TwinType, rows: Rows) -> Self {
        let envelope = Envelope::new("line \"1\"", 3, std::iter::once(definition));
        Self { envelope, rows, envelopes: Vec::new() }
    }

    fn tell(&mut self, encode: impl FnOnce(&mut Envelope, &mut Vec<u8>)) {
        let mut json = Vec::new();
        encode(&mut self.envelope, &mut json);
        self.envelopes.push(json);
    }
}

impl DigitalEvents for Both {
    fn physical(&mut self, of: Of<'_>, physical: &Physical<'_>) {
        self.rows.physical(of, physical);
    }

    fn state(&mut self, of: Of<'_>, state: &State<'_>) {
        self.rows.state(of, state);
        self.tell(|envelope, out| envelope.state(of, state, out));
    }

    fn entangled(&mut self, of: Of<'_>, entangled: &Entangled) {
        self.rows.entangled(of, entangled);
        self.tell(|envelope, out| envelope.entangled(of, entangled, out));
    }

    fn lived(&mut self, of: Of<'_>, lived: &Lived) {
        self.rows.lived(of, lived);
        self.tell(|envelope, out| envelope.lived(of, lived, out));
    }

    fn happened(&mut self, of: Of<'_>, happened: &Happened<'_>) {
        self.rows.happened(of, happened);
        self.tell(|envelope, out| envelope.happened(of, happened, out));
    }
}

/// Leads updates of one twin to step 5.
fn run(id: &str, definition: &TwinType, updates: &[Update], both: &mut Both) -> Twin {
    let mut twin = Twin::new(0, definition);
    for update in updates {
        apply(id, &mut twin, definition, update, false, both);
    }
    twin
}
