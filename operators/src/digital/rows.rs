//! The archive's rows (rule 10), in Arrow batches.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::Schema;

use super::columns::Column;
use super::envelope::number_text;
use super::tables::fixed_columns;
use crate::decode::DeadLetter;
use crate::entanglement::{DEFAULT, Measure};
use crate::handler::{Entangled, Happened, HappenedValue, Lived, Of, Physical, State};
use crate::model::Kind;
use crate::problem::Problem;
use crate::time::day_of;
use crate::twin::TwinType;

/// Rows of a batch after which it is handed on.
pub const ROWS_MAX: usize = 8_192;

/// The tables of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Physical events as they were taken.
    Physical,
    /// States.
    State,
    /// ODTE and its parts.
    Entanglement,
    /// Steps in the lives of twins.
    Lifecycle,
    /// Events.
    Events,
    /// What could not be taken.
    DeadLetters,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 6] = [
        Table::Physical,
        Table::State,
        Table::Entanglement,
        Table::Lifecycle,
        Table::Events,
        Table::DeadLetters,
    ];

    /// The name of its folder.
    pub fn word(self) -> &'static str {
        match self {
            Table::Physical => "physical",
            Table::State => "state",
            Table::Entanglement => "entanglement",
            Table::Lifecycle => "lifecycle",
            Table::Events => "events",
            Table::DeadLetters => "dead_letters",
        }
    }
}

/// What of the archive may be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsSettings {
    /// Whether the table `physical` is kept; without it there is no replay.
    pub physical: bool,
}

/// A full batch of one table and one day.
#[derive(Clone, Debug)]
pub struct TableRows {
    /// Which table.
    pub table: Table,
    /// Days since 1970 of its rows.
    pub day: i32,
    /// The rows.
    pub rows: RecordBatch,
}

/// Collects rows of all tables.
#[derive(Debug)]
pub struct Rows {
    settings: RowsSettings,
    tables: Vec<TableBuilder>,
    /// For each type and property, its column behind the fixed ones of `physical` and `state`.
    columns: Vec<Vec<usize>>,
    /// Names of the sources, by number.
    sources: Vec<String>,
    /// Version of the job's definition that is in force.
    definition: u64,
    full: Vec<TableRows>,
    json: String,
}

#[derive(Debug)]
struct TableBuilder {
    table: Table,
    schema: Arc<Schema>,
    columns: Vec<Column>,
    rows: usize,
    day: i32,
}

/// The column of a property: its name, unless a fixed column has it (rule 8.3).
fn column_name(property: &str) -> String {
    let is_fixed = |table| {
        let mut columns = fixed_columns(table).iter();
        columns.any(|(name, _)| name.eq_ignore_ascii_case(property))
    };
    // `job` and `date` are folders of the archive, which readers show as columns.
    let is_folder = ["job", "date"].iter().any(|name| name.eq_ignore_ascii_case(property));
    if is_folder || is_fixed(Table::Physical) || is_fixed(Table::State) {
        format!("property_{property}")
    } else {
        property.to_owned()
    }
}

/// The columns of all types' properties: name and kind, and for each type and property which.
type PropertyColumns = (Vec<(String, Kind)>, Vec<Vec<usize>>);

/// Finds the columns, or the type and property that clashes with another's.
pub(crate) fn property_columns<'a>(
    types: impl Iterator<Item = &'a TwinType>,
) -> Result<PropertyColumns, Problem> {
    let mut columns: Vec<(String, Kind)> = Vec::new();
    let mut by_type = Vec::new();
    for definition in types {
        let mut indexes: Vec<usize> = Vec::new();
        for property in &definition.model.properties {
            let name = column_name(&property.name);
            let known = columns.iter().position(|(known, _)| known.eq_ignore_ascii_case(&name));
            let clash = || {
                Problem::new(
                    format!("the archive's column `{name}` is wanted twice, with different meanings"),
                    "give the property another name",
                )
                .under(&property.name)
                .under("properties")
                .under(&definition.name)
            };
            let index = match known {
                Some(index) if indexes.contains(&index) => return Err(clash()),
                Some(index)
                    if Column::of(&columns[index].1).field("") != Column::of(&property.kind).field("") =>
                {
                    return Err(clash());
                }
                Some(index) => index,
                None => {
                    columns.push((name, property.kind.clone()));
                    columns.len() - 1
                }
            };
            indexes.push(index);
        }
        by_type.push(indexes);
    }
    Ok((columns, by_type))
}

