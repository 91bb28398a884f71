//! The one table of a run: a row for each contender, a column for each figure, medians with their spread.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::{machine::Machine, spread::Spread};

/// A column; its name has the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Figure(pub(crate) &'static str);

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    title: String,
    machine: Machine,
    rows: Vec<Row>,
    /// How things were set, what a figure counts, which target holds.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Cell {
    figure: Figure,
    #[serde(flatten)]
    spread: Option<Spread>,
    rounds: Vec<f64>,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Json,
}

impl Report {
    pub(crate) fn new(title: &str, machine: Machine) -> Self {
        Self { title: title.to_owned(), machine, rows: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// One round's figures of one contender.
    pub(crate) fn add(&mut self, name: &str, round: impl IntoIterator<Item = (Figure, f64)>) {
        for (figure, value) in round {
            let cell = self.cell(name, figure);
            cell.rounds.push(value);
            cell.spread = Spread::of(cell.rounds.clone());
        }
    }

    pub(crate) fn median(&self, name: &str, figure: Figure) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        Some(row.cells.iter().find(|cell| cell.figure == figure)?.spread?.median)
    }

    fn cell(&mut self, name: &str, figure: Figure) -> &mut Cell {
        let row = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), cells: Vec::new() });
            self.rows.len() - 1
        });
        let cells = &mut self.rows[row].cells;
        let at = cells.iter().position(|cell| cell.figure == figure).unwrap_or_else(|| {
            cells.push(Cell { figure, spread: None, rounds: Vec::new() });
            cells.len() - 1
        });
        &mut cells[at]
    }

    pub(crate) fn print(&self, form: Form) -> anyhow::Result<()> {
        let text = match form {
            Form::Table => self.to_text(),
            Form::Json => serde_json::to_string_pretty(self)?,
        };
        Ok(writeln!(std::io::stdout().lock(), "{text}")?)
    }

    fn to_text(&self) -> String {
        let mut figures: Vec<Figure> = Vec::new();
        for cell in self.rows.iter().flat_map(|row| &row.cells) {
            if !figures.contains(&cell.figure) {
                figures.push(cell.figure);
            }
        }
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(["contender"].into_iter().chain(figures.iter().map(|figure| figure.0)));
        for row in &self.rows {
            let values = figures.iter().map(|figure| row.cells.iter().find(|c| c.figure == *figure));
            let values = values.map(|cell| cell.map_or_else(String::new, Cell::to_text));
            table.add_row([row.name.clone()].into_iter().chain(values));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let notes: Vec<String> = self.notes.iter().map(|note| format!("- {note}")).collect();
        format!("{}\n{}\n\n{table}\n\n{}", self.title, self.machine.line(), notes.join("\n"))
    }
}

impl Cell {
    fn to_text(&self) -> String {
        match self.spread {
            None => String::new(),
            Some(one) if self.rounds.len() == 1 => number(one.median),
            Some(Spread { median, min, max }) => {
                format!("{} ({}-{})", number(median), number(min), number(max))
            }
        }
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
