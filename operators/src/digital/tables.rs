//! The tables of the archive (rule 10): the columns that are the same for all types.

use super::columns::Column;
use super::rows::Table;

/// A column: its name, and what makes it.
pub(super) type Fixed = (&'static str, fn() -> Column);

const TEXT: fn() -> Column = Column::text;
const TIME: fn() -> Column = Column::time;
const INTEGER: fn() -> Column = || Column::Integer(Default::default());
const NUMBER: fn() -> Column = || Column::Number(Default::default());
const DOUBLE: fn() -> Column = || Column::Double(Default::default());
const BOOLEAN: fn() -> Column = || Column::Boolean(Default::default());

/// The fixed columns of rule 10, in its order.
pub(super) fn fixed_columns(table: Table) -> &'static [Fixed] {
    match table {
        Table::Physical => &[
            ("twin", TEXT),
            ("type", TEXT),
            ("update", INTEGER),
            ("kind", TEXT),
            ("stream", TEXT),
            ("position", INTEGER),
            ("physical_at", TIME),
            ("arrived_at", TIME),
            ("digital_at", TIME),
            ("time_source", TEXT),
            ("observed", BOOLEAN),
            ("stale", BOOLEAN),
            ("up", BOOLEAN),
            ("events", TEXT),
        ],
        Table::State => &[
            ("twin", TEXT),
            ("type", TEXT),
            ("update", INTEGER),
            ("revision", INTEGER),
            ("physical_at", TIME),
            ("arrived_at", TIME),
            ("digital_at", TIME),
            ("lifecycle", TEXT),
            ("changed", Column::texts),
            ("definition", INTEGER),
        ],
        Table::Entanglement => &[
            ("twin", TEXT),
            ("type", TEXT),
            ("at", TIME),
            ("change", INTEGER),
            ("timeliness", DOUBLE),
            ("reliability", DOUBLE),
            ("availability", DOUBLE),
            ("odte", DOUBLE),
            ("received", DOUBLE),
            ("on_time", DOUBLE),
            ("expected", DOUBLE),
            ("transport_ms", DOUBLE),
            ("compute_ms", DOUBLE),
            ("clock_offset_ms", DOUBLE),
            ("desired_timeliness_ms", DOUBLE),
            ("window_ms", DOUBLE),
            ("profile", TEXT),
            ("definition", INTEGER),
        ],
        Table::Lifecycle => &[
            ("twin", TEXT),
            ("type", TEXT),
            ("at", TIME),
            ("change", INTEGER),
            ("from", TEXT),
            ("to", TEXT),
            ("reason", TEXT),
            ("incident", INTEGER),
        ],
        Table::Events => &[
            ("twin", TEXT),
            ("type", TEXT),
            ("at", TIME),
            ("update", INTEGER),
            ("revision", INTEGER),
            ("name", TEXT),
            ("index", NUMBER),
            ("value", TEXT),
        ],
        Table::DeadLetters => &[
            ("at", TIME),
            ("source", TEXT),
            ("position", INTEGER),
            ("topic", TEXT),
            ("reason", TEXT),
            ("payload", TEXT),
        ],
    }
}