impl Rows {
    /// No rows yet. The types must have passed [`Rows::check`]; `sources` are their names.
    pub fn new<'a>(
        settings: RowsSettings,
        types: impl Iterator<Item = &'a TwinType>,
        sources: Vec<String>,
    ) -> Result<Self, Problem> {
        let (properties, columns) = property_columns(types)?;
        let tables = Table::ALL.iter().map(|table| {
            let fixed = fixed_columns(*table).iter().map(|(name, make)| ((*name).to_owned(), make()));
            let typed = properties
                .iter()
                .filter(|_| matches!(table, Table::Physical | Table::State))
                .map(|(name, kind)| (name.clone(), Column::of(kind)));
            let (names, columns): (Vec<String>, Vec<Column>) = fixed.chain(typed).unzip();
            let fields: Vec<_> =
                names.iter().zip(&columns).map(|(name, column)| column.field(name)).collect();
            let schema = Arc::new(Schema::new(fields));
            TableBuilder { table: *table, schema, columns, rows: 0, day: 0 }
        });
        Ok(Self {
            settings,
            tables: tables.collect(),
            columns,
            sources,
            definition: 1,
            full: Vec::new(),
            json: String::new(),
        })
    }

    /// Whether the types' properties fit into one archive.
    pub fn check<'a>(types: impl Iterator<Item = &'a TwinType>) -> Result<(), Problem> {
        property_columns(types).map(|_| ())
    }

    /// The version of the job's definition that is in force from now on; it is 1 at first.
    pub fn set_definition(&mut self, version: u64) {
        self.definition = version;
    }

    /// Batches that are full, to be taken.
    pub fn full(&mut self) -> &mut Vec<TableRows> {
        &mut self.full
    }

    /// Rows that wait in batches that are not full.
    pub fn waiting(&self) -> usize {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Ends all batches, full or not.
    pub fn flush(&mut self) {
        for table in &mut self.tables {
            table.flush(&mut self.full);
        }
    }

    /// A row of `physical`.
    pub fn physical(&mut self, of: Of<'_>, physical: &Physical<'_>) {
        if !self.settings.physical {
            return;
        }
        let event = &physical.event;
        let head = event.head;
        let shadowed = physical.shadowed;
        let table = &mut self.tables[Table::Physical as usize];
        let row = table.begin(physical.digital_at.0, &mut self.full);
        let c = &mut table.columns;
        c[0].put_text(row, of.id);
        c[1].put_text(row, &of.definition.name);
        c[2].put_integer(row, shadowed.update as i64);
        let presence = event.presence();
        c[3].put_text(row, if presence.is_some() { "presence" } else { "update" });
        c[4].put_text(row, of.definition.stream(head.stream).map_or("", |stream| stream.name.as_str()));
        c[5].put_integer(row, head.position as i64);
        c[6].put_time(row, head.physical_at.0);
        c[7].put_time(row, head.arrived_at.0);
        c[8].put_time(row, physical.digital_at.0);
        c[9].put_text(row, shadowed.time_source.word());
        c[10].put_boolean(row, shadowed.observed);
        c[11].put_boolean(row, shadowed.stale);
        if let Some(is_up) = presence {
            c[12].put_boolean(row, is_up);
        }
        if event.events().next().is_some() {
            write_events(&of.definition.model.events, event, &mut self.json);
            c[13].put_text(row, &self.json);
        }
        let fixed = fixed_columns(Table::Physical).len();
        let columns = &self.columns[usize::from(of.twin.twin_type)];
        for (property, value) in event.properties() {
            let kind = &of.definition.model.properties[usize::from(property)].kind;
            c[fixed + columns[usize::from(property)]].put_value(row, kind, value);
        }
    }

    /// A row of `state`.
    pub fn state(&mut self, of: Of<'_>, state: &State<'_>) {
        let physical = state.physical;
        let model = &of.definition.model;
        let table = &mut self.tables[Table::State as usize];
        let row = table.begin(physical.digital_at.0, &mut self.full);
        let c = &mut table.columns;
        c[0].put_text(row, of.id);
        c[1].put_text(row, &of.definition.name);
        c[2].put_integer(row, physical.shadowed.update as i64);
        c[3].put_integer(row, of.twin.handled.revision as i64);
        c[4].put_time(row, physical.event.head.physical_at.0);
        c[5].put_time(row, physical.event.head.arrived_at.0);
        c[6].put_time(row, physical.digital_at.0);
        c[7].put_text(row, of.twin.life_cycle.phase().word());
        let names = state.changed.iter().map(|one| model.properties[usize::from(*one)].name.as_str());
        c[8].put_texts(row, names);
        c[9].put_integer(row, self.definition as i64);
        let fixed = fixed_columns(Table::State).len();
        let columns = &self.columns[usize::from(of.twin.twin_type)];
        for (index, property) in model.properties.iter().enumerate() {
            if let Some(value) = of.twin.shadow.value(model, index as u16) {
                c[fixed + columns[index]].put_value(row, &property.kind, value);
            }
        }
    }

    /// A row of `entanglement`, and one for each profile.
    pub fn entangled(&mut self, of: Of<'_>, entangled: &Entangled) {
        let Entangled { at_us, measure, .. } = entangled;
        let terms = of.definition.terms_of(of.twin);
        self.entangled_by(of, entangled, (DEFAULT, terms.desired_timeliness_us), measure);
        for (profile, measure) in of.twin.entanglement.measure_profiles(*at_us, terms, measure) {
            self.entangled_by(of, entangled, (&profile.name, profile.desired_timeliness_us), &measure);
        }
    }

    fn entangled_by(
        &mut self,
        of: Of<'_>,
        entangled: &Entangled,
        (profile, desired_timeliness_us): (&str, i64),
        measure: &Measure,
    ) {
        let table = &mut self.tables[Table::Entanglement as usize];
        let row = table.begin(entangled.at_us, &mut self.full);
        let terms = of.definition.terms_of(of.twin);
        let lateness = |part: fn(crate::entanglement::Lateness) -> f64| {
            entangled.lateness.map_or(f64::NAN, |one| part(one) / 1e3)
        };
        let c = &mut table.columns;
        c[0].put_text(row, of.id);
        c[1].put_text(row, &of.definition.name);
        c[2].put_time(row, entangled.at_us);
        c[3].put_integer(row, i64::from(entangled.change));
        let numbers = [
            measure.timeliness,
            measure.reliability,
            measure.availability,
            measure.odte,
            measure.received,
            measure.on_time,
            measure.expected,
            lateness(|one| one.transport_us),
            lateness(|one| one.compute_us),
            lateness(|one| one.transport_min_us),
            desired_timeliness_us as f64 / 1e3,
            terms.window_us as f64 / 1e3,
        ];
        for (column, number) in c[4..16].iter_mut().zip(numbers) {
            column.put_double(row, number);
        }
        c[16].put_text(row, profile);
        c[17].put_integer(row, self.definition as i64);
    }

    /// A row of `lifecycle`.
    pub fn lived(&mut self, of: Of<'_>, lived: &Lived) {
        let transition = &lived.transition;
        let table = &mut self.tables[Table::Lifecycle as usize];
        let row = table.begin(transition.at_us, &mut self.full);
        let c = &mut table.columns;
        c[0].put_text(row, of.id);
        c[1].put_text(row, &of.definition.name);
        c[2].put_time(row, transition.at_us);
        c[3].put_integer(row, i64::from(lived.change));
        c[4].put_text(row, transition.from.word());
        c[5].put_text(row, transition.to.word());
        c[6].put_text(row, transition.reason.word());
        if let Some(incident) = transition.incident {
            c[7].put_integer(row, incident as i64);
        }
    }

    /// A row of `events`.
    pub fn happened(&mut self, of: Of<'_>, happened: &Happened<'_>) {
        let table = &mut self.tables[Table::Events as usize];
        let row = table.begin(happened.digital_at.0, &mut self.full);
        let c = &mut table.columns;
        c[0].put_text(row, of.id);
        c[1].put_text(row, &of.definition.name);
        c[2].put_time(row, happened.digital_at.0);
        c[3].put_integer(row, of.twin.shadow.update() as i64);
        c[4].put_integer(row, of.twin.handled.revision as i64);
        c[5].put_text(row, &of.definition.model.events[usize::from(happened.event)]);
        c[6].put_integer(row, i64::from(happened.index));
        match happened.value {
            HappenedValue::Json(json) => c[7].put_text(row, json),
            HappenedValue::Number(number) => {
                c[7].put_text(row, &number_text(number));
            }
        }
    }

    /// A row of `dead_letters`.
    pub fn dead_letter(&mut self, letter: &DeadLetter) {
        let table = &mut self.tables[Table::DeadLetters as usize];
        let row = table.begin(letter.at.0, &mut self.full);
        let source = self.sources.get(usize::from(letter.source));
        let c = &mut table.columns;
        c[0].put_time(row, letter.at.0);
        c[1].put_text(row, source.map_or("", String::as_str));
        c[2].put_integer(row, letter.position as i64);
        c[3].put_text(row, &letter.topic);
        c[4].put_text(row, &letter.reason);
        c[5].put_text(row, &letter.payload);
    }
}

