//! The bar chart of the outcomes of datagrams, except the answered ones.

use kuva::plot::BarPlot;

use crate::{
    palette::Tone,
    paper::{Axis, Scale, layout, linear_range},
    svg::{Caption, Svg},
    units,
};

/// Datagrams with the same outcome.
#[derive(Clone, Debug)]
pub struct OutcomeCount {
    /// The outcome in one word: `lost`, `late`.
    pub name: &'static str,
    /// The number of datagrams.
    pub count: u64,
    /// The tone of the bar: good or bad.
    pub tone: Tone,
}

/// Left margin, wide enough for `duplicate 1,234,567 (0.123 %)`.
const LEFT: f64 = 250.0;
const ROW_HEIGHT: f64 = 26.0;

/// Draws the outcomes of `sent` datagrams as bars. The answered ones are in the title: a bar for them would leave no
/// space for the others. `None` if nothing was sent or `outcomes` is empty.
pub fn outcomes(sent: u64, answered: u64, outcomes: &[OutcomeCount]) -> Option<Svg> {
    if sent == 0 || outcomes.is_empty() {
        return None;
    }
    let share = |count: u64| units::percent(count as f64 / sent as f64);
    let labels = outcomes.iter().map(|outcome| {
        let count = units::whole(outcome.count);
        format!("{}  {count}  ({})", outcome.name, share(outcome.count))
    });
    // The library counts rows from the bottom.
    let labels: Vec<String> = labels.rev().collect();
    let bars = outcomes.iter().rev().zip(&labels).map(|(outcome, label)| {
        let colour = if outcome.count == 0 {
            Tone::Quiet
        } else {
            outcome.tone
        };
        (label.clone(), outcome.count as f64, colour.colour().light)
    });
    let bars = BarPlot::new()
        .with_colored_bars(bars)
        .with_horizontal(true)
        .with_width(0.6);
    let x = Axis {
        name: "datagrams",
        scale: Scale::Linear,
        range: linear_range(outcomes.iter().map(|outcome| outcome.count as f64)),
        tick: units::count,
    };
    let rows = outcomes.len() as f64;
    let y = Axis {
        name: "",
        scale: Scale::Linear,
        range: (0.5, rows + 0.5),
        tick: units::count,
    };
    let mut layout = layout(&x, &y)
        .with_y_categories(labels)
        .with_force_margins(LEFT, 28.0)
        .with_height(100.0 + rows * ROW_HEIGHT);
    layout.y_label = None;
    let caption = Caption {
        name: "outcomes",
        title: format!(
            "Outcomes of {} datagrams: {} answered ({})",
            units::whole(sent),
            units::whole(answered),
            share(answered)
        ),
        description: describe(outcomes),
    };
    Some(Svg::draw(caption, &[], vec![bars.into()], layout))
}

fn describe(outcomes: &[OutcomeCount]) -> String {
    let parts = outcomes
        .iter()
        .map(|outcome| format!("{} {}", outcome.name, units::whole(outcome.count)));
    let parts: Vec<_> = parts.collect();
    format!("{}.", parts.join(", "))
}
