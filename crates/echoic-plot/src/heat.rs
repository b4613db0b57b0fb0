//! The heat map of latencies over time: dark where there are many. It shows several populations of latencies, which a
//! line of percentiles hides.

use std::sync::Arc;

use kuva::plot::{ColorMap, Heatmap};

use crate::{
    header::{LegendEntry, Shape},
    palette::HEAT,
    paper::{Axis, Scale, has_position, layout, log_range},
    svg::{Caption, Svg},
    units,
};

/// Rows for each power of ten of latency: each row is about a quarter above the one below.
const ROWS_PER_TENFOLD: f64 = 10.0;

/// Maximum number of columns, which is what the width can show; beyond it neighbours are merged.
const COLUMNS_MAX: usize = 120;

/// The histogram of one slice of time: latencies in microseconds with their counts, in any order.
pub type Slice = Vec<(f64, u64)>;

/// Draws the heat map of slices of `slice_s` seconds each. `None` if there is no latency to draw.
pub fn heat(slice_s: f64, slices: &[Slice]) -> Option<Svg> {
    let is_drawable = |cell: &&(f64, u64)| has_position(cell.0, Scale::Log) && cell.1 > 0;
    let cells = || slices.iter().flatten().filter(is_drawable);
    cells().next()?;
    let merged = slices.len().div_ceil(COLUMNS_MAX);
    let grid = Grid::new(log_range(cells().map(|cell| cell.0)));
    let columns = slices.chunks(merged).map(|slices| {
        let cells = slices.iter().flatten().filter(is_drawable);
        grid.column(cells)
    });
    let columns: Vec<_> = columns.collect();
    let most = columns.iter().flatten().copied().max().unwrap_or(1);
    let column_s = slice_s * merged as f64;
    let end = column_s * columns.len() as f64;

    let x = Axis {
        name: "seconds",
        scale: Scale::Linear,
        range: (0.0, end),
        tick: units::count,
    };
    let y = Axis {
        name: "latency",
        scale: Scale::Linear,
        range: (grid.low, grid.high()),
        tick: |power| units::time(10_f64.powf(power)),
    };
    // The library scales its colours from the minimum to the maximum. An empty row above the visible ones makes the
    // minimum 0.
    let levels: Vec<Vec<f64>> = (0..=grid.rows)
        .map(|row| {
            let counts = columns.iter().map(|column| column.get(row).copied());
            counts
                .map(|count| level(count.unwrap_or(0), most))
                .collect()
        })
        .collect();
    let map = Heatmap::new()
        .with_data(levels)
        .with_color_map(ColorMap::Custom(Arc::new(colour)))
        .with_cell_size(1.0)
        .with_x_range(0.0, end)
        .with_y_range(grid.low, grid.high() + 1.0 / ROWS_PER_TENFOLD);
    let caption = Caption {
        name: "heat",
        title: "Latencies, moment by moment".to_owned(),
        description: describe(slices, column_s),
    };
    let layout = layout(&x, &y).with_y_tick_step(1.0);
    Some(Svg::draw(caption, &legend(most), vec![map.into()], layout))
}

/// The rows of the map, in decimal logarithms of microseconds.
struct Grid {
    low: f64,
    rows: usize,
}

impl Grid {
    fn new((low, high): (f64, f64)) -> Self {
        let (low, high) = (low.log10(), high.log10());
        Self {
            low,
            rows: ((high - low) * ROWS_PER_TENFOLD).ceil().max(1.0) as usize,
        }
    }

    fn high(&self) -> f64 {
        self.low + self.rows as f64 / ROWS_PER_TENFOLD
    }

    fn column<'a>(&self, cells: impl Iterator<Item = &'a (f64, u64)>) -> Vec<u64> {
        let mut column = vec![0_u64; self.rows];
        for (micros, count) in cells {
            let row = ((micros.log10() - self.low) * ROWS_PER_TENFOLD).max(0.0) as usize;
            let cell = &mut column[row.min(self.rows - 1)];
            *cell = cell.saturating_add(*count);
        }
        column
    }
}

/// Returns the colour level of a count: 0 for none, the number of colours for `most`, logarithmic between, so that one
/// latency in a million is visible.
fn level(count: u64, most: u64) -> f64 {
    if count == 0 {
        return 0.0;
    }
    let colours = HEAT.len() as f64;
    let share = (count as f64).ln_1p() / (most as f64).ln_1p();
    (share * colours).ceil().clamp(1.0, colours)
}

fn colour(share: f64) -> String {
    let level = (share * HEAT.len() as f64).round() as usize;
    match level.checked_sub(1) {
        Some(at) => HEAT[at.min(HEAT.len() - 1)].light.to_owned(),
        None => "none".to_owned(),
    }
}

fn legend(most: u64) -> Vec<LegendEntry> {
    let entry = |name: String, at: usize| LegendEntry {
        name,
        colour: HEAT[at].light,
        shape: Shape::Area,
    };
    if most == 1 {
        return vec![entry("1".to_owned(), HEAT.len() - 1)];
    }
    let middle = (most as f64).ln_1p() / 2.0;
    vec![
        entry("1".to_owned(), 0),
        entry(units::count(middle.exp_m1().round()), HEAT.len() / 2 - 1),
        entry(units::count(most as f64), HEAT.len() - 1),
    ]
}

fn describe(slices: &[Slice], column_s: f64) -> String {
    let cells = slices.iter().flatten();
    let all = cells.fold(0_u64, |all, cell| all.saturating_add(cell.1));
    let latencies = || slices.iter().flatten().map(|cell| cell.0);
    let latencies = || latencies().filter(|micros| has_position(*micros, Scale::Log));
    let low = latencies().fold(f64::INFINITY, f64::min);
    let high = latencies().fold(0.0, f64::max);
    format!(
        "{} latencies from {} to {}; each column is {} s, each row a quarter more than the one below.",
        units::whole(all),
        units::time(low),
        units::time(high),
        units::count(column_s),
    )
}