impl TableBuilder {
    /// The number of a new row; a batch that is full, or of another day, is ended first.
    fn begin(&mut self, at_us: i64, full: &mut Vec<TableRows>) -> usize {
        let day = day_of(at_us);
        if self.rows == ROWS_MAX || day != self.day {
            self.flush(full);
            self.day = day;
        }
        self.rows += 1;
        self.rows - 1
    }

    fn flush(&mut self, full: &mut Vec<TableRows>) {
        if self.rows == 0 {
            return;
        }
        let rows = std::mem::take(&mut self.rows);
        let arrays = self.columns.iter_mut().map(|column| column.finish(rows)).collect();
        let rows = RecordBatch::try_new(self.schema.clone(), arrays)
            .expect("each column was padded to the number of rows and has the type of its field");
        full.push(TableRows { table: self.table, day: self.day, rows });
    }
}

/// The events of a physical event as one JSON object, by name.
fn write_events(names: &[String], event: &crate::batch::Event<'_>, json: &mut String) {
    json.clear();
    for (index, value) in event.events() {
        json.push(if json.is_empty() { '{' } else { ',' });
        json.push_str(&serde_json::Value::from(names[usize::from(index)].as_str()).to_string());
        json.push(':');
        json.push_str(value);
    }
    json.push('}');
}
