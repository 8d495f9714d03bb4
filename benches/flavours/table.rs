//! Tables for people: as text, or as Markdown for the README; and what several runs say together.

use std::time::Duration;

/// A table with a head.
pub struct Table {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// One without rows.
    pub fn new(title: impl Into<String>, head: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { title: title.into(), head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Prints it, as Markdown where the command line says `--markdown`.
    pub fn print(&self) {
        let is_markdown = std::env::args().any(|one| one == "--markdown");
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            let cells = all().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        println!("\n{}\n", self.title);
        for (number, row) in all().enumerate() {
            let cells = row.iter().enumerate().map(|(column, cell)| match is_markdown {
                true => cell.clone(),
                false => format!("{cell:<width$}", width = width(column)),
            });
            let cells: Vec<String> = cells.collect();
            match is_markdown {
                true => println!("| {} |", cells.join(" | ")),
                false => println!("{}", cells.join("  ").trim_end()),
            }
            if is_markdown && number == 0 {
                println!("|{}", " --- |".repeat(row.len()));
            }
        }
    }
}

/// The values of several runs.
#[derive(Clone, Default)]
pub struct Many(Vec<f64>);

impl Many {
    /// Adds one.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// None was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one in the middle; of two, the lower.
    pub fn median(&self) -> f64 {
        quantile(&mut self.0.clone(), 0.5)
    }

    /// The median, and the range where they differ.
    pub fn show(&self, digits: usize) -> String {
        if self.is_empty() {
            return "–".into();
        }
        let mut all = self.0.clone();
        let [least, median, most] =
            [0.0, 0.5, 1.0].map(|share| format!("{:.digits$}", quantile(&mut all, share)));
        match least == most {
            true => median,
            false => format!("{median} ({least} to {most})"),
        }
    }
}

/// What this share of them is at most.
pub fn quantile(all: &mut [f64], share: f64) -> f64 {
    all.sort_by(f64::total_cmp);
    let place = (all.len().saturating_sub(1)) as f64 * share;
    all.get(place as usize).copied().unwrap_or(f64::NAN)
}

/// Milliseconds, for people.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
